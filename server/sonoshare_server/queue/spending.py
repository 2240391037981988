"""What a study has cost each of its hospitals by now, at most: worked out from what they were asked for.

A hospital that was asked may have charged, whether its answer came back or not. So every round that was begun counts,
and every ballot, and every candidate that was given to audit. What a hospital really charged is in its own ledger, and
is never more.
"""

from sonoshare_privacy.accounting import PureDP, epsilon
from sonoshare_server.home import Study


def spent_at_most(study: Study) -> float:
    """Epsilon at the plan's delta that each hospital may have charged for a study by now; 0 where nothing was asked."""
    plan, events = study.plan, study.events()
    asked = max([event["round"] for event in events if event["kind"] == "round"], default=0)
    rounds = max(asked, study.state.rounds_done)
    began = {(event["action"], event.get("release", "")) for event in events if event["kind"] == "started"}
    votes = [] if plan.calibration is None else [plan.calibration.epsilon]
    votes = votes if any(action == "calibrate" for action, _ in began) else []
    audits = sum(action == "audit" for action, _ in began)
    beside = [*votes, *plan.audit.epsilons * audits]
    charged = [plan.charged(rounds * plan.local_steps)] if rounds else []
    everything = [*charged, *(PureDP(each) for each in beside)]
    return epsilon(everything, plan.mechanism.delta) if everything else 0.0
