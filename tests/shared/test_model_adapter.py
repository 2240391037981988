"""Adapters: what is trained, canonical bytes, and files that must be refused."""

import pickle
import struct
from pathlib import Path

import pytest
import torch

from sonoshare_shared.errors import ModelError
from sonoshare_shared.protocol.canonical import sha256_file
from sonoshare_shared.science.model.adapter import (
    adapter_bytes,
    adapter_digest,
    adapter_from_bytes,
    adapter_state,
    load_adapter,
    read_adapter,
    trained_parameters,
)
from sonoshare_shared.science.model.network import ConditionedUNet
from sonoshare_shared.science.model.profiles import PROFILES


@pytest.fixture
def model() -> ConditionedUNet:
    torch.manual_seed(0)
    return ConditionedUNet(PROFILES["tiny"])


def test_affine_trains_norms_embeddings_and_image_head_only(model: ConditionedUNet) -> None:
    names = list(trained_parameters(model, "affine"))
    assert names == sorted(names)
    norms = sum(isinstance(part, torch.nn.GroupNorm) for part in model.modules())
    assert len(names) == 2 * norms + 4
    assert {"class_embedding.weight", "scanner_embedding.weight", "conv_out.weight", "conv_out.bias"} < set(names)
    assert not any(name.startswith("mask_out") for name in names)
    assert set(trained_parameters(model, "full")) == {name for name, _ in model.named_parameters()}
    with pytest.raises(ModelError, match="unknown set"):
        trained_parameters(model, "everything")


def test_affine_adapter_of_the_default_profile_is_small_enough_for_one_hospital() -> None:
    model = ConditionedUNet(PROFILES["small"])
    assert 15_000 <= sum(p.numel() for p in trained_parameters(model, "affine").values()) <= 20_000


@pytest.mark.parametrize("profile", ["tiny", "small", "large"])
def test_outer_trains_the_layers_next_to_the_picture_beside_affine(profile: str) -> None:
    with torch.device("meta"):
        model = ConditionedUNet(PROFILES[profile])
    affine, outer = (trained_parameters(model, name) for name in ("affine", "outer"))
    assert list(outer) == sorted(outer)
    last = model.unet.up_blocks[-1].resnets[-1].conv_shortcut
    more = {*model.unet.conv_in.parameters(), *last.parameters()}
    assert {outer[name] for name in outer.keys() - affine.keys()} == more
    assert affine.keys() < outer.keys()


@pytest.mark.parametrize("trained", ["affine", "outer", "full"])
def test_round_trip_through_a_file(model: ConditionedUNet, tmp_path: Path, trained: str) -> None:
    state = adapter_state(model, trained)
    path = tmp_path / "a.safetensors"
    path.write_bytes(adapter_bytes(state))
    assert sha256_file(path) == adapter_digest(state)
    torch.manual_seed(1)
    other = ConditionedUNet(PROFILES["tiny"])
    load_adapter(other, read_adapter(path))
    assert adapter_digest(adapter_state(other, trained)) == adapter_digest(state)


def test_same_values_give_the_same_bytes_in_any_order_and_memory_format(model: ConditionedUNet) -> None:
    state = adapter_state(model, "full")
    shuffled = dict(reversed(state.items()))
    last = adapter_state(model.to(memory_format=torch.channels_last), "full")  # type: ignore[call-overload]
    assert adapter_bytes(shuffled) == adapter_bytes(state) == adapter_bytes(last)
    changed = {name: tensor.clone() for name, tensor in state.items()}
    changed["conv_out.bias"][0] += 1e-3
    assert adapter_digest(changed) != adapter_digest(state)


def test_state_is_a_copy(model: ConditionedUNet) -> None:
    state = adapter_state(model, "affine")
    with torch.no_grad():
        model.conv_out.bias.add_(1)
    assert not torch.equal(state["conv_out.bias"], model.conv_out.bias)


class Gadget:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code ran",)


@pytest.mark.parametrize("suffix", [".pt", ".bin", ".PTH", ".ckpt", ".pkl"])
def test_case_21_pickles_are_refused_by_extension(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"adapter{suffix}"
    path.write_bytes(pickle.dumps(Gadget()))
    with pytest.raises(ModelError, match="could run code"):
        read_adapter(path)


def test_case_21_pickles_are_refused_by_magic(
    tmp_path: Path, model: ConditionedUNet, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "adapter.safetensors"
    for data in (*(pickle.dumps(Gadget(), protocol) for protocol in range(2, 6)), b"PK\x03\x04rest"):
        path.write_bytes(data)
        with pytest.raises(ModelError, match="could run code"):
            read_adapter(path)
    torch.save(model.state_dict(), tmp_path / "saved")
    with pytest.raises(ModelError, match="could run code"):
        read_adapter(tmp_path / "saved")
    path.write_bytes(pickle.dumps(Gadget(), 0))
    with pytest.raises(ModelError, match="not a valid"):
        read_adapter(path)
    assert capsys.readouterr().out == ""


def lying_headers() -> dict[str, bytes]:
    def file(header: bytes, body: bytes = b"") -> bytes:
        return struct.pack("<Q", len(header)) + header + body

    entry = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    return {
        "empty": b"",
        "header longer than the file": struct.pack("<Q", 1 << 60) + b"{}",
        "not JSON": file(b"{{{{{{{{"),
        "data missing": file(entry),
        "data left over": file(entry, bytes(12)),
        "shape beyond its data": file(entry.replace(b"[2]", b"[4096]"), bytes(8)),
        "huge shape": file(entry.replace(b"[2]", b"[4611686018427387904,4]"), bytes(8)),
        "offsets reversed": file(entry.replace(b"[0,8]", b"[8,0]"), bytes(8)),
        "unknown type": file(entry.replace(b"F32", b"OBJ"), bytes(8)),
    }


@pytest.mark.parametrize("lie", lying_headers())
def test_case_22_lying_headers_are_refused(lie: str) -> None:
    with pytest.raises(ModelError):
        adapter_from_bytes(lying_headers()[lie])


def altered(state: dict[str, torch.Tensor], kind: str) -> dict[str, torch.Tensor]:
    bias = state["conv_out.bias"]
    if kind == "missing":
        del state["conv_out.bias"]
        return state
    if kind == "unknown":
        return state | {"backdoor.weight": torch.zeros(1)}
    replacement = {
        "shape": torch.zeros(len(bias) + 1),
        "transposed": state["class_embedding.weight"].T,
        "float64": bias.double(),
        "float16": bias.half(),
        "integers": bias.long(),
        "nan": torch.full_like(bias, torch.nan),
        "inf": torch.full_like(bias, torch.inf),
    }[kind]
    name = "class_embedding.weight" if kind == "transposed" else "conv_out.bias"
    return state | {name: replacement}


@pytest.mark.parametrize(
    "kind", ["missing", "unknown", "shape", "transposed", "float64", "float16", "integers", "nan", "inf"]
)
def test_case_22_adapters_that_do_not_fit_are_refused_and_change_nothing(model: ConditionedUNet, kind: str) -> None:
    before = adapter_digest(adapter_state(model, "full"))
    state = altered({name: tensor + 1 for name, tensor in adapter_state(model, "affine").items()}, kind)
    with pytest.raises(ModelError):
        load_adapter(model, state)
    assert adapter_digest(adapter_state(model, "full")) == before


def test_a_full_state_is_refused_where_affine_is_planned(model: ConditionedUNet) -> None:
    with pytest.raises(ModelError, match="is not expected"):
        load_adapter(model, adapter_state(model, "full"), trained="affine")
