"""Pictures of budgets: a plan before it runs, and a ledger's epsilon over time. Neither shows anything private."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from sonoshare_privacy.accounting import Event, epsilon, merged
from sonoshare_privacy.budget import Budget
from sonoshare_privacy.planner import Plan
from sonoshare_shared.protocol.documents.charge import SignedCharge

_POINTS = 12
_BLUE, _ORANGE, _GREY = "#1f5a99", "#d9822b", "#888888"


def epsilon_over_time(entries: Sequence[SignedCharge], delta: float) -> list[tuple[datetime, float]]:
    """Epsilon of record of everything reserved, after each reservation, at ``delta``; entries say the day."""
    events: tuple[Event, ...] = ()
    points = []
    for entry in entries:
        if entry.charge.kind == "reserved":
            events = merged((*events, *entry.charge.events))
            points.append((_moment(entry.charge.time), epsilon(events, delta)))
    return points


def _moment(text: str) -> datetime:
    """A day, or in old entries a moment, UTC."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def draw_plan(plan: Plan, path: Path) -> None:
    """Write a PNG: epsilon over the steps, and what joining hospitals brings."""
    from matplotlib.figure import Figure  # noqa: PLC0415  slow to import, and only for pictures

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    spent, joined = figure.subplots(1, 2)
    steps = sorted({round(plan.steps * index / _POINTS) for index in range(_POINTS + 1)})
    spent.plot(steps, [plan.epsilon_after(step) for step in steps], color=_BLUE, label="training")
    spent.axhline(plan.epsilon, color=_GREY, linestyle="--", label="with audits" if plan.audits else "budget")
    spent.set(xlabel="steps", ylabel=f"epsilon at delta {plan.delta:g}", ylim=(0, None))
    spent.set_title(f"noise multiplier {plan.noise_multiplier:.4g}, rate {plan.rate:g}", fontsize=10)
    spent.legend(frameon=False)
    counts = [entry.hospitals for entry in plan.with_more_hospitals]
    own = [entry.trainable_parameters for entry in plan.with_more_hospitals]
    pooled = [entry.pooled_trainable_parameters for entry in plan.with_more_hospitals]
    joined.loglog(counts, own, "o-", color=_BLUE, label="own noise")
    joined.loglog(counts, pooled, "s-", color=_ORANGE, label="one noise, masked sum")
    joined.set(xlabel=f"hospitals of {plan.patients} patients", ylabel="parameters that can be trained")
    joined.set_xticks(counts, [str(count) for count in counts])
    joined.minorticks_off()
    joined.legend(frameon=False)
    figure.savefig(path, dpi=130)


def draw_ledger(entries: Sequence[SignedCharge], budget: Budget, path: Path) -> None:
    """Write a PNG: the lifetime epsilon after each charge, and its limit."""
    from matplotlib.figure import Figure  # noqa: PLC0415  slow to import, and only for pictures

    figure = Figure(figsize=(7, 3.4), layout="constrained")
    axes = figure.subplots()
    points = epsilon_over_time(entries, budget.delta)
    if points:
        times, values = zip(*points, strict=True)
        axes.step(times, values, where="post", color=_BLUE, marker=".", label="spent")
    axes.axhline(budget.epsilon, color=_ORANGE, linestyle="--", label="lifetime budget")
    axes.set(xlabel="day (UTC)", ylabel=f"epsilon at delta {budget.delta:g}", ylim=(0, None))
    axes.legend(frameon=False)
    figure.autofmt_xdate()
    figure.savefig(path, dpi=130)
