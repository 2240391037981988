"""What a privacy report works out of signed figures: right, covering, and never in the way of a verification."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.shared.audited_figures import full_figures
from tests.shared.consortium import NOW, Consortium
from tests.shared.sealed_release import cause_of, check, replace_file

from sonoshare_privacy.mechanisms import geometric
from sonoshare_shared.protocol.documents.derived import DerivedFigures
from sonoshare_shared.protocol.documents.figures import AuditFigures, Histograms
from sonoshare_shared.protocol.documents.statement import AuditPredicate
from sonoshare_shared.protocol.release import derived, layout


@pytest.mark.parametrize("epsilon", [0.25, 1.0])
@pytest.mark.parametrize("patients", [60, 150])
@pytest.mark.parametrize("part", [0.003, 0.05, 0.3, 0.5])
def test_the_interval_of_a_share_holds_the_true_one(epsilon: float, patients: int, part: float) -> None:
    rng = np.random.default_rng(round(1000 * part) + patients)
    chances, trials = (0.4 * (1 - part), 0.4 * (1 - part), 0.2 * (1 - part), part), 600
    counts = rng.multinomial(patients, chances, size=trials)
    ratio = np.exp(-epsilon)
    noise = rng.geometric(1 - ratio, size=counts.shape) - rng.geometric(1 - ratio, size=counts.shape)
    kept = 0
    for row in counts + noise:
        estimate, (low, high) = derived.share([int(count) for count in row], slice(3, None), epsilon)
        assert low <= estimate <= high
        kept += low <= part <= high
    assert kept / trials >= 0.94


def test_the_noise_is_that_of_the_mechanism() -> None:
    for epsilon in (0.1, 0.5, 2.0):
        assert derived._noise_variance(epsilon) == pytest.approx(geometric.variance(epsilon))


def test_the_worst_guess_is_what_the_promise_allows() -> None:
    assert derived.worst_case_guess(0.0, 0.0) == 0.5
    assert derived.worst_case_guess(np.log(3), 0.0) == pytest.approx(0.75)
    assert derived.worst_case_guess(0.0, 0.1) == pytest.approx(0.55)
    assert derived.worst_case_guess(5000.0, 0.0) == 1.0


def test_curves_run_from_the_strictest_border_to_the_most_lenient() -> None:
    loss, images = _derived(full_figures()).curves
    assert [point.above for point in loss.points] == [-0.6, -0.9, -1.2]
    assert [point.trained for point in loss.points] == pytest.approx([44 / 154, 85 / 154, 118 / 154], abs=1e-6)
    assert [point.held_out for point in loss.points] == pytest.approx([11 / 51, 23 / 51, 38 / 51], abs=1e-6)
    assert images.points[0].held_out == 0.0  # a count below nothing is none
    likeness = _derived(full_figures()).likeness
    assert [(one.low, one.high) for one in likeness][0::4] == [(None, 0.412), (0.661, None)]
    assert sum(one.trained for one in likeness) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("epsilon", [-1.0, 0.0, 1e-300, 1e-6, 700.0, 1e9])
@pytest.mark.parametrize("counts", [(), (0,), (10**400, -(10**400)), (-5, -7), (3, 0, 0), (2**40, -(2**40), 1)])
def test_whatever_a_statement_says_something_is_worked_out(epsilon: float, counts: tuple[int, ...]) -> None:
    said = Histograms(edges=(0.1, 0.2), trained=counts, held_out=(1, 2, 3, 4, 5), epsilon=epsilon)
    copies = full_figures().copies.model_copy(update={"histograms": said})
    found = _derived(full_figures().model_copy(update={"copies": copies}))
    assert all(0 <= low <= high <= 1 for one in found.likeness for low, high in [one.trained_interval])


def test_a_report_of_before_it_had_curves_verifies(tmp_path: Path) -> None:
    consortium, folder = _released(tmp_path)
    report = json.loads((folder / layout.PRIVACY_JSON).read_bytes())
    for hospital in report["hospitals"]:
        del hospital["derived"]
    replace_file(consortium, folder, layout.PRIVACY_JSON, json.dumps(report).encode())
    assert check(consortium, folder)


def test_last_bits_of_another_machine_verify(tmp_path: Path) -> None:
    consortium, folder = _released(tmp_path)
    report = json.loads((folder / layout.PRIVACY_JSON).read_bytes())
    report["hospitals"][0]["derived"]["curves"][0]["points"][0]["trained"] += 1e-6
    replace_file(consortium, folder, layout.PRIVACY_JSON, json.dumps(report).encode())
    assert check(consortium, folder)


FAULTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "a better point": lambda said: said["curves"][0]["points"][0].update(trained=0.01),
    "a narrower interval": lambda said: said["likeness"][4].update(trained_interval=[0.0, 0.001]),
    "a point left out": lambda said: said["curves"][0]["points"].pop(),
    "an attack left out": lambda said: said["curves"].pop(),
    "another name": lambda said: said["curves"][0].update(attack="harmless"),
    "a better promise": lambda said: said.update(worst_case_guess=0.51),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_report_whose_curves_do_not_follow_from_the_statements_is_refused(tmp_path: Path, name: str) -> None:
    consortium, folder = _released(tmp_path)
    report = json.loads((folder / layout.PRIVACY_JSON).read_bytes())
    FAULTS[name](report["hospitals"][1]["derived"])
    replace_file(consortium, folder, layout.PRIVACY_JSON, json.dumps(report).encode())
    assert cause_of(lambda: check(consortium, folder)) == "privacy"


class _Measuring(Consortium):
    """A consortium whose hospitals measure everything."""

    def statement(self, hospital: str, candidate: Any, /, **changes: Any) -> Any:
        return super().statement(hospital, candidate, **({"figures": full_figures()} | changes))


def _released(folder: Path) -> tuple[Consortium, Path]:
    consortium = _Measuring(folder)
    return consortium, consortium.release()


def _derived(figures: AuditFigures) -> DerivedFigures:
    predicate = AuditPredicate(
        hospital="north", study="lesions", verdict="PASS", figures=figures, reasons=(), smallest_detectable_leak=7,
        epsilon=1.0, policy_digest="0" * 64, ledger_head="0" * 64, spent_epsilon=6.5, spent_delta=1e-4, time=NOW,
    )  # fmt: skip
    return derived.derived_figures(predicate)
