"""Plans that could not be drawn are refused when they are made, not when images are due."""

import pytest
from pydantic import ValidationError

from sonoshare_shared.protocol.documents import ReleasePlan


def test_a_plan_has_no_more_steps_than_its_start_time_holds() -> None:
    assert ReleasePlan(images=2, sampler_steps=8, start="phantom", start_time=8).start_time == 8
    assert ReleasePlan(images=2, sampler_steps=500, start="noise").sampler_steps == 500
    with pytest.raises(ValidationError, match="more sampler steps than the start time holds"):
        ReleasePlan(images=2, sampler_steps=9, start="phantom", start_time=8)
    with pytest.raises(ValidationError, match="start_time"):
        ReleasePlan(images=2, sampler_steps=9, start="phantom", start_time=991)
