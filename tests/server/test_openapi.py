"""Schemathesis asks every route of the OpenAPI description what it should and should not be asked (case 30)."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from tests.server.catalogue_fixture import Site, site

schemathesis = pytest.importorskip("schemathesis", reason="SKIPPED LOUDLY: no schemathesis (make setup)")
checks = pytest.importorskip("schemathesis.specs.openapi.checks")

EXAMPLES = 6
"""Of each operation; `benchmarks/catalogue_fuzz.py` asks longer."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("catalogue")) as running:
        yield running


def test_case_30_every_route_answers_as_it_is_described(served: Site) -> None:
    schema = schemathesis.openapi.from_asgi("/api/v1/openapi.json", served.app)
    asked = 0
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def ask(case: Any) -> None:
            # A cursor has the form of any text; that only ours are taken is no fault.
            case.call_and_validate(excluded_checks=[checks.positive_data_acceptance])

        ask()
        asked += 1
    assert asked >= 20
