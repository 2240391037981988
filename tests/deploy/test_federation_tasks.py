"""A question of another kind than the default's, under DP in a federation: charged, drawn, audited, published."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from safetensors.numpy import load
from tests.deploy.in_process import HOSPITALS, build, graded, pipeline

from sonoshare_server.federation import rounds
from sonoshare_server.release.pipeline import facts_for
from sonoshare_shared.protocol.release.verify import verify_release
from sonoshare_shared.science.tasks.files import read_task


def test_a_birads_study_of_four_classes_runs_to_a_verdict_and_a_release(
    archives: dict[str, Path], tmp_path: Path
) -> None:
    task = read_task("birads")
    world = build(tmp_path / "world", graded(archives, tmp_path / "graded"), rounds=1, task=task)
    before = load(world.study.adapter())["class_embedding.weight"]
    # Each class starts from its likeliest pathology: 2 to 4 from benign, 5 from malignant.
    assert np.array_equal(before[0], before[2])
    assert not np.array_equal(before[2], before[3])
    rounds.train(world.coordinator())
    after = load(world.study.adapter())["class_embedding.weight"]
    assert not np.array_equal(after[0], after[2])
    for node in world.nodes.values():
        (training,) = [s.charge for s in node.ledger.entries() if s.charge.kind == "reserved"]
        assert training.purpose == "training round 1"
        assert 0 < node.ledger.spent(study=world.study.plan.study).epsilon <= 30.0
    steps = pipeline(world)
    steps.draw(lambda done, total: None)
    said = steps.audit()
    assert {h: s.predicate.verdict for h, s in said.items()} == dict.fromkeys(HOSPITALS, "PASS")
    bundle = steps.finish(facts_for(world.home, world.study, datetime(2026, 1, 2, tzinfo=UTC)))
    manifest = verify_release(bundle, world.home.roster_envelope, now=datetime.now(UTC)).manifest
    assert manifest.task == "birads"
    assert manifest.counts == dict.fromkeys(task.classes, 4)
    for hospital in HOSPITALS:
        stated = next(b for b in manifest.privacy.hospitals if b.hospital == hospital)
        assert stated.epsilon >= world.nodes[hospital].ledger.spent(stated.delta, study="study").epsilon - 1e-9
