"""Canaries in the training of the very model: are there false alarms where patients' gradients are uneven?

    python -m benchmarks.canaries_model [--runs 100] [--faulty 5] [--json]

The tiny base model's adapter (9,680 numbers), 100 phantom patients, three rounds of eight steps at rate 0.25 as in the
demonstration, noise for epsilon 6, as many canaries as a drafted study has; directions and coins are kept over the
rounds. Sound runs, and runs with each of seven faults planted in the mechanism. One JSON object as the last line:

- ``false_alarms``: sound runs that the mechanism check did not pass (bar 0 of 100);
- ``caught``: by fault, runs of ``faulty`` that it failed; ``largest_lower_bound`` and ``claim`` of the sound runs.
"""

import argparse
import json
import secrets
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch

from benchmarks._phantom_patients import phantom_patients
from benchmarks.canaries import FAULTS, SOUND, planted
from sonoshare_client.agent.draws import PatientDraws, loss_of, probe
from sonoshare_client.vault.cohort import PatientArrays
from sonoshare_privacy import Budget, Budgets, Canaries, Ledger, PatientDP
from sonoshare_privacy.accounting import noise_multiplier_for
from sonoshare_privacy.audits.mechanism import MechanismCheck, check_mechanism
from sonoshare_privacy.canaries import SECRET_BYTES, CanaryRecord, advisable_count, joined
from sonoshare_server.consortium.studies import phantom_clip_norm
from sonoshare_shared.protocol.documents.plan import Mechanism
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.science.model.adapter import trained_parameters
from sonoshare_shared.science.model.base import load_base

PATIENTS, ROUNDS, LOCAL_STEPS, RATE, DRAWS, EPSILON, DELTA = 100, 3, 8, 0.25, 2, 6.0, 1e-3


def train(patients: Sequence[PatientArrays], mechanism: Mechanism, count: int, folder: Path) -> MechanismCheck:
    """One study of several rounds and what its canaries say."""
    model, _ = load_base("tiny")
    budgets = Budgets(study=Budget(1e3, DELTA), lifetime=Budget(1e3, DELTA))
    ledger = Ledger(
        folder / f"{secrets.token_hex(8)}.db",
        key=SigningKey.generate(),
        hospital="alpha",
        clock=lambda: datetime.now(UTC),
        budgets=lambda: budgets,
    )
    dp = PatientDP(
        model=model,
        parameters=trained_parameters(model, "affine"),
        mechanism=mechanism,
        divisor=RATE * PATIENTS,
        ledger=ledger,
        study="canaries",
        probe=probe(model, DRAWS),
    )
    canaries = Canaries(count=count, secret=secrets.token_bytes(SECRET_BYTES))
    drawing, records = PatientDraws(patients, DRAWS, torch.device("cpu")), list[CanaryRecord]()
    for number in range(ROUNDS):
        outcome = dp.train(
            patients=PATIENTS,
            draw=drawing.draw,
            loss=loss_of(model),
            steps=LOCAL_STEPS,
            purpose=f"round {number}",
            canaries=canaries,
        )
        records += [] if outcome.canaries is None else [outcome.canaries]
    ledger.close()
    return check_mechanism(joined(records), planned=count, steps=ROUNDS * LOCAL_STEPS)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100, help="sound runs")
    parser.add_argument("--faulty", type=int, default=5, help="runs of each fault")
    parser.add_argument("--json", action="store_true", help="the result is JSON in any case")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, _ = load_base("tiny")
    mechanism = Mechanism(
        rate=RATE,
        noise_multiplier=noise_multiplier_for(EPSILON, DELTA, RATE, ROUNDS * LOCAL_STEPS),
        clip_norm=phantom_clip_norm(model, "affine", DRAWS),
        draws=DRAWS,
        delta=DELTA,
    )
    count = advisable_count(
        sum(p.numel() for p in trained_parameters(model, "affine").values()), mechanism, ROUNDS * LOCAL_STEPS
    )
    patients = phantom_patients(PATIENTS, seed=41, size=32)
    verdicts, proved, claimed = dict[str, list[str]](), list[float](), 0.0
    with tempfile.TemporaryDirectory() as folder:
        for fault in (SOUND, *FAULTS):
            verdicts[fault] = []
            for _ in range(options.runs if fault == SOUND else options.faulty):
                with planted(fault):
                    check = train(patients, mechanism, count, Path(folder))
                verdicts[fault].append("INCONCLUSIVE" if check.finding is None else check.finding.verdict)
                print(fault, len(verdicts[fault]), verdicts[fault][-1], file=sys.stderr, flush=True)
                figures = check.figures
                if fault == SOUND and figures.epsilon_proved is not None and figures.epsilon_claimed is not None:
                    proved.append(figures.epsilon_proved)
                    claimed = figures.epsilon_claimed
    sound = verdicts.pop(SOUND)
    result = {
        "runs": options.runs,
        "faulty": options.faulty,
        "canaries": count,
        "noise_multiplier": mechanism.noise_multiplier,
        "false_alarms": len(sound) - sound.count("PASS"),
        "caught": {fault: values.count("FAIL") for fault, values in verdicts.items()},
        "largest_lower_bound": max(proved),
        "claim": claimed,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
