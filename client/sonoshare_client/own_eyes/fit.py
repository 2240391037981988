"""Does this hospital's vault fit a study? Asked by the hospital for itself, before it joins. NOT private, never sent.

Example: a study of benign and malignant lesions, and a vault where twelve patients are labelled ``normal``. They take
no part; ``sonoshare hospital policy check`` says so, and whether enough others are left.

The agent asks none of this: whatever it refused by a count or a class would be an exact answer about patients that no
charge covers (``sonoshare_client.agent.service``). So a hospital that does not fit must not join, or stop its node.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.ledger import epsilon_after, open_ledger
from sonoshare_client.node.plan_check import study_events
from sonoshare_client.node.policy import Policy
from sonoshare_client.vault.dataset import TrainingSet, grid
from sonoshare_client.vault.store import Vault
from sonoshare_privacy.accounting import epsilon, merged
from sonoshare_privacy.ledger import Ledger
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.science.model.profiles import profile_named

Clock = Callable[[], datetime]


@dataclass(frozen=True)
class VaultState:
    """What the vault holds, whatever the study.

    Attributes:
        trained: patients who may be trained on.
        held_out: patients who never are.
        held_back: patients who wait for a decision about a pair that looks like one person.
        pairs: undecided pairs.
        uncompared: images that were never compared for such pairs; their patients join no study.
    """

    trained: int
    held_out: int
    held_back: int
    pairs: int
    uncompared: int

    def advice(self, policy: Policy, delta: float) -> tuple[str, ...]:
        """What the hospital should do, most important first; empty where nothing is to be done."""
        everybody = self.trained + self.held_out
        return (*_too_few(policy, self.trained, self.held_out), *_delta(delta, everybody), *self.undecided())

    def undecided(self) -> tuple[str, ...]:
        """What a person has to look at."""
        said = []
        if self.uncompared:
            said.append(f"{self.uncompared} images were never compared for twins: run 'sonoshare hospital twins'")
        if self.pairs:
            said.append(
                f"{self.held_back} patients wait for a decision about {self.pairs} pairs: see: sonoshare hospital twins"
            )
        return tuple(said)


@dataclass(frozen=True)
class Fit:
    """How the vault and the ledger fit one study.

    Attributes:
        state: of the vault, whatever the study.
        trained: patients who would be trained on.
        held_out: patients who would be held out.
        classes: patients by class, among both; a patient with images of two classes counts in each.
        left_out: enrolled patients who take no part in this task, by reason.
        epsilon_after: lifetime epsilon once the whole plan has been spent, at the policy's delta.
        epsilon_left: what the lifetime budget would leave then; negative where it does not suffice.
        epsilon_charged: what this study has been charged already.
        candidates: how many candidates the plan has.
        candidates_allowed: how many of them study and lifetime budget allow, all else of the plan paid; -1 where they
            do not even allow that.
        blocking: why not to join; empty where nothing speaks against it.
        advice: what else to do.
    """

    state: VaultState
    trained: int
    held_out: int
    classes: Mapping[str, int]
    left_out: Mapping[str, int]
    epsilon_after: float
    epsilon_left: float
    epsilon_charged: float
    candidates: int
    candidates_allowed: int
    blocking: tuple[str, ...]
    advice: tuple[str, ...]


def vault_state(vault: Vault) -> VaultState:
    """Count the vault."""
    patients = vault.patients()
    held_out = sum(patient.held_out for patient in patients)
    images = vault.images()
    return VaultState(
        trained=len(patients) - held_out,
        held_out=held_out,
        held_back=len(vault.held_back()),
        pairs=sum(not twin.two_people for twin in vault.twins()),
        uncompared=len(images) - vault.compared(),
    )


def study_fit(home: NodeHome, plan: StudyPlan, clock: Clock) -> Fit:
    """Hold a plan against vault and ledger, by the very reading that the agent would use; nothing is kept or charged.

    Raises:
        InputError: the vault or the policy cannot be opened.
        LedgerError: the ledger is not intact.
    """
    policy = home.policy()
    with Vault(home) as vault:
        state = vault_state(vault)
        patients = grid(vault, vault.enrolled(plan.study, settle=False), plan.task, profile_named(plan.profile).size)
    with closing(open_ledger(home, clock)) as ledger:
        after = epsilon_after(ledger, plan, policy.budget.delta)
        charged = ledger.spent(policy.budget.delta, study=plan.study).epsilon
        allowed = _candidates_allowed(ledger, plan, policy)
    trained, held_out = len(patients.trained), len(patients.held_out)
    left = policy.budget.lifetime_epsilon - after
    blocking = [*_too_few(policy, trained, held_out), *_delta(plan.mechanism.delta, trained + held_out)]
    slot = policy.federation.reply_slot_seconds
    if slot >= plan.round_deadline_seconds:
        blocking.append(
            f"rounds close after {plan.round_deadline_seconds} s and this node answers after {slot:g} s at the "
            "earliest: lower federation.reply_slot_seconds, or ask for more time"
        )
    if left < 0:
        most = policy.budget.lifetime_epsilon
        blocking.append(
            f"the study would bring the lifetime epsilon to {after:.3f} of {most:g}: {_smaller(plan, allowed)}"
        )
    elif allowed < plan.planned_candidates:
        blocking.append(
            f"{charged:.3f} was charged in this study before, and its budget is {policy.budget.study_epsilon:g}: "
            f"{_smaller(plan, allowed)}"
        )
    classes = _classes(patients)
    advice = [f"{count} patients take no part: {reason}" for reason, count in patients.left_out.items()]
    advice += [f"no patient has class '{name}': nothing is learnt of it here" for name, n in classes.items() if n == 0]
    return Fit(
        state=state,
        trained=trained,
        held_out=held_out,
        classes=classes,
        left_out=dict(patients.left_out),
        epsilon_after=after,
        epsilon_left=left,
        epsilon_charged=charged,
        candidates=plan.planned_candidates,
        candidates_allowed=allowed,
        blocking=tuple(blocking),
        advice=(*advice, *state.undecided()),
    )


def _candidates_allowed(ledger: Ledger, plan: StudyPlan, policy: Policy) -> int:
    """How many of the plan's candidates both budgets allow, by what the ledger really holds."""
    rules = policy.budget
    charges = [signed.charge for signed in ledger.entries() if signed.charge.kind == "reserved"]
    here = [event for charge in charges if charge.study == plan.study for event in charge.events]
    if here and epsilon(merged(here), rules.delta) > rules.study_epsilon:
        return -1
    for candidates in range(plan.planned_candidates, -1, -1):
        events = study_events(plan, candidates)
        if (
            epsilon(events, rules.delta) <= rules.study_epsilon
            and epsilon_after(ledger, plan, rules.delta, candidates) <= rules.lifetime_epsilon
        ):
            return candidates
    return -1


def _smaller(plan: StudyPlan, allowed: int) -> str:
    """What to ask for instead."""
    if 0 < allowed < plan.planned_candidates:
        return f"it would fit with {allowed} of its {plan.planned_candidates} candidates: ask for that"
    return "ask for a smaller one"


def _classes(patients: TrainingSet) -> dict[str, int]:
    """How many patients have an image of each class."""
    found = Counter[int]()
    for cohort in (patients.trained, patients.held_out):
        for first, end in pairwise(cohort.starts.tolist()):
            found.update(set(cohort.labels[first:end].tolist()))
    return {name: found[index] for index, name in enumerate(patients.task.classes)}


def _too_few(policy: Policy, trained: int, held_out: int) -> tuple[str, ...]:
    rules = policy.cohort
    return tuple(
        f"{count} {kind} patients; cohort.{rule} asks for {least}: do not join, or ingest more"
        for kind, count, rule, least in (
            ("trained", trained, "minimum_trained", rules.minimum_trained),
            ("held-out", held_out, "minimum_held_out", rules.minimum_held_out),
        )
        if count < least
    )


def _delta(delta: float, patients: int) -> tuple[str, ...]:
    if delta * patients < 1:
        return ()
    return (f"delta {delta:g} is not below 1 / {patients}, the patients who are really here: ask for a smaller one",)
