"""What the audits see, and what they never let pass (``benchmarks.audit_scale``: what they cost).

    python -m benchmarks.audit [--json] [--busbra FOLDER]

Patients are BUS-BRA's where it is found (``../shared/data/busbra`` or ``--busbra``), else phantoms; ``patients`` says
which. One thread, about three minutes. Prints one JSON object as the last line of stdout:

- ``recall``: planted copies found at one false flag per 1000 unrelated synthetic images, by edit, against half of the
  patients (right patient only), and ``mean_recall`` (bar .90); ``recall_calibrated``: the same at the threshold that
  the auditor calibrates on phantoms alone; ``false_flag_rate``: unrelated images flagged at that threshold, and
  ``false_patient_rate``: patients flagged by all unrelated images (declared: at most .003).
- ``planted``: verdicts of the gate by share of copied patients, 150 trained and 64 held-out patients, epsilon .5,
  500 draws of the noise.
- ``overfitted``: a denoiser that memorised its 100 patients (posterior mean over them, in closed form): patient AUC of
  the loss attack without noise, and verdicts at epsilon .5 against 100 held-out patients; ``clean_model`` the same for
  one of other images.
- ``plans``: how often a clean release passes copies and loss attack together, by nominal cohort and policy.
- ``search_seconds``: processor seconds of the exact search by ``synthetic x patients``, and ``search_over_faiss``, null
  where faiss is not installed; both from ``benchmarks.audit_scale``, which has more.
- ``gate``: exact chances of the copy test, and the largest difference from 20,000 simulated audits.
"""

import argparse
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import audit_scale
from benchmarks._parts import print_figures
from benchmarks.audit_controls import Memoriser
from sonoshare_privacy.audits import copies, gate, membership
from sonoshare_privacy.audits.copytest import CopyTest
from sonoshare_privacy.audits.correlation import (
    best_correlations,
)
from sonoshare_privacy.audits.edits import EDITS
from sonoshare_privacy.audits.gate import Cohort
from sonoshare_privacy.audits.reference import reference_images
from sonoshare_privacy.mechanisms.histograms import PublicBins, draw_split
from sonoshare_shared.protocol.documents import AuditPlan
from sonoshare_shared.science.evaluation.auc import auc_of_groups
from sonoshare_shared.science.imaging import to_grid
from sonoshare_shared.science.labels import read_labels
from sonoshare_shared.science.phantom import simulate
from sonoshare_shared.science.pictures.reading import read_file

BUSBRA = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "busbra"
TWINS = {"56", "91", "44", "65"}  # two people, each under two identifiers in BUS-BRA
SOURCES, UNRELATED_PER_EDIT, DRAWS = 80, 100, 500
PLAN = AuditPlan(
    held_out_fraction=0.3, epsilon_copies=0.5, epsilon_membership=0.5, tolerated_share=0.1, tolerated_auc=0.7
)
# nominal trained patients, epsilon of both audits, tolerated share and AUC, alpha
POLICIES = (
    (40, 2.0, 0.3, 0.9, 0.05),
    (60, 2.0, 0.25, 0.85, 0.05),
    (60, 2.0, 0.25, 0.85, 0.01),
    (60, 4.0, 0.25, 0.85, 0.01),
    (100, 2.0, 0.2, 0.8, 0.01),
    (150, 1.0, 0.1, 0.7, 0.05),
    (150, 2.0, 0.1, 0.75, 0.01),
    (300, 1.0, 0.1, 0.7, 0.05),
    (500, 0.5, 0.1, 0.65, 0.05),
)
Images = NDArray[np.float32]


def load_patients(folder: Path) -> tuple[str, list[Images]]:
    """Images of each patient at 128 px: BUS-BRA, or phantoms where it is absent."""
    if not (folder / "bus_data.csv").is_file():
        images = simulate(1000, seed=3, size=128).images
        return "phantoms", [images[i : i + 1 + i % 2] for i in range(0, 998, 2)]
    groups: dict[str, list[Images]] = {}
    for row in read_labels(folder):
        if row.patient not in TWINS:
            groups.setdefault(row.patient, []).append(to_grid(read_file(row.image).pixels, 128))
    patients = [np.stack(images) for images in groups.values()]
    order = np.random.default_rng(0).permutation(len(patients))
    return "BUS-BRA", [patients[i] for i in order]


def halved(images: Images) -> Images:
    """128 px to 64 px, area-averaged."""
    return np.asarray(images.reshape(-1, 64, 2, 64, 2).mean(axis=(2, 4)), dtype=np.float32)


def measure_recall(patients: list[Images]) -> dict[str, Any]:
    """Recall at one false flag per 1000 images, and at the threshold calibrated on phantoms."""
    rng = np.random.default_rng(1)
    half = len(patients) // 2
    gallery = np.concatenate(patients[:half])
    owner = np.repeat(np.arange(half), [len(one) for one in patients[:half]])
    others = np.concatenate(patients[half:])
    sources = rng.choice(len(gallery), SOURCES, replace=False)
    planted, unrelated = [], [others]
    for edit in EDITS:
        blended = others[rng.integers(len(others), size=SOURCES + UNRELATED_PER_EDIT)]
        planted.append(np.stack([edit.apply(gallery[s], blended[i], rng) for i, s in enumerate(sources)]))
        chosen = rng.choice(len(others), UNRELATED_PER_EDIT, replace=False)
        pairs = zip(others[chosen], blended[SOURCES:], strict=True)
        unrelated.append(np.stack([edit.apply(image, other, rng) for image, other in pairs]))
    queries = halved(np.concatenate([*planted, *unrelated]))
    scores = best_correlations(queries, halved(gallery))
    top, whose = scores.max(axis=1), owner[scores.argmax(axis=1)]
    marks = SOURCES * len(EDITS)
    right = whose[:marks] == np.tile(owner[sources], len(EDITS))
    at_one_in_1000 = float(np.quantile(top[marks:], 1 - 1e-3, method="higher"))
    candidates = halved(others)
    calibrated = copies.calibrate(candidates, reference_images(64)).threshold
    plain = scores[marks : marks + len(others)]
    by_patient = [plain[:, owner == patient].max() >= calibrated for patient in range(half)]

    def table(threshold: float) -> dict[str, float]:
        found = ((top[:marks] > threshold) & right).reshape(len(EDITS), SOURCES).mean(axis=1)
        return {edit.name: round(float(share), 3) for edit, share in zip(EDITS, found, strict=True)}

    recall = table(at_one_in_1000)
    return {
        "recall": recall,
        "mean_recall": round(float(np.mean(list(recall.values()))), 4),
        "threshold": round(at_one_in_1000, 3),
        "recall_calibrated": table(calibrated),
        "threshold_calibrated": round(calibrated, 3),
        "unrelated_images": len(top) - marks,
        "false_flag_rate": float((top[marks:] >= calibrated).mean()),
        "false_patient_rate": float(np.mean(by_patient)),
    }


def measure_planted(patients: list[Images]) -> dict[str, Any]:
    """Verdicts of the gate by share of copied patients; edits in turns, blind spots left out."""
    trained, held_out = ([halved(one) for one in patients[a:b]] for a, b in ((0, 150), (150, 214)))
    clean = halved(np.concatenate(patients[214:]))[:300]
    cohort, rng = Cohort(150, 64), np.random.default_rng(2)
    kinds = [edit for edit in EDITS if not edit.blind_spot]
    verdicts = {}
    for share in (0.0, 0.01, 0.05, 0.1, 0.2, 0.37):
        copied = round(share * len(trained))
        candidates = clean.copy()
        for place in range(copied):
            edit = kinds[place % len(kinds)]
            candidates[place] = edit.apply(trained[place][0], clean[-1], rng)
        detector = copies.calibrate(candidates, reference_images(64))
        scores = [copies.patient_nearest(candidates, group).scores for group in (trained, held_out)]
        test = gate.copy_test(PLAN, cohort, detector.rates)
        tolerated = gate.tolerated_patients(PLAN, cohort)
        counted: Counter[str] = Counter()
        for _ in range(DRAWS):
            split = draw_split(scores[0], scores[1], detector.bins, PLAN.epsilon_copies)
            counted[gate.judge_copies(test, tolerated, split, cohort.held_out).verdict] += 1
        verdicts[f"{share:.0%}"] = dict(counted)
    return {"planted": verdicts}


def measure_models() -> dict[str, Any]:
    """The loss attack on a model that memorised its patients, and on one of other images."""
    images = simulate(232, seed=9, size=32).images
    groups = [image[None] for image in images]
    trained, held_out, public = groups[:100], groups[100:200], groups[200:]
    models = {
        "overfitted": Memoriser(np.concatenate(trained)),
        "clean_model": Memoriser(simulate(100, seed=77, size=32).images, blur=0.2),
    }
    result = {}
    for name, model in models.items():
        of_trained, of_held_out, of_public = (
            membership.loss_scores(group, model.losses, 32) for group in (trained, held_out, public)
        )
        counted: Counter[str] = Counter()
        for _ in range(DRAWS):
            bins = membership.rough_bins(of_public)
            drawn = membership.draw_attack(of_trained, of_held_out, bins, PLAN.epsilon_membership)
            counted[gate.judge_auc(name, drawn.split, PLAN, Cohort(100, 100))[0].verdict] += 1
        result[name] = {"auc": round(auc_of_groups(of_trained, of_held_out), 3), "verdicts": dict(counted)}
    return result


def measure_gate() -> dict[str, Any]:
    """Exact operating characteristics, and simulation beside them."""
    rng, rows, worst = np.random.default_rng(4), [], 0.0
    for patients in (50, 150, 500):
        for epsilon in (0.25, 0.5, 1.0):
            test = CopyTest(patients, 0.5 / patients, 0.75, epsilon, 0.05)
            for share in (0.05, 0.1, 0.2):
                tolerated = int(np.ceil(share * patients))
                none, leak = test.operating_point(0, tolerated), test.operating_point(tolerated, tolerated)
                for point in (none, leak):
                    a = np.exp(-epsilon)
                    noise = rng.geometric(1 - a, 20_000) - rng.geometric(1 - a, 20_000)
                    honest = rng.binomial(patients - point.copied, test.false_rate, 20_000)
                    counts = honest + rng.binomial(point.copied, test.recall, 20_000) + noise
                    values, times = np.unique(counts, return_counts=True)
                    passed = [test.passes(int(value), tolerated) for value in values]
                    worst = max(worst, abs(times[passed].sum() / 20_000 - point.passes))
                rows.append(
                    {
                        "patients": patients,
                        "epsilon": epsilon,
                        "tolerated": tolerated,
                        "smallest_detectable": test.smallest_detectable(),
                        "pass_without_leak": round(none.passes, 3),
                        "fail_without_leak": round(none.fails, 3),
                        "pass_at_tolerated": round(leak.passes, 4),
                    }
                )
    return {"gate": {"table": rows, "simulation_differs_by": round(float(worst), 4)}}


def measure_plans() -> dict[str, Any]:
    """How often a clean release passes the whole gate (copies and loss), by nominal cohort and policy."""
    rng, rows = np.random.default_rng(6), []
    for trained, epsilon, share, auc, alpha in POLICIES:
        plan = AuditPlan(
            held_out_fraction=0.25,
            epsilon_copies=epsilon / 2,
            epsilon_membership=epsilon / 2,
            tolerated_share=share,
            tolerated_auc=auc,
            alpha=alpha,
        )
        cohort, rates = Cohort.nominal(trained, 0.25), gate.DetectorRates(copies.MAX_RECALL, copies.FALSE_RATE)
        fine = membership.fine_epsilon(plan.epsilon_membership)
        test, tolerated = gate.copy_test(plan, cohort, rates), gate.tolerated_patients(plan, cohort)
        counted: Counter[str] = Counter()
        for _ in range(DRAWS):
            groups = [rng.standard_normal(count) for count in (trained, cohort.held_out)]
            split = draw_split(groups[0], groups[1], PublicBins((-0.7, 0.0, 0.7, 9.0)), plan.epsilon_copies)
            reference = membership.rough_bins(rng.standard_normal(32))
            drawn = membership.draw_attack(groups[0], groups[1], reference, plan.epsilon_membership)
            of_copies = gate.judge_copies(test, tolerated, split, cohort.held_out)
            of_loss, _ = gate.judge_auc("loss", drawn.split, plan, cohort)
            counted[gate.combine([of_copies, of_loss]).verdict] += 1
        rows.append(
            {
                "trained": trained,
                "epsilon": epsilon,
                "tolerated_share": share,
                "tolerated_auc": auc,
                "alpha": alpha,
                "could_see": gate.foresee(plan, cohort, rates, membership_epsilon=fine) is None,
                **{verdict: counted[verdict] / DRAWS for verdict in ("PASS", "FAIL", "INCONCLUSIVE")},
            }
        )
    return {"plans": rows}


def measure_search() -> dict[str, Any]:
    """The cost of the exact search, under the names of the command line's contract."""
    search = audit_scale.measure_search()["search"]
    size = f"{audit_scale.MEMBERS} x {audit_scale.QUERIES}"
    return {
        "search_seconds": {size: search["cpu_seconds"]["search"]},
        "search_over_faiss": search["search_over_faiss"],
    }


def main() -> None:
    """Run everything and print the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="only the JSON line")
    parser.add_argument("--busbra", type=Path, default=BUSBRA)
    options = parser.parse_args()
    torch.set_num_threads(1)
    source, patients = load_patients(options.busbra)
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "recall": partial(measure_recall, patients),
        "planted": partial(measure_planted, patients),
        "models": measure_models,
        "gate": measure_gate,
        "plans": measure_plans,
        "search": measure_search,
    }
    print_figures(parts, {"patients": source}, quiet=options.json)


if __name__ == "__main__":
    main()
