"""Fixtures for every room."""

import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from tests.slowest import PROCESSOR, processor_seconds, slowest

# Before torch is imported: threads of several workers on few cores wait for each other more than they compute.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run: a red suite is a change of the code, and can be repeated.
settings.register_profile("fixed", derandomize=True)
settings.load_profile("fixed")

STARTED = pytest.StashKey[float]()

BUSBRA = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "busbra"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Torch's global generator starts every test (and its module's fixtures) alike, whatever ran before it."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Notes what each test takes of the processor; told at the end of the run."""
    item.stash[STARTED] = processor_seconds()
    return (yield)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Before the last report is made, with which the note travels to the process that tells it."""
    item.user_properties.append((PROCESSOR, processor_seconds() - item.stash[STARTED]))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules that start a federation of real processes come first: they wait, and others compute meanwhile."""
    waiting = {item.path for item in items if item.get_closest_marker("processes")}
    items.sort(key=lambda item: item.path not in waiting)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """After a run of many modules: where its time went."""
    everything = (report for some in terminalreporter.stats.values() for report in some)
    modules = slowest(report for report in everything if isinstance(report, pytest.TestReport))
    if len(modules) > 1:
        terminalreporter.write_sep("=", f"slowest {len(modules)} modules")
        terminalreporter.write_line(f"{'wall':>8} s {'processor':>10} s")
        for module in modules:
            terminalreporter.write_line(f"{module.wall:8.1f} s {module.processor:10.1f} s  {module.name}")


@pytest.fixture(autouse=True)
def own_limits() -> Iterator[None]:
    """No test bounds the process that runs the others: what a child takes on itself must not be called here."""
    kinds = (resource.RLIMIT_CPU, resource.RLIMIT_AS, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE)
    before = [resource.getrlimit(kind) for kind in kinds]
    yield
    assert [resource.getrlimit(kind) for kind in kinds] == before


@pytest.fixture(scope="session")
def busbra() -> Path:
    """Folder of the real BUS-BRA images; the test is skipped where it is absent."""
    if not (BUSBRA / "bus_data.csv").is_file():
        pytest.skip("BUS-BRA is not beside the project (../shared/data/busbra): real-data test skipped")
    return BUSBRA


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch on one thread for a module's tests: the same figures everywhere."""
    import torch  # noqa: PLC0415 - slow, and most rooms do without it

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
