"""The end of a run names the modules that its time went to."""

from typing import Literal

import pytest
from tests.slowest import PROCESSOR, slowest


def report(test: str, when: Literal["setup", "call", "teardown"], seconds: float) -> pytest.TestReport:
    return pytest.TestReport(test, ("", 0, ""), {}, "passed", None, when, duration=seconds)


def test_a_modules_seconds_are_of_all_its_tests_and_what_they_set_up() -> None:
    reports = [
        report("a.py::one", "setup", 2.0),
        report("b.py::one", "call", 3.0),
        report("a.py::one", "call", 1.0),
        report("a.py::two[x::y]", "teardown", 0.5),
        report("c.py::one", "call", 0.1),
    ]
    assert slowest(reports, 2) == [("a.py", 3.5, 0.0), ("b.py", 3.0, 0.0)]


def test_the_processor_of_a_test_is_counted_once_though_each_report_carries_it() -> None:
    reports = [report("a.py::one", when, 1.0) for when in ("setup", "call", "teardown")]
    for one in reports:
        one.user_properties.append((PROCESSOR, 2.5))
    assert slowest(reports) == [("a.py", 3.0, 2.5)]
