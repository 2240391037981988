"""What one patient adds to a sum: never more than the sensitivity, never another number for the company they are in."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks._phantom_patients import phantom_patients
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import poisson
from tests.privacy.conftest import Cohort, Small
from tests.privacy.trainings import run, training
from torch import nn
from torch.nn import Parameter

import sonoshare_privacy.patient_gradients.per_patient as gradients_module
from sonoshare_client.agent.draws import PatientDraws, loss_of, probe
from sonoshare_privacy.mechanisms.draw_words import public_keys
from sonoshare_privacy.mechanisms.gaussian import Grid
from sonoshare_privacy.patient_gradients import PatientGradients, check_engine
from sonoshare_privacy.patient_gradients.buffer import row_norms
from sonoshare_privacy.patient_gradients.chunk import together
from sonoshare_privacy.patient_gradients.per_patient import LOSS_CAP, LOSS_SHARE
from sonoshare_privacy.patient_gradients.places import places_of_chunk
from sonoshare_privacy.patient_gradients.selfcheck import PlacesDifferError
from sonoshare_shared.errors import ContributionError, InputError, ModelError
from sonoshare_shared.protocol.documents.plan import Mechanism
from sonoshare_shared.science.model.adapter import adapter_state, load_adapter, prepare, trained_parameters
from sonoshare_shared.science.model.base import load_base
from sonoshare_shared.science.model.network import ConditionedUNet
from sonoshare_shared.science.model.tensors import write_tensors

CLIP_NORMS = [1e-9, 1e-4, 0.37, 1.0, 1e9]


def engine_of(model: Any, parameters: dict[str, Parameter] | None = None, **constants: Any) -> PatientGradients:
    constants = {"draws": 2, "clip_norm": 1.0, "clip_mode": "clip", "places": 4, **constants}
    return PatientGradients(model, parameters or dict(model.named_parameters()), **constants)


def summed(
    engine: PatientGradients,
    patients: list[Mapping[str, torch.Tensor]] | list[Any],
    loss: Callable[[Mapping[str, torch.Tensor]], torch.Tensor] | Callable[..., Any],
    padding: Mapping[str, torch.Tensor] | dict[Any, Any] | None = None,
    sigma: float = 1.0,
) -> tuple[torch.Tensor, Grid]:
    """Integer sum of any number of patients, chunk by chunk."""
    grid = Grid(engine.clip_norm, sigma, engine.dimension + 1)
    total = torch.zeros(engine.dimension + 1, dtype=torch.int64)
    with engine:
        for part in engine.chunks(len(patients)):
            engine.add_clipped(together(patients[part]), padding or patients[0], loss, grid, total)
    return total, grid


@st.composite
def gradients(draw: Any) -> torch.Tensor:
    """Rows [3, 21] over the whole range of float32: one scale a row, or one a number, with limits and oddities."""
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    low, high = sorted(draw(st.tuples(st.integers(-45, 38), st.integers(-45, 38))))
    shape = (3, 21) if draw(st.booleans()) else (3, 1)
    with np.errstate(over="ignore"):
        values = random.standard_normal((3, 21)) * 10.0 ** random.uniform(low, high, shape)
    rows = torch.from_numpy(values).to(dtype)
    for odd in draw(st.lists(st.sampled_from([0.0, float("nan"), float("inf"), -1e-45, 1.2e-38, 3.4e38]), max_size=3)):
        rows[random.integers(3), random.integers(21)] = odd
    return rows


@settings(max_examples=300, deadline=None)
@given(
    gradients(),
    st.sampled_from(CLIP_NORMS),
    st.sampled_from(["clip", "normalise"]),
    st.sampled_from([0.02, 1.0, 50.0]),
    st.sampled_from([0.0, 0.7, 1e30, float("nan"), float("inf"), -3.0]),
)
def test_no_gradient_of_any_size_gives_more_than_the_sensitivity(
    rows: Any, clip_norm: Any, mode: Any, sigma: Any, loss: Any
) -> None:
    model = nn.Linear(20, 1).to(rows.dtype)
    engine = engine_of(model, clip_norm=clip_norm, clip_mode=mode, places=1)
    grid = Grid(clip_norm, sigma, engine.dimension + 1)
    for row in rows:
        total = torch.zeros(engine.dimension + 1, dtype=torch.int64)
        engine.add_rows(row[None], torch.tensor([loss], dtype=torch.float64), grid, total)
        integers = [int(value) for value in total]
        assert sum(value**2 for value in integers) <= grid.sensitivity**2, "the joint norm, in exact arithmetic"
        assert 0 <= integers[-1] * grid.step <= LOSS_SHARE * clip_norm * (1 + 1e-9)
        wide, largest = row.double().numpy(), float(row.abs().max()) or 1.0
        exact = float(np.linalg.norm(wide / largest)) * largest if np.isfinite(wide).all() else np.inf
        size = float(total[:-1].double().norm()) * grid.step
        if not np.isfinite(exact):
            assert size == 0
        elif exact > clip_norm or (mode == "normalise" and exact > 1e-59):
            assert size >= clip_norm * (1 - LOSS_SHARE**2) ** 0.5 * (1 - 1e-5) - grid.step * 5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-45, 1e-40, 1e-30, 1e-22, 1e-19, 1.0, 1e18, 1e25, 1e36])
def test_norms_neither_vanish_nor_overflow(dtype: torch.dtype, scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = (torch.randn(2, 70_001, generator=generator, dtype=torch.float64) * scale).to(dtype)
    exact = (rows.double() / scale).norm(dim=1) * scale
    assert torch.allclose(row_norms(rows), exact, rtol=4e-6, atol=0.0)


@pytest.mark.parametrize("mode", ["clip", "normalise"])
@pytest.mark.parametrize("scale", [1e-18, 1e-22, 1e-26])
def test_a_base_whose_gradients_vanish_when_squared_is_clipped_all_the_same(mode: str, scale: float) -> None:
    model, _ = load_base("tiny")
    with torch.no_grad():
        model.conv_out.weight.mul_(scale)
        model.mask_out.weight.mul_(scale)
    prepare(model, "lora")
    rows = probe(model, 4)[:1]
    for clip_norm in (1e-9, 0.02):
        engine = engine_of(
            model, trained_parameters(model, "lora"), draws=4, clip_norm=clip_norm, clip_mode=mode, places=1
        )
        total, grid = summed(engine, rows, loss_of(model))
        assert float(total.double().norm()) <= grid.sensitivity
        assert mode == "clip" or float(total[:-1].double().norm()) * grid.step >= 0.97 * clip_norm
    with pytest.raises(InputError, match="clip norm"):
        Grid(1e-30, 1.0, 10)


@pytest.mark.parametrize(
    "constants", [(1e-30, 1.0, 9), (1e30, 1.0, 9), (1.0, 1e-3, 9), (1.0, 1e9, 9), (1.0, 1.0, 1 << 40)]
)
def test_absurd_constants_make_no_grid(constants: tuple[float, float, int]) -> None:
    with pytest.raises(InputError):
        Grid(*constants)


def test_a_contribution_that_is_too_large_stops_the_training_and_is_not_released(
    cohort: Cohort, open_ledger: Callable[..., Any], mechanism: Mechanism, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, drawn = open_ledger(), []
    monkeypatch.setattr(gradients_module, "clip_factors", lambda norms, *_: torch.full_like(norms, 1e3))
    monkeypatch.setattr("sonoshare_privacy.step_release.add_gaussian_integers", lambda *_: drawn.append(1))
    with pytest.raises(ContributionError, match="larger than the noise"):
        run(training(cohort, ledger, mechanism), cohort, steps=3)
    assert drawn == []
    assert ledger.spent().epsilon > 0


def hostile(model: ConditionedUNet) -> dict[str, Parameter]:
    """Attention norms and a scanner embedding that drive attention to where last bits decide everything."""
    parameters = trained_parameters(model, "affine")
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in parameters.items():
            if "group_norm.weight" in name and "attent" in name:
                parameter.mul_(1300)
            if name.endswith(("norm2.weight", "norm2.bias")):
                parameter.mul_(10_000)
        table = parameters["scanner_embedding.weight"]
        table[:-1].copy_((torch.randn(table.shape[1], generator=generator) * 1e5).expand(table.shape[0] - 1, -1))
    return parameters


@pytest.mark.parametrize("draws", [1, 2])
def test_a_patient_adds_the_same_integers_whoever_else_is_sampled(draws: int) -> None:
    """Also under weights that once made everybody's gradient depend on the size of the sample."""
    model, _ = load_base("tiny")
    parameters = hostile(model)
    engine = engine_of(model, parameters, draws=draws, clip_norm=0.05, places=8)
    drawing = PatientDraws(phantom_patients(19, seed=99, size=32, scanner=-1), draws, torch.device("cpu"))
    keys = public_keys(19, 3)
    patients = [drawing.draw(torch.tensor([i]), keys[i : i + 1]) for i in range(19)]
    padding = probe(model, draws)[0]
    alone = [summed(engine, [patient], loss_of(model), padding)[0] for patient in patients]
    for count in (2, 3, 8, 9, 15, 16, 17, 19):
        total, _ = summed(engine, patients[:count], loss_of(model), padding)
        assert torch.equal(total, torch.stack(alone[:count]).sum(0)), f"{count} patients"
    turned, _ = summed(engine, patients[::-1], loss_of(model), padding)
    assert torch.equal(turned, torch.stack(alone).sum(0))
    assert float(alone[0][:-1].double().norm()) > 0


def test_such_weights_are_refused_where_they_are_loaded(tmp_path: Path) -> None:
    model, _ = load_base("tiny")
    good = adapter_state(model, "affine")
    hostile(model)
    evil = adapter_state(model, "affine")
    with pytest.raises(ModelError, match="no training gives"):
        load_adapter(model, evil, "affine")
    load_adapter(model, good, "affine")
    base, _ = load_base("tiny")
    for factor in (1e5, float("nan")):
        write_tensors(
            tmp_path / "evil.safetensors", {n: (v * factor).contiguous() for n, v in base.state_dict().items()}
        )
        with pytest.raises(ModelError, match=r"no training gives|NaN"):
            load_base("tiny", tmp_path / "evil.safetensors")


def test_padding_adds_nothing_whatever_it_holds(small: type[Small]) -> None:
    model = small()
    generator = torch.Generator().manual_seed(1)

    def patient(value: float | None = None) -> dict[Any, Any]:
        x = torch.randn(2, 1, 8, 8, generator=generator) if value is None else torch.full((2, 1, 8, 8), value)
        return {"x": x, "scanner": torch.zeros(2, dtype=torch.int64)}

    def loss(batch: Any) -> Any:
        return model(batch["x"], batch["scanner"]).square()

    engine, patients = engine_of(model), [patient() for _ in range(5)]
    expected, grid = summed(engine, patients, loss, padding=patient())
    for value in (0.0, float("nan"), float("inf"), 1e30):
        assert torch.equal(summed(engine, patients, loss, padding=patient(value))[0], expected)
    broken, _ = summed(engine, [patient(float("nan")), *patients], loss, padding=patient())
    difference = broken - expected
    assert int(difference[:-1].abs().max()) == 0, "a patient without a finite gradient adds no gradient"
    assert float(difference[-1]) * grid.step == pytest.approx(LOSS_SHARE, rel=1e-9), f"and a loss of {LOSS_CAP}"


@pytest.mark.parametrize("hidden", [False, True], ids=["shown by the probes", "hidden from the probes"])
def test_places_that_differ_in_last_bits_are_found_and_given_up(
    hidden: bool, cohort: Cohort, open_ledger: Callable[..., Any], mechanism: Mechanism
) -> None:
    """A machine whose last place computes otherwise, and weights for which no probe shows it."""
    model = cohort.model
    if hidden:
        with torch.no_grad():
            model.head.bias.zero_()

    def loss(batch: Any) -> Any:
        values = cohort.loss(batch)
        if len(values) == 2:
            return values
        last = torch.arange(len(values)) == len(values) - 1
        return values * (1 + 1e-6 * last * (model.head.bias.detach().abs() if hidden else 1))

    engine = engine_of(model, clip_norm=0.5)
    with pytest.raises(PlacesDifferError):
        check_engine(engine, cohort.probe(), loss)
    dp = training(cohort, open_ledger(), mechanism)
    assert dp.patients_per_chunk > 1
    run(dp, cohort, steps=1, patients=8, loss=loss)
    assert dp.patients_per_chunk == 1


def test_a_batch_has_one_shape_type_and_layout(small: type[Small]) -> None:
    engine = engine_of(small())
    grid, out = Grid(1.0, 1.0, engine.dimension + 1), torch.zeros(engine.dimension + 1, dtype=torch.int64)
    rows = {"x": torch.zeros(2, 1, 8, 8), "scanner": torch.zeros(2, dtype=torch.int64)}
    for odd in (
        rows | {"x": torch.zeros(3, 1, 8, 8)},
        rows | {"x": torch.zeros(2, 1, 8, 8).double()},
        {"x": rows["x"]},
        rows | {"further": torch.zeros(2)},
    ):
        with pytest.raises(ModelError, match="differ from the probe's"):
            engine.add_clipped(odd, rows, lambda b: b["x"].sum((1, 2, 3)), grid, out)
    with pytest.raises(ModelError, match="more patients"):
        engine.add_clipped(together([rows] * 5), rows, lambda b: b["x"].sum((1, 2, 3)), grid, out)
    for other in (Grid(2.0, 1.0, engine.dimension + 1), Grid(1.0, 1.0, engine.dimension)):
        with pytest.raises(ModelError, match="not this mechanism's"):
            engine.add_clipped(rows, rows, lambda b: b["x"].sum((1, 2, 3)), other, out)


@pytest.mark.parametrize(("draws", "most"), [(1, 64), (2, 16), (4, 5), (64, 1), (8, 0)])
def test_places_are_a_power_of_two_within_the_memory(draws: int, most: int) -> None:
    for expected in (0.5, 3.0, 16.0, 150.0, 4000.0):
        places = places_of_chunk(draws=draws, expected=expected, most=most)
        assert places in {1 << power for power in range(9)}
        assert places <= max(1, most)


@pytest.mark.parametrize(("expected", "padding"), [(10, 1.15), (25, 1.14), (75, 1.10), (150, 1.05)])
def test_padding_costs_what_the_page_says(expected: int, padding: float) -> None:
    """docs/proofs/fixed-chunks.md: rows computed per row needed, on average, for K = 2 and 32 rows at once."""
    places = places_of_chunk(draws=2, expected=expected, most=16)
    sizes = np.arange(1000)
    computed = (poisson.pmf(sizes, expected) * np.ceil(sizes / places)).sum() * places
    assert computed / expected == pytest.approx(padding, abs=0.006)
