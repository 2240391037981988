"""Low-rank adapters: nothing changes until they learn, a merged one is the adapted model, misfits change nothing."""

from pathlib import Path

import pytest
import torch

from sonoshare_shared.errors import ModelError
from sonoshare_shared.science.model.adapter import (
    adapter_bytes,
    adapter_digest,
    adapter_state,
    load_adapter,
    prepare,
    read_adapter,
    trained_parameters,
)
from sonoshare_shared.science.model.conditions import Condition
from sonoshare_shared.science.model.lora import LowRank, has_low_rank, merge_low_rank
from sonoshare_shared.science.model.network import ConditionedUNet, require_known_modules
from sonoshare_shared.science.model.profiles import PROFILES

torch.set_num_threads(1)


def base() -> ConditionedUNet:
    torch.manual_seed(0)
    return ConditionedUNet(PROFILES["tiny"]).eval()


def drawn(model: ConditionedUNet) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 1, 32, 32, generator=generator)
    with torch.no_grad():
        output = model(x, torch.tensor([10, 400, 900]), Condition.absent(3))
    return torch.cat((output.v, output.mask_logits))


def learned(model: ConditionedUNet) -> ConditionedUNet:
    """A model whose adapter is not what it started as."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in trained_parameters(model, "lora").values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


def test_adding_the_layers_changes_nothing_and_is_the_same_everywhere() -> None:
    model, plain = base(), base()
    prepare(model, "lora")
    assert torch.equal(drawn(model), drawn(plain))
    other = base()
    prepare(other, "lora")
    assert adapter_digest(adapter_state(model, "lora")) == adapter_digest(adapter_state(other, "lora"))
    require_known_modules(model)
    kinds = {type(part.base) for part in model.modules() if isinstance(part, LowRank)}
    assert kinds == {torch.nn.Linear, torch.nn.Conv2d}


def test_an_adapter_is_small_and_holds_no_base_weight() -> None:
    model = ConditionedUNet(PROFILES["small"])
    total = sum(parameter.numel() for parameter in model.parameters())
    prepare(model, "lora")
    parameters = trained_parameters(model, "lora")
    assert {"class_embedding.weight", "scanner_embedding.weight"} < set(parameters)
    assert not any(".base." in name or name.startswith(("conv_out", "mask_out")) for name in parameters)
    assert sum(parameter.numel() for parameter in parameters.values()) < total / 15


def test_base_and_merged_adapter_is_the_adapted_model() -> None:
    model = base()
    prepare(model, "lora")
    adapted = drawn(learned(model))
    assert not torch.allclose(adapted, drawn(base()), atol=1e-2)
    merge_low_rank(model)
    assert not has_low_rank(model)
    assert set(model.state_dict()) == set(base().state_dict())
    assert torch.allclose(drawn(model), adapted, atol=1e-4)


def test_an_adapter_file_adapts_a_fresh_base(tmp_path: Path) -> None:
    model = base()
    prepare(model, "lora")
    state = adapter_state(learned(model), "lora")
    path = tmp_path / "prognosis.safetensors"
    path.write_bytes(adapter_bytes(state))
    fresh = base()
    load_adapter(fresh, read_adapter(path))
    assert torch.equal(drawn(fresh), drawn(model))
    assert adapter_bytes(adapter_state(fresh, "lora")) == path.read_bytes()


@pytest.mark.parametrize("wrong", ["missing", "shape", "nan"])
def test_a_misfit_leaves_the_model_as_it_was(wrong: str) -> None:
    model = base()
    prepare(model, "lora")
    state = adapter_state(learned(model), "lora")
    name = next(name for name in state if name.endswith(".up.weight"))
    if wrong == "missing":
        del state[name]
    else:
        state[name] = state[name] * torch.nan if wrong == "nan" else torch.zeros(1)
    fresh = base()
    before = {name: tensor.clone() for name, tensor in fresh.state_dict().items()}
    with pytest.raises(ModelError):
        load_adapter(fresh, state, "lora")
    assert not has_low_rank(fresh)
    assert all(torch.equal(tensor, before[name]) for name, tensor in fresh.state_dict().items())


def test_sets_of_parameters_are_not_mixed_up() -> None:
    model = base()
    affine = adapter_state(model, "affine")
    with pytest.raises(ModelError, match="not prepared for lora"):
        trained_parameters(model, "lora")
    with pytest.raises(ModelError, match=r"is not expected|is missing"):
        load_adapter(model, affine, "lora")
    prepare(model, "lora")
    with pytest.raises(ModelError, match="not prepared for affine"):
        trained_parameters(model, "affine")
