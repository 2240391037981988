"""What the demonstration prints at its end: one JSON object for scripts, a short table for people."""

from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from sonoshare_client.node.ledger import open_ledger
from sonoshare_deploy.demo.journey import RELEASE, STUDY, Journey
from sonoshare_deploy.demo.memory import PeakMemory
from sonoshare_shared.protocol.documents import AuditStatement
from sonoshare_shared.science.device import device_words


def demo_result(journey: Journey, utility: dict[str, Any], peak: PeakMemory) -> dict[str, Any]:
    """The fields of ``sonoshare demo --json``.

    Args:
        journey: a journey that came to its end.
        utility: what the release, or the refused candidate, is worth.
        peak: memory of all processes.
    """
    seconds = {**journey.display.seconds, "total": round(sum(journey.display.seconds.values()), 2)}
    return {
        "release": RELEASE,
        "verdict": overall_verdict(journey),
        "published": journey.bundle is not None,
        "reason": journey.refusal,
        "bundle": str(journey.bundle) if journey.bundle else None,
        "roster": str(journey.home.roster_path),
        "images": journey.settings.images if journey.bundle else 0,
        "quarantined": [{"source": entry.source, "reason": entry.reason} for entry in journey.quarantined],
        "hospitals": [_hospital(journey, hospital) for hospital in sorted(journey.nodes)],
        "catalogue_url": journey.addresses.catalogue if journey.addresses else None,
        "utility": utility,
        "device": device_words(journey.settings.device),
        "peak_memory_mib": round(peak.mib),
        "peak_resident_mib": round(peak.resident_mib),
        "seconds": seconds,
    }


def overall_verdict(journey: Journey) -> str:
    """FAIL if any hospital says so, PASS if all do, else INCONCLUSIVE."""
    verdicts = [journey.said[h].predicate.verdict if h in journey.said else "INCONCLUSIVE" for h in journey.nodes]
    if "FAIL" in verdicts:
        return "FAIL"
    return "PASS" if all(verdict == "PASS" for verdict in verdicts) else "INCONCLUSIVE"


def print_result(console: Console, result: dict[str, Any], said: dict[str, AuditStatement]) -> None:
    """The table for people, what the audits could have seen, and what to do next."""
    table = Table(title=f"Release {result['release']}", title_justify="left")
    for column in ("hospital", "ε spent", "of budget", "δ", "verdict", "smallest leak it could see"):
        table.add_column(column)
    for hospital in result["hospitals"]:
        statement = said.get(hospital["id"])
        leak = statement.predicate.smallest_detectable_leak if statement else None
        table.add_row(
            hospital["id"],
            f"{hospital['epsilon']:.2f}",
            f"{hospital['budget_epsilon']:.2f}",
            f"{hospital['delta']:g}",
            hospital["verdict"] or "none",
            f"{leak} patients" if leak else "none",
        )
    console.print(table)
    for hospital, statement in sorted(said.items()):
        for reason in statement.predicate.reasons:
            console.print(f"  {hospital}: {reason}", highlight=False, markup=False)
    _print_end(console, result)


def _print_end(console: Console, result: dict[str, Any]) -> None:
    utility = result["utility"]
    synthetic, phantoms = utility["synthetic"], utility["phantoms"]
    what = "release" if result["published"] else "refused candidate"
    console.print(
        f"Classifier trained on the {what}, tested on {utility['patients']} held-out patients: "
        f"AUC {synthetic['auc']:.3f} [{synthetic['interval'][0]:.3f}, {synthetic['interval'][1]:.3f}]; "
        f"trained on raw phantoms: {phantoms['auc']:.3f} "
        f"[{phantoms['interval'][0]:.3f}, {phantoms['interval'][1]:.3f}]",
        highlight=False,
    )
    seconds = ", ".join(f"{stage} {value:.0f}" for stage, value in result["seconds"].items())
    console.print(f"Seconds: {seconds}; peak memory {result['peak_memory_mib']} MiB", highlight=False)
    if result["published"]:
        console.print(f"Published: {result['bundle']}", highlight=False, markup=False, soft_wrap=True)
        verify = f"sonoshare verify {result['bundle']} --roster {result['roster']}"
        console.print(f"Next: {verify}", highlight=False, markup=False, soft_wrap=True)
    else:
        console.print(f"Not published: {result['reason']}", highlight=False, markup=False)
        console.print(
            "Next: read the reasons above. The audits' noise is real, so a clean release is refused now and then "
            "(docs/audits.md has the chances); another try is another audit, and pays again.",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def _hospital(journey: Journey, hospital: str) -> dict[str, Any]:
    node = journey.nodes[hospital]
    ledger = open_ledger(node, lambda: datetime.now(UTC))
    spent = ledger.spent(study=STUDY)
    statement = journey.said.get(hospital)
    result = {
        "id": hospital,
        "epsilon": spent.epsilon,
        "delta": spent.delta,
        "budget_epsilon": ledger.budgets.study.epsilon,
        "ledger_head": ledger.head(),
        "verdict": statement.predicate.verdict if statement else None,
        "smallest_detectable_leak": statement.predicate.smallest_detectable_leak if statement else None,
        "reasons": list(statement.predicate.reasons) if statement else [],
    }
    ledger.close()
    return result
