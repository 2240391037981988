"""What masked sums cost, and what the other ways to survive a lost hospital would cost.

    python -m benchmarks.masking [--megabytes 50] [--json]

An adapter of so many MB (float32), every hospital masking for a set of 3, 10 and 30; one thread, CPU seconds. Prints
one JSON object as the last line. By size of the set:

- ``hospital_cpu_s``: encode the update, agree on a key with every other hospital, mask; ``server_cpu_s``: take one
  hospital's words in and add them, times the set, and read the sum;
- ``wire_ratio``: what a hospital sends for its update, over the adapter (bar 2.2); ``set_kb``: the signed keys of the
  set that each hospital is sent beside the log;
- ``shamir_*``: the same with double masks and secret shares (Bonawitz et al. 2017): one mask more and two shared
  secrets at every hospital; at the server one mask of every survivor to take off in *every* round, and those of one
  lost hospital with all others. Shares alone in kB a hospital; ``exchanges`` in a round that loses nobody (theirs with
  the check of who is alive that an active server makes necessary);
- ``retrain_cpu_s``, ``retrain_epsilon``: one round of the tiny model at one hospital (8 steps of a quarter of 100
  patients), and what a study of 3 rounds costs its patients with one round charged twice, over without.
"""

import argparse
import json
import os
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from benchmarks._phantom_patients import phantom_patients
from sonoshare_client.agent.draws import PatientDraws, loss_of, probe
from sonoshare_privacy import Budget, Budgets, Ledger, PatientDP
from sonoshare_privacy.accounting import epsilon, noise_multiplier_for
from sonoshare_privacy.masking.agreement import EphemeralKey, Sum
from sonoshare_privacy.masking.layout import Layout
from sonoshare_privacy.masking.pair_masks import RunningSum, from_bytes, masked, to_bytes
from sonoshare_privacy.optimiser import Optimiser
from sonoshare_server.consortium.studies import phantom_clip_norm
from sonoshare_shared.protocol.documents.charge import SampledGaussian
from sonoshare_shared.protocol.documents.masking import READY_PAYLOAD_TYPE, MaskReady
from sonoshare_shared.protocol.documents.plan import Mechanism
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.science.model.adapter import trained_parameters
from sonoshare_shared.science.model.base import load_base

SETS: Final = (3, 10, 30)
STEPS: Final = 8
REPEATS: Final = 3
PRIME: Final = 2**256 + 297  # the first prime above every 32-byte secret
SHARE_BYTES: Final = 33
PATIENTS, ROUNDS, RATE, DRAWS, EPSILON, DELTA = 100, 3, 0.25, 2, 6.0, 1e-3
DIGEST: Final = "0" * 64


def cpu(run: Callable[[], object], repeats: int = 1) -> float:
    """CPU seconds of a call, the median of some."""
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def of_set(count: int, adapter: dict[str, NDArray[np.float32]]) -> dict[str, Any]:
    """Our way, with a set of so many hospitals."""
    layout, what = Layout.of(adapter, Optimiser(), STEPS), Sum("study", DIGEST, 1, DIGEST)
    names = [f"hospital-{i:02}" for i in range(count)]
    keys = {name: EphemeralKey.generate() for name in names}
    own, sent = names[count // 2], dict[str, bytes]()
    update = {name: np.full(tensor.shape, 1e-3, np.float32) for name, tensor in adapter.items()}

    def hospital() -> None:
        words = layout.encoded(update, [0.1] * STEPS, 100)
        pairs = {o: keys[own].shared_with(keys[o].public_hex, own, o, what) for o in names if o != own}
        sent["words"] = to_bytes(masked(words, own, pairs))

    plain = to_bytes(layout.encoded(update, [0.1] * STEPS, 100))  # a sum that cancels, whichever the set

    def server() -> None:
        running = RunningSum()
        for _ in names:
            running.add(from_bytes(plain, layout.words))
        layout.decoded(running.total, 100 * count)

    at_hospital, at_server = cpu(hospital, REPEATS), cpu(server, REPEATS)
    size = sum(tensor.nbytes for tensor in adapter.values())
    return {
        "hospital_cpu_s": round(at_hospital, 3),
        "server_cpu_s": round(at_server, 3),
        "wire_ratio": round(len(sent["words"]) / size, 3),
        "set_kb": round(count * ready_bytes() / 1000, 1),
        **with_shares(count, layout.words, at_hospital),
    }


def ready_bytes() -> int:
    """Size of what a hospital signs when it is ready."""
    ready = MaskReady(
        hospital="hospital-00",
        study="study",
        plan=DIGEST,
        round=1,
        adapter_digest=DIGEST,
        key=DIGEST,
        layout=DIGEST,
        ledger_head=DIGEST,
        log_size=1000,
    )
    return len(Envelope.sign(READY_PAYLOAD_TYPE, ready.canonical(), SigningKey.generate()).to_bytes())


def with_shares(count: int, words: int, ours: float) -> dict[str, Any]:
    """The same with double masks and Shamir shares of both secrets, two thirds of which open them."""
    threshold = -(-2 * count // 3)
    zeros, shares = np.zeros(words, np.uint64), list[list[tuple[int, int]]]()

    def hospital() -> None:
        shares.extend(shared(secrets.token_bytes(32), count, threshold) for _ in range(2))
        for other in range(count - 1):
            both = b"".join(share[other][1].to_bytes(SHARE_BYTES, "big") for share in shares)
            AESGCM(secrets.token_bytes(32)).encrypt(os.urandom(12), both, None)

    sharing = cpu(hospital)
    one = cpu(lambda: masked(zeros, "a", {"b": secrets.token_bytes(32)}), REPEATS)
    opening = cpu(lambda: opened(shares[0][:threshold]))
    return {
        "shamir_hospital_cpu_s": round(ours + one + sharing, 3),
        "shamir_server_cpu_s_no_loss": round(count * (one + opening), 3),
        "shamir_server_cpu_s_one_lost": round((count - 1) * (one + opening) + opening + (count - 1) * one, 3),
        "shamir_share_kb": round((count - 1) * (2 * SHARE_BYTES + 12 + 16) / 1000, 2),
    }


def shared(secret: bytes, count: int, threshold: int) -> list[tuple[int, int]]:
    """Shamir shares of a secret."""
    terms = [int.from_bytes(secret, "big"), *(secrets.randbelow(PRIME) for _ in range(threshold - 1))]
    points = []
    for x in range(1, count + 1):
        y = 0
        for term in reversed(terms):
            y = (y * x + term) % PRIME
        points.append((x, y))
    return points


def opened(points: list[tuple[int, int]]) -> int:
    """The secret of enough shares (Lagrange at zero)."""
    secret = 0
    for i, (x, y) in enumerate(points):
        top = bottom = 1
        for j, (other, _) in enumerate(points):
            if i != j:
                top, bottom = top * -other % PRIME, bottom * (x - other) % PRIME
        secret += y * top * pow(bottom, -1, PRIME)
    return secret % PRIME


def retraining() -> dict[str, float]:
    """One round once more: what it computes at one hospital, and what it costs every patient."""
    sigma = noise_multiplier_for(EPSILON, DELTA, RATE, ROUNDS * STEPS)
    once, twice = (epsilon([SampledGaussian(RATE, sigma, n * STEPS)], DELTA) for n in (ROUNDS, ROUNDS + 1))
    model, _ = load_base("tiny")
    mechanism = Mechanism(
        rate=RATE,
        noise_multiplier=sigma,
        clip_norm=phantom_clip_norm(model, "affine", DRAWS),
        draws=DRAWS,
        delta=DELTA,
    )
    budgets = Budgets(study=Budget(1e3, DELTA), lifetime=Budget(1e3, DELTA))
    drawing = PatientDraws(phantom_patients(PATIENTS, seed=41, size=32), DRAWS, torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(
            Path(folder) / "ledger.db",
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
            study="retraining",
            probe=probe(model, DRAWS),
        )
        spent = cpu(
            lambda: dp.train(
                patients=PATIENTS, draw=drawing.draw, loss=loss_of(model), steps=STEPS, purpose="round", canaries=None
            )
        )
        ledger.close()
    return {
        "retrain_cpu_s": round(spent, 2),
        "retrain_epsilon": round(twice - once, 3),
        "study_epsilon": round(once, 3),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--json", action="store_true", help="the result is JSON in any case")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(1)
    adapter = {f"layer-{i}": rng.normal(size=options.megabytes * 25_000).astype(np.float32) for i in range(10)}
    of_set(2, adapter)  # a process's first use of memory and of the library is not what is measured
    by_set = {str(count): of_set(count, adapter) for count in SETS}
    result = {"megabytes": options.megabytes, "sets": by_set, "exchanges": 2, "shamir_exchanges": 5, **retraining()}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
