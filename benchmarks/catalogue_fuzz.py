"""What schemathesis finds when it asks the catalogue's API for minutes.

    python -m benchmarks.catalogue_fuzz [--seconds 300] [--seed 0] [--json]

Every route of the OpenAPI description is asked in turn, with what it is described to take and with what it is not, in
rounds of ``ROUND`` cases, each round with a seed of its own, until the time is over. Answers are held to the
description: status, content type, headers and body; a refusal of what should be taken, an answer to what should not.
That a cursor has the form of any text, and only ours are taken, is no fault. One JSON object is the last line:

- ``operations``, ``requests``, ``statuses``: how many of each; ``server_errors``: answers of 500 and above;
- ``failures``: what was not as it is described, one of a kind;
- ``seconds``.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.specs.openapi import checks
from tests.server.catalogue_fixture import site

ROUND = 40


def ask(operation: Any, number: int, statuses: Counter[int], failures: dict[str, str]) -> None:
    """One round of one operation."""

    @seed(number)
    @settings(
        max_examples=ROUND,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def asked(case: Any) -> None:
        answer = case.call()
        statuses[answer.status_code] += 1
        try:
            case.validate_response(answer, excluded_checks=[checks.positive_data_acceptance])
        except Exception as error:  # noqa: BLE001 - whatever a check says is a finding
            failures.setdefault(f"{operation.label} {answer.status_code}", str(error)[:500])

    asked()


def main() -> None:
    """Ask and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    statuses: Counter[int] = Counter()
    failures: dict[str, str] = {}
    start, number = time.monotonic(), asked.seed
    with tempfile.TemporaryDirectory() as place, site(Path(place), requests_per_minute=10_000_000) as running:
        schema = schemathesis.openapi.from_asgi("/api/v1/openapi.json", running.app)
        operations: list[Any] = [found.ok() for found in schema.get_all_operations()]  # type: ignore[union-attr]
        while time.monotonic() - start < asked.seconds:
            for operation in operations:
                number += 1
                ask(operation, number, statuses, failures)
            print(f"{sum(statuses.values())} requests, {len(failures)} failures", file=sys.stderr)
    result = {
        "operations": len(operations),
        "requests": sum(statuses.values()),
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "server_errors": sum(count for status, count in statuses.items() if status >= 500),
        "failures": failures,
        "seconds": round(time.monotonic() - start, 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
