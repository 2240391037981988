"""Checkpoints and base files as parts: whole or refused, the newest whole set wins, and a killed run goes on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.shared.killed import full_disk_after, killed_at

from sonoshare_shared.errors import InputError, IntegrityError, ModelError, NewerVersionError
from sonoshare_shared.protocol.canonical import sha256_file
from sonoshare_shared.science.model.base import IMPORTED, base_path, import_base
from sonoshare_shared.science.model.base_batches import TrainingSet
from sonoshare_shared.science.model.base_checkpoint import KEPT, Checkpoint, newest_checkpoint, save_checkpoint
from sonoshare_shared.science.model.base_run import BaseTraining, Start
from sonoshare_shared.science.model.base_travel import export_base, whole_base
from sonoshare_shared.science.model.phantom_cache import simulate_set
from sonoshare_shared.science.model.profiles import Profile
from sonoshare_shared.science.model.recipe import FLAT, TrainSettings
from sonoshare_shared.science.model.tensors import read_tensors
from sonoshare_shared.science.model.weight_parts import INDEX, read_index

MINUTE = Profile("minute", size=16, patch=4, channels=(16, 16), attention=(False, True), head_channels=16)
SETTINGS = TrainSettings(batch_size=2, warm_up=2, course=FLAT, length=10)
SMALL_PART = 4000


def run_of(settings: TrainSettings = SETTINGS, start: Start | None = None) -> BaseTraining:
    return BaseTraining(MINUTE, settings, TrainingSet(simulate_set(4, seed=0, size=16)), start=start)


def advanced(run: BaseTraining, steps: int) -> BaseTraining:
    for _ in range(steps):
        run.advance()
    return run


def same(a: Checkpoint, b: Checkpoint) -> bool:
    return a.tensors.keys() == b.tensors.keys() and all(
        torch.equal(t, b.tensors[name]) for name, t in a.tensors.items()
    )


def small(value: float) -> Checkpoint:
    return Checkpoint({"x": torch.full((3000,), value)}, {"step": int(value)})


def test_a_checkpoint_is_in_parts_and_the_run_goes_on_exactly(tmp_path: Path) -> None:
    whole = advanced(run_of(), 6).checkpoint()
    save_checkpoint(tmp_path, 3, advanced(run_of(), 3).checkpoint(), SMALL_PART)
    files = list((tmp_path / "step-000000003").iterdir())
    assert len(files) > 10
    assert all(path.stat().st_size <= SMALL_PART for path in files if path.name != INDEX)
    later = advanced(run_of(), 5).checkpoint()
    assert killed_at(7, lambda: save_checkpoint(tmp_path, 5, later, SMALL_PART), tmp_path)
    run = run_of()
    run.restore(newest_checkpoint(tmp_path))
    assert run.step == 3, "a process was killed while it wrote the set of step 5"
    assert same(advanced(run, 3).checkpoint(), whole)
    assert list(run.devices.values()) == [6]


def test_killed_at_any_moment_the_newest_whole_set_is_there_and_nothing_else(tmp_path: Path) -> None:
    seen, step, killed = set(), 0, True
    while killed:
        folder = tmp_path / str(step)
        save_checkpoint(folder, 1, small(1), SMALL_PART)
        save_checkpoint(folder, 2, small(2), SMALL_PART)
        killed = killed_at(step, lambda folder=folder: save_checkpoint(folder, 3, small(3), SMALL_PART), folder)  # type: ignore[misc]
        found = newest_checkpoint(folder).run["step"]
        assert found in {2, 3}
        seen.add(found)
        save_checkpoint(folder, 4, small(4), SMALL_PART)
        assert newest_checkpoint(folder).run["step"] == 4
        assert len(list(folder.iterdir())) == KEPT, "what a killed process left is removed"
        step += 1 if step < 6 else 4
    assert seen == {2, 3}


def test_a_full_disk_leaves_the_set_before(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, small(1), SMALL_PART)
    with full_disk_after(1) as struck, pytest.raises(OSError, match="No space"):
        save_checkpoint(tmp_path, 2, small(2), SMALL_PART)
    assert struck
    assert newest_checkpoint(tmp_path).run["step"] == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_a_damaged_set_gives_way_to_the_one_before_and_is_written_again(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    for step in (1, 2):
        save_checkpoint(tmp_path, step, small(step), SMALL_PART)
    (tmp_path / "step-000000002" / "checkpoint.safetensors.001").unlink()
    assert newest_checkpoint(tmp_path).run["step"] == 1
    save_checkpoint(tmp_path, 2, small(2), SMALL_PART)
    assert newest_checkpoint(tmp_path).run["step"] == 2
    for step in (1, 2):
        part = tmp_path / f"step-{step:09d}" / "checkpoint.safetensors.000"
        part.write_bytes(b"x" + part.read_bytes()[1:])
    with pytest.raises(ModelError, match="no set of parts"):
        newest_checkpoint(tmp_path)


def test_a_checkpoint_of_other_settings_or_weights_is_refused_and_a_new_length_is_taken() -> None:
    checkpoint = advanced(run_of(), 2).checkpoint()
    longer = run_of(replace(SETTINGS, length=20))
    longer.restore(checkpoint)
    assert longer.step == 2
    start = Start({name: p.detach().clone() for name, p in run_of().model.state_dict().items()}, "0" * 64)
    for other in (run_of(replace(SETTINGS, learning_rate=1.0)), run_of(start=start)):
        with pytest.raises(ModelError, match="another run"):
            other.restore(checkpoint)
    late = advanced(run_of(), 7).checkpoint()
    with pytest.raises(ModelError, match="begun to fall"):
        run_of(replace(SETTINGS, length=20)).restore(late)


def test_a_run_begins_with_the_weights_it_is_given() -> None:
    state = {name: tensor + 1 for name, tensor in run_of().model.state_dict().items()}
    begun = run_of(start=Start(state, "0" * 64))
    assert all(torch.equal(tensor, state[name]) for name, tensor in begun.model.state_dict().items())
    with pytest.raises(ModelError, match="missing"):
        run_of(start=Start({}, "0" * 64))


def exported(folder: Path) -> Path:
    export_base(base_path("tiny"), "tiny", folder, most=1 << 19)
    return folder


def test_a_base_travels_as_parts_and_arrives_with_its_digest(tmp_path: Path) -> None:
    folder = exported(tmp_path / "parts")
    index = read_index(folder)
    names = {part.name for part in index.parts}
    assert len(names) == 3
    assert {path.name for path in folder.iterdir()} == names | {INDEX, "base-tiny.card.md"}
    assert index.sha256 in (folder / "base-tiny.card.md").read_text()
    for source in (folder, folder / INDEX, base_path("tiny")):
        with whole_base(source) as path:
            assert import_base(path, "tiny", tmp_path / IMPORTED) == sha256_file(base_path("tiny"))
            assert read_tensors(path).keys() == read_tensors(base_path("tiny")).keys()
    with pytest.raises(InputError, match="already exists"):
        exported(folder)
    with pytest.raises(ModelError, match="another architecture"):
        export_base(base_path("small"), "tiny", tmp_path / "other")
    assert not (tmp_path / "other").exists()


PART = "base-tiny.safetensors.001"


def change(name: str, *pairs: tuple[bytes, bytes]) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        data = (folder / name).read_bytes()
        for old, new in pairs:
            assert old in data
            data = data.replace(old, new, 1)
        (folder / name).write_bytes(data)

    return act


def swap(folder: Path) -> None:
    one, other = folder / PART, folder / "base-tiny.safetensors.000"
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)


@pytest.mark.parametrize(
    ("breaks", "error"),
    [
        (lambda folder: (folder / PART).unlink(), InputError),
        (lambda folder: (folder / INDEX).unlink(), InputError),
        (lambda folder: (folder / PART).write_bytes(b"x" * (1 << 19)), IntegrityError),
        (lambda folder: (folder / PART).write_bytes((folder / PART).read_bytes() + b"x"), IntegrityError),
        (swap, IntegrityError),
        (change(INDEX, (b'"name":"base-tiny.safetensors.001"', b'"name":"../base-tiny.safetensors"')), IntegrityError),
        (change(INDEX, (b'"size":524288', b'"size":16777217')), IntegrityError),
        (change(INDEX, (b'"size":1479896', b'"size":1479895')), IntegrityError),
        (change(INDEX, (sha256_file(base_path("tiny")).encode(), b"0" * 64)), IntegrityError),
        (change(INDEX, (b"parts/v1", b"parts/v2")), NewerVersionError),
    ],
)
def test_parts_that_are_not_what_their_index_lists_are_refused(
    tmp_path: Path, breaks: Callable[[Path], object], error: type[Exception]
) -> None:
    folder = exported(tmp_path / "parts")
    breaks(folder)
    with pytest.raises(error), whole_base(folder):
        pass
