"""What ``study create`` says of the chance that an honest release passes, and of what would raise it."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sonoshare_deploy.cli.output import in_words

if TYPE_CHECKING:
    from rich.console import Console

    from sonoshare_privacy.audits.chance import PassChance
    from sonoshare_shared.protocol.documents import StudyPlan


def chance_fields(plan: "StudyPlan") -> dict[str, Any]:
    """Chances as JSON: by hospital and together, with one and with all planned candidates; public constants only."""
    from sonoshare_privacy.audits.chance import pass_chances  # noqa: PLC0415 - keeps --help fast
    from sonoshare_privacy.audits.chance_advice import changes_that_reach, wanted_beyond  # noqa: PLC0415

    candidates = plan.planned_candidates
    chances = pass_chances(plan.audit, plan.cohorts, candidates)
    wanted = wanted_beyond(chances.together.any)
    changes = () if wanted is None else changes_that_reach(wanted, plan.audit, plan.cohorts, candidates)
    return {
        "hospitals": {hospital: _both(chance) for hospital, chance in chances.hospitals.items()},
        "together": _both(chances.together),
        "could_not_see": dict(chances.blind),
        "leak_passes_at_most": min(1.0, candidates * plan.audit.alpha),
        "wanted": wanted,
        "changes": [
            {"change": each.words, "together": each.together, "epsilon_audits": each.epsilon_audits} for each in changes
        ],
    }


def _both(chance: "PassChance") -> dict[str, float]:
    return {"one_candidate": chance.first, "all_candidates": chance.any}


def created_words(result: Mapping[str, Any]) -> Callable[["Console"], None]:
    """Prints what ``study create`` made: its fields, then the chances."""

    def human(console: "Console") -> None:
        def say(line: str) -> None:
            console.print(line, highlight=False, markup=False, soft_wrap=True)

        for name, value in result.items():
            if name != "chance":
                say(f"{name}: {in_words(value)}")
        for line in chance_lines(result["chance"], result["candidates"]):
            say(line)

    return human


def chance_lines(chance: Mapping[str, Any], candidates: int) -> list[str]:
    """The chances in words."""
    rows = [*chance["hospitals"].items(), ("all together", chance["together"])]
    width = max(len(name) for name, _ in rows)
    tried = "with the only candidate" if candidates == 1 else f"with the first, and with one of {candidates} candidates"
    lines = [f"chance that an honest release passes, {tried}:"]
    for name, both in rows:
        figures = [both["one_candidate"]] if candidates == 1 else [both["one_candidate"], both["all_candidates"]]
        lines.append(f"  {name:<{width}}  " + "  ".join(f"{figure:.2f}" for figure in figures))
    for reason in dict.fromkeys(chance["could_not_see"].values()):
        blind = ", ".join(hospital for hospital, said in chance["could_not_see"].items() if said == reason)
        lines.append(f"  {blind}: an audit could not see enough to pass: {reason}")
    lines.append(f"a leak as large as the tolerated one passes with a chance of {chance['leak_passes_at_most']:.2g}")
    lines[-1] += " at most"
    if chance["wanted"] is not None:
        lines += _advice(chance["wanted"], chance["changes"])
    return lines


def _advice(wanted: float, changes: list[Mapping[str, Any]]) -> list[str]:
    if not changes:
        return [f"no single change reaches {wanted:g}: change several (docs/audits.md)"]
    cheapest, *others = changes
    said = [f"cheapest change that reaches {wanted:g}: {_change(cheapest)}"]
    return said + [f"  or {_change(other)}" for other in others]


def _change(change: Mapping[str, Any]) -> str:
    return f"{change['change']} (then {change['together']:.2f}; audits charge epsilon {change['epsilon_audits']:.3g})"
