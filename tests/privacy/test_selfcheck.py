"""CASE 48: what the engine's own check refuses before anything is charged, and what is refused by name."""

from typing import Any

import pytest
import torch
from tests.privacy.conftest import Small
from tests.privacy.patient_rows import gradients, split
from torch import nn

from sonoshare_privacy.patient_gradients import PatientGradients, check_engine
from sonoshare_shared.errors import ModelError
from sonoshare_shared.protocol.documents.plan import Precision
from sonoshare_shared.science.precision import BFLOAT16, FLOAT32, TF32


class Mixing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Any) -> Any:
        h = self.linear(x)
        return (h - h.mean(0)).square().mean(1)


class Peeking(nn.Module):
    """Mixes patients where no gradient shows it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Any) -> Any:
        h = self.linear(x)
        return (h - h.detach().mean(0)).square().mean(1)


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Any) -> Any:
        return nn.functional.linear(x, self.linear.weight).square().mean(1) + self.linear(x).mean(1)


class Restless(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Any) -> Any:
        self.seen += 1  # type: ignore[assignment, operator]
        return self.linear(x).mean(1)


class Shuffled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Any) -> Any:
        return self.linear(x.flip(0)).flip(0).square().mean(1)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Mixing(), "per-patient gradient of linear.weight"),
        (Peeking(), "depends on the others"),
        (nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 4)), "depends on chance"),
        (Functional(), "per-patient gradient of linear.weight"),
        (Shuffled(), "per-patient gradient of linear.weight"),
        (Restless(), "buffer seen changes"),
    ],
)
def test_case_48_the_self_check_refuses_what_the_engine_cannot_see(model: Any, message: str) -> None:
    torch.manual_seed(0)
    batch = {"x": torch.randn(6, 4)}

    def loss(part: Any) -> Any:
        out = model(part["x"])
        return out if out.dim() == 1 else out.square().mean(1)

    with pytest.raises(ModelError, match=message):
        check_engine(gradients(model), split(batch), loss)


@pytest.mark.parametrize("precision", [FLOAT32, TF32, BFLOAT16])
@pytest.mark.parametrize("off", [2.0, 0.0, 1.2], ids=["taken twice", "lost", "a fifth too large"])
def test_a_wrong_rule_is_refused(
    off: float, precision: Precision, small: type[Small], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small()
    engine = gradients(model, precision=precision)
    right = engine.rows_of

    def wrong(batch: Any, loss: Any) -> tuple[Any, Any]:
        rows, losses = right(batch, loss)
        engine.buffer.view(model.conv.weight).mul_(off)
        return rows, losses

    monkeypatch.setattr(engine, "rows_of", wrong)
    batch = {"x": torch.randn(6, 1, 8, 8), "scanner": torch.randint(0, 3, (6,))}
    with pytest.raises(ModelError, match=r"gradient of conv.weight is not the one autograd finds"):
        check_engine(engine, split(batch), lambda part: model(part["x"], part["scanner"]).float().square())


class Scaled(nn.Linear):
    def forward(self, x: Any) -> torch.Tensor:
        return 2 * super().forward(x)


class Bare(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(()))


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm2d(4),
        nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
        nn.ConvTranspose2d(4, 4, 3),
        nn.Conv1d(4, 4, 3),
        nn.PReLU(),
        nn.MultiheadAttention(4, 2),
        nn.GRU(4, 4),
        nn.Embedding(4, 4, max_norm=1.0),
        nn.Embedding(4, 4, scale_grad_by_freq=True),
        Scaled(4, 4),
        Bare(),
        nn.Linear(4, 4).half(),
    ],
)
def test_case_48_refused_by_name(layer: Any) -> None:
    with pytest.raises(ModelError):
        gradients(nn.ModuleDict({"odd": layer}))


def test_case_48_a_frozen_batch_norm_is_refused_too() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    with pytest.raises(ModelError, match="mixes patients"):
        gradients(model, {"0.weight": model[0].weight})


def test_parameters_of_another_model_are_refused() -> None:
    with pytest.raises(ModelError, match="in no leaf"):
        gradients(nn.Linear(2, 2), {"weight": nn.Linear(2, 2).weight})
    with pytest.raises(ModelError, match="no parameter"):
        PatientGradients(nn.Linear(2, 2), {}, draws=1, clip_norm=1.0, clip_mode="clip", places=1)


def test_a_rule_that_is_wrong_in_bfloat16_alone_is_refused(small: type[Small], monkeypatch: pytest.MonkeyPatch) -> None:
    model = small()
    engine = gradients(model, precision=BFLOAT16)
    right = engine.rows_of

    def wrong(batch: Any, loss: Any) -> tuple[Any, Any]:
        rows, losses = right(batch, loss)
        return rows.mul_(2.0 if engine.precision == BFLOAT16 else 1.0), losses

    monkeypatch.setattr(engine, "rows_of", wrong)
    batch = {"x": torch.randn(6, 1, 8, 8), "scanner": torch.randint(0, 3, (6,))}
    with pytest.raises(ModelError, match=r"is not the one autograd finds"):
        check_engine(engine, split(batch), lambda part: model(part["x"], part["scanner"]).float().square())


@pytest.mark.parametrize(("precision", "expected"), [(FLOAT32, {False}), (TF32, {False, True}), (BFLOAT16, {False})])
def test_both_sides_of_the_check_compute_in_one_arithmetic(
    precision: Precision, expected: set[bool], small: type[Small], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU convolutions are TF32 by default: on one side alone, a right engine was refused."""
    model, seen = small(), []
    convolutions: Any = torch.backends.cudnn
    monkeypatch.setattr(convolutions, "allow_tf32", True)
    batch = {"x": torch.randn(8, 1, 8, 8), "scanner": torch.randint(0, 3, (8,))}

    def loss(part: Any) -> Any:
        seen.append(convolutions.conv.fp32_precision == "tf32")
        return model(part["x"], part["scanner"]).float().square()

    check_engine(gradients(model, precision=precision), split(batch), loss)
    assert set(seen) == expected
    assert convolutions.conv.fp32_precision == "tf32"
