"""One word becomes a device, and one word a precision; what is asked for and absent is refused with a true remedy."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tests.shared.consortium import make_plan
from torch.torch_version import TorchVersion

from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.protocol.documents.plan import Precision
from sonoshare_shared.science.device import (
    CPU,
    chosen_device,
    chosen_devices,
    device_kind,
    device_words,
    gpus_here,
)
from sonoshare_shared.science.device_word import is_device_word
from sonoshare_shared.science.precision import BFLOAT16, FLOAT32, TF32, computing_in, forward_in

GPU = "NVIDIA H100 80GB HBM3"


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that says that it has two GPUs; nothing is computed on them."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"{GPU} #{torch.device(device).index}")


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("asked", "device", "words"),
    [
        ("auto", "cuda:0", f"cuda:0 ({GPU} #0)"),
        ("cuda", "cuda:0", f"cuda:0 ({GPU} #0)"),
        ("cuda:1", "cuda:1", f"cuda:1 ({GPU} #1)"),
    ],
)
def test_a_gpu_is_taken_where_there_is_one(asked: str, device: str, words: str) -> None:
    assert chosen_device(asked) == torch.device(device)
    assert device_words(chosen_device(asked)) == words


@pytest.mark.usefixtures("two_gpus")
def test_the_processor_is_taken_where_it_is_asked_for() -> None:
    assert chosen_device("cpu") == CPU


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(InputError, match="cuda:2 is asked for, and this machine has cuda:0 to cuda:1"):
        chosen_device("cuda:2")


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("asked", ["cuda", "cuda:0", "cuda:7"])
def test_a_gpu_is_never_replaced_by_the_processor(asked: str) -> None:
    with pytest.raises(InputError, match=f"{asked} is asked for, and there is no CUDA device here"):
        chosen_device(asked)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("built_for", "remedy"), [(None, "install one that is built for CUDA"), ("12.9", "see whether nvidia-smi lists")]
)
def test_the_remedy_tells_a_wrong_build_from_a_hidden_card(
    built_for: str | None, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "cuda", built_for and TorchVersion(built_for))
    with pytest.raises(InputError) as found:
        chosen_device("cuda")
    assert remedy in found.value.remedy


@pytest.mark.usefixtures("no_gpu")
def test_auto_without_a_gpu_says_the_processor_and_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    for threads in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        said.append(device_words(chosen_device("auto")))
    assert said == ["cpu, 1 thread", "cpu, 2 threads"]


@pytest.mark.parametrize(
    "asked", ["", "gpu", "CUDA", "cuda:", "cuda:-1", "cuda:x", "cuda:0 ", "mps", "cpu:0", "cuda:1000"]
)
def test_another_word_names_no_device(asked: str) -> None:
    assert not is_device_word(asked)
    with pytest.raises(InputError, match="names no device"):
        chosen_device(asked)


@pytest.mark.usefixtures("two_gpus")
def test_a_kind_is_what_last_bits_follow_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert device_kind(CPU) == "cpu AVX2"
    assert device_kind(torch.device("cuda:1")) == f"cuda {GPU} #1"


def flags() -> tuple[object, ...]:
    """What torch computes in, as it says itself."""
    cudnn: Any = torch.backends.cudnn
    return (
        torch.get_float32_matmul_precision(),
        torch.backends.cuda.matmul.fp32_precision == "tf32",
        cudnn.conv.fp32_precision == "tf32",
        cudnn.benchmark,
        cudnn.deterministic,
    )


@pytest.fixture
def careless_flags() -> Iterator[tuple[object, ...]]:
    """A process in which somebody has asked for speed, whatever ran in it before."""
    cudnn = torch.backends.cudnn
    before = torch.get_float32_matmul_precision()
    with cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=True):
        torch.set_float32_matmul_precision("high")
        yield flags()
    torch.set_float32_matmul_precision(before)


EXACT = ("highest", False, False, False, True)
CORES = ("high", True, True, False, True)


@pytest.mark.parametrize(("precision", "expected"), [(FLOAT32, EXACT), (TF32, CORES), (BFLOAT16, EXACT)])
def test_a_precision_is_what_was_asked_for_and_no_librarys_default(
    precision: Precision, expected: tuple[object, ...], careless_flags: tuple[object, ...]
) -> None:
    assert careless_flags == ("high", True, True, True, False)
    with computing_in(precision):
        assert flags() == expected
        with computing_in(FLOAT32):
            assert flags() == EXACT
        assert flags() == expected
    assert flags() == careless_flags


def test_flags_are_given_back_after_an_error(careless_flags: tuple[object, ...]) -> None:
    with pytest.raises(ZeroDivisionError), computing_in(FLOAT32):
        raise ZeroDivisionError
    assert flags() == careless_flags


@pytest.mark.parametrize(
    ("precision", "dtype"), [(FLOAT32, torch.float32), (TF32, torch.float32), (BFLOAT16, torch.bfloat16)]
)
def test_a_forward_pass_computes_in_what_the_precision_says(precision: Precision, dtype: torch.dtype) -> None:
    layer, x = torch.nn.Linear(3, 2), torch.ones(1, 3)
    with torch.autocast("cpu", dtype=torch.float16), forward_in(precision, CPU):
        assert layer(x).dtype is dtype


def test_a_plan_without_a_precision_is_what_it_was_and_computes_in_float32() -> None:
    plan = make_plan()
    assert "precision" not in json.loads(plan.canonical())
    assert plan.computes_in == FLOAT32
    chosen = StudyPlan.from_bytes(plan.model_copy(update={"precision": BFLOAT16}).canonical())
    assert chosen.computes_in == BFLOAT16
    assert chosen.digest() != plan.digest()


@pytest.mark.usefixtures("two_gpus")
def test_devices_of_one_training_are_of_one_kind_and_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=f"cannot be shared by cuda {GPU} #0 and cuda {GPU} #1"):
        gpus_here()
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: GPU)
    both = (torch.device("cuda:0"), torch.device("cuda:1"))
    assert gpus_here() == gpus_here(2) == chosen_devices("cuda:0, cuda:1") == both
    assert gpus_here(1) == both[:1]
    for asked, reason in (
        ("cuda:1,cuda:1", "named twice"),
        ("cuda:0,cpu", "cannot be shared"),
        ("cuda:0,", "names no"),
    ):
        with pytest.raises(InputError, match=reason):
            chosen_devices(asked)
    for most in (0, 3):
        with pytest.raises(InputError, match="this machine has 2"):
            gpus_here(most)


@pytest.mark.usefixtures("no_gpu")
def test_the_processor_can_be_named_several_times_and_gpus_that_are_absent_are_refused() -> None:
    assert chosen_devices("cpu,cpu") == (CPU, CPU)
    with pytest.raises(InputError, match="there is no CUDA device here"):
        gpus_here()
