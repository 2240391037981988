"""CASES 42, 47, 49: per-patient gradients against autograd, patient by patient, on the models of the field."""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.privacy.conftest import Small
from tests.privacy.patient_rows import K, P, contribution, gradients, split
from torch import nn
from torch._C import memory_format
from torch.nn import Parameter

import sonoshare_privacy.patient_gradients.leaves as leaves_module
from sonoshare_privacy.patient_gradients import check_engine
from sonoshare_privacy.patient_gradients.buffer import add_rounded_sum, clip_factors, row_norms
from sonoshare_privacy.patient_gradients.per_patient import LOSS_SHARE
from sonoshare_shared.errors import ModelError
from sonoshare_shared.protocol.documents.plan import Precision
from sonoshare_shared.science.precision import BFLOAT16, FLOAT32, TF32

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from diffusers import UNet2DConditionModel, UNet2DModel


def unet(dtype: torch.dtype = torch.float64) -> Any:
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=16,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(16, 32),
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8,
        num_class_embeds=3,
    ).to(dtype)


def conditioned_unet(dtype: torch.dtype = torch.float64) -> Any:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=2,
        out_channels=2,
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=8,
        norm_num_groups=8,
    ).to(dtype)


def unet_case(
    model: Any, dtype: torch.dtype = torch.float64, patients: int = P
) -> tuple[dict[str, torch.Tensor], Callable[..., Any]]:
    generator = torch.Generator().manual_seed(1)
    rows = patients * K
    channels = model.config.in_channels
    batch = {
        "x": torch.randn(rows, channels, 16, 16, generator=generator).to(dtype),
        "t": torch.randint(0, 1000, (rows,), generator=generator),
    }
    if isinstance(model, UNet2DModel):
        batch["condition"] = torch.randint(0, 3, (rows,), generator=generator)
    else:
        batch["condition"] = torch.randn(rows, 5, 16, generator=generator).to(dtype)

    def loss(rows: Any) -> Any:
        keyword = "class_labels" if isinstance(model, UNet2DModel) else "encoder_hidden_states"
        output = model(rows["x"], rows["t"], **{keyword: rows["condition"]}).sample
        return (output - rows["x"]).square().mean((1, 2, 3))

    return batch, loss


def loop(
    parameters: dict[Any, Any] | dict[str, Parameter],
    patients: list[Any],
    loss: Callable[..., Any] | Callable[[dict[str, torch.Tensor]], Any],
    draws: int = K,
) -> torch.Tensor:
    """The plain reference: float64 [P, D]."""
    found = []
    for batch in patients:
        value = loss(batch).sum() / draws
        parts = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
        pairs = zip(parts, parameters.values(), strict=True)
        found.append(torch.cat([(torch.zeros_like(p) if g is None else g).flatten().double() for g, p in pairs]))
    return torch.stack(found)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [unet, conditioned_unet])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_case_42_full_unet_matches_a_float64_loop(
    make: Callable[..., Any], layout: memory_format, dtype: torch.dtype, limit: float
) -> None:
    reference = make()
    batch, loss = unet_case(reference)
    rows = loop(dict(reference.named_parameters()), split(batch), loss)
    model = make(dtype).to(memory_format=layout)
    batch, loss = unet_case(model, dtype)
    batch["x"] = batch["x"].contiguous(memory_format=layout)
    engine = gradients(model)
    with engine:
        found, _ = engine.rows_of(batch, loss)
        assert float((found.double() - rows).norm() / rows.norm()) <= limit
    total, grid = contribution(engine, split(batch), loss)
    norms = rows.norm(dim=1)
    share = (1 - LOSS_SHARE**2) ** 0.5
    expected = ((share / norms).clamp(max=1).unsqueeze(1) * rows).sum(0)
    assert float((total[:-1].double() * grid.step - expected).norm() / expected.norm()) <= limit


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", ["clip", "normalise"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_case_42_no_contribution_is_larger_than_the_clip_norm(mode: str, dtype: torch.dtype) -> None:
    model = unet(dtype)
    engine = gradients(model, clip_norm=1e-3, clip_mode=mode)
    batch, loss = unet_case(model, dtype)
    for patient in split(batch):
        total, grid = contribution(engine, [patient], lambda rows: 1e3 * loss(rows))
        size = float(total.double().norm())
        assert size <= grid.sensitivity
        assert size * grid.step <= 1e-3 * (1 + 1e-6)
        assert size * grid.step >= 1e-3 * 0.99998


def test_case_42_a_loud_loss_is_clipped_too(small: type[Small]) -> None:
    engine = gradients(small().double())
    patient = {"x": torch.zeros(K, 1), "y": torch.zeros(K)}
    for value in (1e9, float("inf"), float("nan"), -5.0):
        total, grid = contribution(engine, [patient], lambda rows, v=value: torch.full((len(rows["y"]),), v))
        assert 0 <= float(total[-1]) * grid.step <= LOSS_SHARE + 1e-9


def test_a_gradient_that_is_not_finite_contributes_nothing() -> None:
    rows = torch.tensor([[float("nan"), 1.0], [3.0, 4.0], [float("inf"), 0.0]])
    factors = clip_factors(row_norms(rows), 1.0, "clip", 0.0)
    out = torch.zeros(2, dtype=torch.int64)
    add_rounded_sum(rows, factors, 2.0**-40, out)
    assert torch.allclose(out.double() * 2.0**-40, torch.tensor([0.6, 0.8], dtype=torch.float64), atol=2e-6)


def test_norms_are_exact_where_float32_is_not() -> None:
    rows = torch.rand(2, 3_000_001)
    exact = rows.double().norm(dim=1)
    assert float(((row_norms(rows) - exact) / exact).abs().max()) < 1e-7


def test_normalise_leaves_a_zero_gradient_at_zero() -> None:
    assert clip_factors(torch.tensor([0.0, 1e-6, 5.0], dtype=torch.float64), 1.0, "normalise", 0.0)[0] == 0


class Layers(nn.Module):
    """Convolutions of every shape, one module used twice, and a parameter that takes no part."""

    def __init__(self) -> None:
        super().__init__()
        self.strided = nn.Conv2d(2, 8, 3, stride=2, padding=1)
        self.dilated = nn.Conv2d(8, 8, 3, dilation=2, padding=2, groups=4)
        self.same = nn.Conv2d(8, 8, (3, 5), padding="same", bias=False)
        self.valid = nn.Conv2d(8, 8, (1, 3), padding="valid")
        self.reflected = nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")
        self.twice = nn.Conv2d(8, 8, 1)
        self.unused = nn.Linear(3, 3)
        self.affine = nn.GroupNorm(4, 8)
        self.words = nn.Embedding(7, 8, padding_idx=0)
        self.tokens = nn.LayerNorm((5, 8))
        self.mix = nn.Linear(8, 8)

    def forward(self, x: Any, words: Any) -> Any:
        h = self.valid(self.same(self.dilated(self.strided(x))))
        h = self.affine(self.twice(torch.tanh(self.twice(self.reflected(h)))))
        w = self.mix(self.tokens(self.words(words)))
        return h.square().mean((1, 2, 3)) + w.square().mean((1, 2)) * h.mean((1, 2, 3))


@pytest.mark.parametrize("draws", [1, 2, 5])
def test_case_42_every_layer_shape_reuse_and_unused_parameters(draws: int) -> None:
    torch.manual_seed(3)
    model = Layers().double()
    rows = 4 * draws
    batch = {"x": torch.randn(rows, 2, 12, 12).double(), "words": torch.randint(0, 7, (rows, 5))}

    def loss(part: dict[str, torch.Tensor]) -> Any:
        return model(part["x"], part["words"])

    parameters = dict(model.named_parameters())
    reference = loop(parameters, split(batch, draws), loss, draws)
    engine = gradients(model, parameters, draws=draws, places=4)
    with engine:
        for _ in range(2):  # the second chunk must not see the first
            found, losses = engine.rows_of(batch, loss)  # type: ignore[arg-type]
            assert float((found - reference).abs().max()) < 1e-12
    assert torch.allclose(losses, loss(batch).detach().view(4, draws).mean(1))
    check_engine(engine, split(batch, draws), loss)  # type: ignore[arg-type]


def test_case_49_all_draws_of_a_patient_are_one_contribution(small: type[Small]) -> None:
    model = small().double()
    batch = {"x": torch.randn(40, 1, 8, 8).double(), "scanner": torch.randint(0, 3, (40,))}
    engine = gradients(model, draws=40, places=1)
    total, grid = contribution(engine, [batch], lambda b: 1e4 * model(b["x"], b["scanner"]).square())
    assert float(total.double().norm()) * grid.step <= 1 + 1e-6


def test_only_the_named_parameters_are_trained_and_the_model_is_left_as_it_was(small: type[Small]) -> None:
    model = small()
    frozen = {"norm.bias", "head.bias", "scanner.weight"}
    model.norm.bias.requires_grad_(False)
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    parameters = {name: p for name, p in model.named_parameters() if name not in frozen}
    batch = {"x": torch.randn(6, 1, 8, 8), "scanner": torch.randint(0, 3, (6,))}

    def loss(part: Any) -> Any:
        return model(part["x"], part["scanner"]).square()

    check_engine(gradients(model, parameters), split(batch), loss)
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == before
    assert not any("forward" in vars(module) for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_case_47_autocast_computes_in_bfloat16_and_files_in_float32(small: type[Small]) -> None:
    model = small()
    batch = {"x": torch.randn(8, 1, 8, 8), "scanner": torch.randint(0, 3, (8,))}
    seen = []

    def loss(part: Any) -> Any:
        out = model(part["x"], part["scanner"])
        seen.append(model.conv(part["x"]).dtype)
        return (out.float() - 3).square()

    engine = gradients(model, precision=BFLOAT16)
    check_engine(engine, split(batch), loss)
    assert set(seen) == {torch.float32, torch.bfloat16}  # a rule is judged in float32
    seen.clear()
    with engine:
        rows, _ = engine.rows_of(batch, loss)
        assert rows.dtype is torch.float32
    assert set(seen) == {torch.bfloat16}


@pytest.mark.parametrize("precision", [FLOAT32, TF32, BFLOAT16])
def test_contributions_are_bounded_and_add_exactly_in_every_precision(precision: Precision, small: type[Small]) -> None:
    """What the promise rests on is measured on rows as they are, however coarsely they were computed."""
    model = small()
    batch = {"x": torch.randn(2 * P, 1, 8, 8), "scanner": torch.randint(0, 3, (2 * P,))}
    patients = split(batch)

    def loss(part: Any) -> Any:
        return (model(part["x"], part["scanner"]).float() - 50).square()

    engine = gradients(model, precision=precision)
    whole, grid = contribution(engine, patients, loss)
    alone = [contribution(engine, [patient], loss)[0] for patient in patients]
    assert torch.equal(whole, torch.stack(alone).sum(0))
    norms = torch.stack(alone).double().norm(dim=1)
    assert bool((norms <= grid.sensitivity).all())
    assert bool((norms > 0.9 * grid.sensitivity).all())  # they were clipped


@pytest.mark.filterwarnings("ignore")
def test_case_42_lora_by_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(sys.prefix) / "beside")  # see tests/beside.txt
    peft = pytest.importorskip("peft")
    model = unet()
    model.requires_grad_(False)
    config = peft.LoraConfig(r=2, target_modules=["to_q", "to_v", "to_out.0", "conv1", "time_emb_proj"])
    model = peft.inject_adapter_in_model(config, model)
    parameters = {name: p for name, p in model.named_parameters() if "lora_" in name}
    for parameter in parameters.values():
        nn.init.normal_(parameter, std=0.05)
    model.double()
    batch, loss = unet_case(model)
    engine = gradients(model, parameters)
    check_engine(engine, split(batch), loss)
    dora = peft.inject_adapter_in_model(peft.LoraConfig(r=2, target_modules=["to_k"], use_dora=True), unet())
    with pytest.raises(ModelError, match="no per-patient gradient"):
        gradients(dora, {n: p for n, p in dora.named_parameters() if "lora_" in n})


@pytest.mark.parametrize("most", [1, 4, 9, 1 << 15], ids="{} groups in a call".format)
def test_norms_of_many_rows_are_taken_in_parts(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU's kernel has room for 65,535 groups; rows are groups here."""
    monkeypatch.setattr(leaves_module, "_MOST_GROUPS", most)
    torch.manual_seed(2)
    model = nn.Sequential(nn.GroupNorm(2, 4), nn.Conv2d(4, 4, 1), nn.GroupNorm(4, 4)).double()
    batch = {"x": torch.randn(P * K, 4, 5, 3).double()}

    def loss(part: Any) -> Any:
        return model(part["x"]).square().mean((1, 2, 3)) + model(part["x"].tanh()).sin().mean((1, 2, 3))

    reference = loop(dict(model.named_parameters()), split(batch), loss)
    with gradients(model) as engine:
        found, _ = engine.rows_of(batch, loss)
        assert float((found - reference).abs().max()) < 1e-12
