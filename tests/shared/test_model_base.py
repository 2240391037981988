"""Base weights: what ships, what is refused, and training that resumes exactly."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sonoshare_shared.errors import InputError, ModelError
from sonoshare_shared.protocol.canonical import sha256_file
from sonoshare_shared.science.device import CPU
from sonoshare_shared.science.model import phantom_cache
from sonoshare_shared.science.model.base import (
    IMPORTED,
    base_origin,
    base_path,
    import_base,
    imported_base,
    load_base,
    load_pinned_base,
)
from sonoshare_shared.science.model.base_batches import TrainingSet, training_batch
from sonoshare_shared.science.model.base_pictures import SIMULATED_SCANNER_SLOT
from sonoshare_shared.science.model.base_run import BaseTraining
from sonoshare_shared.science.model.conditions import Condition
from sonoshare_shared.science.model.loss import denoising_loss
from sonoshare_shared.science.model.network import ConditionedUNet
from sonoshare_shared.science.model.phantom_cache import cached_phantoms, simulate_set
from sonoshare_shared.science.model.phantom_stream import PhantomStream
from sonoshare_shared.science.model.pretrain import HowLong, first_phantoms, train_base
from sonoshare_shared.science.model.profiles import PROFILES
from sonoshare_shared.science.model.recipe import TrainSettings
from sonoshare_shared.science.model.sampler import SamplerSettings, refine, sample
from sonoshare_shared.science.model.tensors import read_tensors, write_tensors
from sonoshare_shared.science.phantom import simulate

TINY = PROFILES["tiny"]
SETTINGS = TrainSettings(phantoms=20, batch_size=4, warm_up=2)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phantom_cache, "_SHARD", 10)


def train(folder: Path, steps: int, settings: TrainSettings = SETTINGS) -> Path:
    out = folder / "base.safetensors"
    train_base(TINY, settings, out=out, work=folder, until=HowLong(steps=steps), clock=lambda: 0.0)
    return out


@pytest.mark.parametrize("name", ["tiny", "small"])
def test_shipped_weights_load_and_name_their_origin(name: str) -> None:
    model, digest = load_base(name)
    assert digest == sha256_file(base_path(name))
    assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in model.parameters())
    origin = base_origin(base_path(name))
    assert origin["data"] == "simulated phantoms only"
    assert origin["progress"]["validation"] < 0.5


@pytest.mark.parametrize("name", ["tiny", "small"])
def test_shipped_weights_denoise_phantoms_they_have_not_seen(name: str) -> None:
    model, _ = load_base(name)
    settings = TrainSettings(seed=99, batch_size=32, drop=0.0)
    batch = training_batch(TrainingSet(simulate_set(32, seed=99, size=model.profile.size)), settings, 0)
    arguments = (batch.images, batch.masks)
    with torch.no_grad():
        loss = denoising_loss(model, *arguments, batch.condition, batch.t, batch.noise).mean()
        nothing = denoising_loss(model, *arguments, Condition.absent(32), batch.t, batch.noise).mean()
    assert loss < 0.5
    assert loss < nothing


def test_shipped_weights_draw_lesions_where_the_box_is_and_none_in_normal_breasts() -> None:
    model, _ = load_base("tiny")
    phantoms = simulate(12, seed=5, size=32, classes=phantom_cache.CLASSES, labels=np.arange(12) % 3)  # type: ignore[attr-defined]
    condition = Condition.of(phantoms.labels, None, phantoms.boxes)
    drawn = sample(model, SamplerSettings(steps=10), condition, seed=0)
    assert not drawn.masks[phantoms.labels == 2].any()
    lesions = phantoms.labels != 2
    inside = (drawn.masks & phantoms.masks)[lesions].sum() / drawn.masks[lesions].sum()
    assert inside > 0.5


def test_an_image_of_shipped_weights_is_the_same_whatever_the_batch_size() -> None:
    model, _ = load_base("tiny")
    phantoms = simulate(7, seed=2, size=32)
    condition = Condition.of(phantoms.labels, None, phantoms.boxes)
    for settings, given in (
        (SamplerSettings(steps=12), {}),
        (SamplerSettings(steps=6, start="phantom"), {"images": phantoms.images, "masks": phantoms.masks}),
    ):
        whole, single = (
            sample(model, replace(settings, batch_size=size), condition, seed=1, **given).images  # type: ignore[arg-type]
            for size in (7, 1)
        )
        assert np.abs(whole - single).max() < 1e-5


def test_refining_keeps_the_class_apart_and_moves_texture_only() -> None:
    model, _ = load_base("tiny")
    phantoms = simulate(6, seed=3, size=32)
    condition = Condition.of(phantoms.labels, None, phantoms.boxes)
    refined = refine(model, phantoms.images, phantoms.masks, condition, seed=0).images
    for before, after in zip(phantoms.images, refined, strict=True):
        assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.5


def test_slots_that_no_phantom_used_are_neutral() -> None:
    model, _ = load_base("tiny")
    scanners = model.scanner_embedding.weight
    classes = model.class_embedding.weight
    assert all(torch.equal(scanners[slot], scanners[-1]) for slot in range(SIMULATED_SCANNER_SLOT))
    assert all(torch.equal(classes[slot], classes[-1]) for slot in range(3, 8))
    assert not torch.equal(classes[0], classes[1])


def test_an_interrupted_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = train(tmp_path / "a", 5)
    train(tmp_path / "b", 2)
    parts = train(tmp_path / "b", 5)
    assert read_tensors(whole).keys() == read_tensors(parts).keys()
    for name, tensor in read_tensors(whole).items():
        assert torch.equal(tensor, read_tensors(parts)[name])
    log = [json.loads(line) for line in (tmp_path / "b" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [2, 5]
    model, _ = load_base("tiny", parts)
    assert isinstance(model, ConditionedUNet)


def test_a_run_that_is_over_writes_its_base_again(tmp_path: Path) -> None:
    before = read_tensors(train(tmp_path, 1))
    (tmp_path / "base.safetensors").unlink()
    again = read_tensors(train(tmp_path, 1))
    assert all(torch.equal(again[name], tensor) for name, tensor in before.items())


def test_training_lowers_the_loss() -> None:
    run = BaseTraining(TINY, replace(SETTINGS, batch_size=8), TrainingSet(simulate_set(20, seed=0, size=32)))
    before = run.validate()
    for _ in range(25):
        run.advance()
    assert run.validate() < before - 0.05


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    train(tmp_path, 1)
    with pytest.raises(ModelError, match="another run"):
        train(tmp_path, 2, replace(SETTINGS, learning_rate=1.0))


def test_a_cache_of_another_simulator_is_refused(tmp_path: Path) -> None:
    cached_phantoms(tmp_path, count=10, seed=0, size=32)
    path = next(tmp_path.iterdir())
    tensors = read_tensors(path)
    write_tensors(path, tensors | {"images": 255 - tensors["images"]})
    with pytest.raises(InputError, match="another simulator"):
        cached_phantoms(tmp_path, count=10, seed=0, size=32)


def test_cached_phantoms_equal_simulated_ones_across_shards(tmp_path: Path) -> None:
    cached = cached_phantoms(tmp_path, count=20, seed=0, size=32)
    direct = simulate_set(20, seed=0, size=32)
    assert all(torch.equal(vars(cached)[name], vars(direct)[name]) for name in vars(direct))
    assert cached.conditions(torch.arange(20)).scanners.min() >= SIMULATED_SCANNER_SLOT


def test_case_22_base_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no base weights"):
        load_base("large")
    with pytest.raises(ModelError, match="another architecture"):
        load_base("small", base_path("tiny"))
    with pytest.raises(ModelError, match="of profile tiny"):
        load_base("small", base_path("tiny"))
    state = read_tensors(base_path("tiny"))
    state["conv_out.bias"][0] = torch.inf
    write_tensors(tmp_path / "own.safetensors", state)
    with pytest.raises(ModelError, match="NaN or infinity"):
        load_base("tiny", tmp_path / "own.safetensors")
    (tmp_path / "own.bin").write_bytes(base_path("tiny").read_bytes())
    with pytest.raises(ModelError, match="could run code"):
        load_base("tiny", tmp_path / "own.bin")


def test_an_imported_base_is_pinned_by_its_digest(tmp_path: Path) -> None:
    state = read_tensors(base_path("tiny"))
    state["conv_out.bias"] = state["conv_out.bias"] + 0.5
    own, folder = tmp_path / "own.safetensors", tmp_path / "home" / IMPORTED
    write_tensors(own, state)
    digest = import_base(own, "tiny", folder)
    assert digest == sha256_file(own) == sha256_file(imported_base(folder, digest))
    loaded = load_pinned_base("tiny", digest, folder)
    assert torch.equal(loaded.conv_out.bias, state["conv_out.bias"].float())
    shipped = load_pinned_base("tiny", sha256_file(base_path("tiny")), folder)
    assert not torch.equal(shipped.conv_out.bias, loaded.conv_out.bias)
    imported_base(folder, digest).write_bytes(base_path("tiny").read_bytes())
    with pytest.raises(ModelError, match="not on this machine"):
        load_pinned_base("tiny", digest, folder)


@pytest.mark.parametrize("wrong", ["architecture", "nan", "shape", "missing"])
def test_a_base_that_does_not_fit_is_not_kept(tmp_path: Path, wrong: str) -> None:
    state = read_tensors(base_path("tiny"))
    if wrong == "nan":
        state["conv_out.bias"][0] = torch.nan
    if wrong == "shape":
        state["conv_out.bias"] = torch.zeros(3)
    if wrong == "missing":
        del state["conv_out.bias"]
    own, folder = tmp_path / "own.safetensors", tmp_path / IMPORTED
    write_tensors(own, state)
    with pytest.raises(ModelError):
        import_base(base_path("small") if wrong == "architecture" else own, "tiny", folder)
    assert not folder.exists()


@pytest.mark.parametrize("digest", ["0" * 64, "../../own", ""])
def test_a_digest_that_was_not_imported_is_refused(tmp_path: Path, digest: str) -> None:
    with pytest.raises(ModelError, match=r"import|hexadecimal"):
        imported_base(tmp_path, digest)
    with pytest.raises(ModelError):
        load_pinned_base("tiny", digest, tmp_path)


def test_several_processes_simulate_the_same_phantoms(tmp_path: Path) -> None:
    cached = cached_phantoms(tmp_path, count=20, seed=0, size=32, jobs=2)
    assert torch.equal(cached.images, simulate_set(20, seed=0, size=32).images)


def test_phantoms_for_a_gpu_are_the_first_of_its_stream() -> None:
    stream, said = PhantomStream(0, 32, CPU), list[tuple[int, int]]()
    made = first_phantoms(stream, 5, workers=1, said=lambda ready, wanted: said.append((ready, wanted)))
    alone = stream.batch(0, 5)
    assert all(torch.equal(vars(made)[name], vars(alone)[name]) for name in vars(alone))
    assert said[-1] == (5, 5)
