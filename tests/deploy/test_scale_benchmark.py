"""Laws of growth and the consortium on paper: what `benchmarks.scale` works out, and that its parts still run."""

from dataclasses import replace

import pytest
from benchmarks import scale
from benchmarks._scale_laws import Law, checked, fitted
from benchmarks._scale_paper import Asked, plan

from sonoshare_client.node.log_copy import MAX_LOG_BYTES


def test_a_law_is_found_and_foretells_the_largest_size() -> None:
    points = [({"images": n, "patients": p}, 3.0 + 0.5 * n * p) for n, p in ((1, 1), (2, 3), (5, 4), (40, 9))]
    law, said = checked(("1", "images patients"), points)
    assert law.constants == pytest.approx((3.0, 0.5))
    assert said["predicted_over_measured"] == 1.0


def test_a_square_is_not_foretold_by_a_line() -> None:
    points = [({"n": float(n)}, float(n * n)) for n in (1, 2, 4, 8, 64)]
    assert checked(("1", "n"), points)[1]["predicted_over_measured"] < 0.5
    assert fitted(("1", "n", "n n"), points).constants == pytest.approx((0, 0, 1), abs=1e-6)


def test_parts_run_and_give_every_law_they_name() -> None:
    laws, said = scale.measured(["log", "ledger"], quick=True, quiet=True)
    assert set(laws) == set(said) == {"log_open", "log_append", "ledger_open", "ledger_charge"}
    assert all(one["at_largest"] > 0 for one in said.values())


def test_walls_on_paper_stand_nearest_first_and_come_nearer_with_size() -> None:
    laws = {name: Law(of, (1e-6,) * len(of)) for _, named, _, _ in scale.PARTS.values() for name, of in named.items()}
    laws["log_bytes"] = Law(("1", "hospitals"), (0.0, 1000.0))
    asked = Asked(hospitals=100, images=3_500_000, researchers=10_000)
    small, large = plan(replace(asked, hospitals=1, images=35_000), laws), plan(asked, laws)
    ratios = [wall["ratio"] for wall in large["walls"]]
    assert ratios == sorted(ratios, reverse=True)
    assert large["walls"][0]["what"].startswith("bytes of the transparency log")
    rounds = asked.rounds * asked.studies * asked.years
    assert large["walls"][0]["ratio"] == pytest.approx(100 * 1000 * rounds / MAX_LOG_BYTES, rel=0.01)
    assert small["walls"][0]["ratio"] < large["walls"][0]["ratio"]
