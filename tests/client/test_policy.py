"""The hospital's own rules: what a plan may not do, whatever the coordinator says."""

import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.plan_check import check_plan, read_plan, study_epsilon, training_epsilon
from sonoshare_client.node.policy import (
    AuditRules,
    BudgetRules,
    CohortRules,
    IntakeRules,
    Policy,
    TrainingRules,
    policy_for,
    read_policy,
)
from sonoshare_client.node.policy_file import policy_text
from sonoshare_client.node.pooled_policy import epsilon_alone, require_honest_sum
from sonoshare_privacy.audits.membership import LOW_NOISE_TIMES
from sonoshare_shared.errors import InputError, PolicyError
from sonoshare_shared.protocol.documents import AuditPlan, Mechanism, ReleasePlan, StudyPlan, Task
from sonoshare_shared.protocol.documents.plan import PLAN_PAYLOAD_TYPE, VetoPlan
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import SigningKey

TASK = Task(name="diagnosis", question="benign or malignant?", classes=("benign", "malignant"))
MECHANISM = Mechanism(rate=0.5, noise_multiplier=4.0, clip_norm=1.0, draws=8, delta=1e-3)
AUDIT = AuditPlan(
    held_out_fraction=0.3, epsilon_copies=0.5, epsilon_membership=0.5, tolerated_share=0.1, tolerated_auc=0.7
)


def plan(mechanism: Any = None, audit: dict[Any, Any] | None = None, **changes: Any) -> StudyPlan:
    values: dict[str, Any] = {
        "study": "study-1",
        "task": TASK,
        "profile": "tiny",
        "base_digest": "a" * 64,
        "trained": "affine",
        "rounds": 3,
        "local_steps": 5,
        "mechanism": MECHANISM.model_copy(update=mechanism or {}),
        "learning_rate": 0.01,
        "cohorts": {"north": 100, "south": 80},
        "quorum": 2,
        "round_deadline_seconds": 60,
        "audit": AUDIT.model_copy(update=audit or {}),
        "release": ReleasePlan(images=10, sampler_steps=10, start="noise"),
    }
    return StudyPlan(**(values | changes))


def test_a_plan_within_the_rules_is_permitted_at_the_hospitals_own_epsilon() -> None:
    spent = check_plan(plan(), Policy(), "north")
    training = training_epsilon(plan(), 1e-3)
    assert 0 < training < spent <= training + 1.0 + 1e-6
    assert spent == study_epsilon(plan(), 1e-3)


def test_votes_count_towards_the_study_and_need_the_hospitals_own_rule() -> None:
    voting = plan(audit={"veto": VetoPlan(epsilon=0.5)})
    willing = Policy(audit=AuditRules(maximum_epsilon_veto=0.5))
    assert check_plan(voting, willing, "north") > check_plan(plan(), Policy(), "north")


BROKEN: dict[str, Any] = {
    "not named": ({"cohorts": {"south": 80}, "quorum": 1}, Policy(), "does not name"),
    "other cohort": ({"cohorts": {"north": 500}, "quorum": 1}, Policy(), "declares 100"),
    "large delta": ({"mechanism": {"delta": 5e-3}}, Policy(), r"larger than the policy's 0\.001"),
    "a delta at which no epsilon holds": ({"mechanism": {"delta": 1e-15}}, Policy(), "no epsilon holds"),
    "too little noise": ({"mechanism": {"noise_multiplier": 0.5}}, Policy(), "would cost epsilon"),
    "no noise to speak of": ({"mechanism": {"noise_multiplier": 0.1}}, Policy(), r"0\.1 as noise multiplier"),
    "noise that is no number": ({"mechanism": {"noise_multiplier": math.nan}}, Policy(), "noise multiplier"),
    "a clip norm that vanishes": ({"mechanism": {"clip_norm": 1e-30}}, Policy(), "1e-30 as clip norm"),
    "a clip norm that is no number": ({"mechanism": {"clip_norm": math.nan}}, Policy(), "as clip norm"),
    "a huge clip norm": ({"mechanism": {"clip_norm": 1e6}}, Policy(), r"1e\+06 as clip norm"),
    "another way to clip": ({"mechanism": {"clip_mode": "normalise"}}, Policy(), "clips by 'normalise'"),
    "most patients in every step": ({"mechanism": {"rate": 0.75}}, Policy(), r"0\.75 as sampling rate"),
    "steps of all rounds": ({}, Policy(training=TrainingRules(maximum_steps=14)), "15 steps"),
    "times at which no audit attacks": (
        {"latest_time": 60, "release": ReleasePlan(images=10, sampler_steps=8, start="phantom", start_time=60)},
        Policy(),
        "60 as last time of its draws; the policy asks for 150",
    ),
    "no canaries": ({}, Policy(training=TrainingRules(minimum_canaries=24)), "24 at least"),
    "too many steps": ({"rounds": 180, "local_steps": 50}, Policy(), "would cost epsilon"),
    "audits count, all of them": (
        {"audit": {"max_candidates": 16}},
        Policy(audit=AuditRules(maximum_candidates=16)),
        "with its audits",
    ),
    "planned candidates count, all of them": (
        {"candidates": 16},
        Policy(audit=AuditRules(maximum_candidates=16)),
        "with its audits",
    ),
    "more candidates than the hospital looks at": ({"candidates": 4}, Policy(), "4 candidates; the policy permits 3"),
    "full training": ({"trained": "full"}, Policy(training=TrainingRules(trained=("affine",))), "permits affine"),
    "other base": ({}, Policy(training=TrainingRules(bases=("b" * 64,))), "base weights"),
    "draws": ({"mechanism": {"draws": 65}}, Policy(), "65 draws"),
    "rounds": ({"rounds": 11}, Policy(training=TrainingRules(maximum_rounds=10)), "11 rounds"),
    "local steps": ({"local_steps": 11}, Policy(training=TrainingRules(maximum_local_steps=10)), "11 local steps"),
    "dear copy audit": ({"audit": {"epsilon_copies": 2.0}}, Policy(), "epsilon_copies"),
    "dear membership audit": ({"audit": {"epsilon_membership": 2.0}}, Policy(), "epsilon_membership"),
    "votes that the hospital has not opted in to": (
        {"audit": {"veto": VetoPlan(epsilon=0.5)}},
        Policy(),
        "epsilon_veto",
    ),
    "tolerant copies": ({"audit": {"tolerated_share": 0.9}}, Policy(), "tolerated_share"),
    "tolerant membership": ({"audit": {"tolerated_auc": 0.99}}, Policy(), "tolerated_auc"),
    "loose bounds": ({"audit": {"alpha": 0.2}}, Policy(), "alpha"),
    "more held out than there are": ({"audit": {"held_out_fraction": 0.5}}, Policy(), "held out"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_plan_that_breaks_a_rule_is_refused_with_the_rule_and_a_remedy(case: str) -> None:
    changes, policy, words = BROKEN[case]
    with pytest.raises(PolicyError, match=words) as refused:
        check_plan(plan(**changes), policy, "north")
    assert refused.value.remedy


def test_training_reaches_every_time_at_which_audits_attack() -> None:
    assert TrainingRules().minimum_latest_time == max(LOW_NOISE_TIMES)


def test_delta_is_held_against_the_cohort_even_if_the_document_was_not_checked() -> None:
    loose = plan().model_copy(
        update={"cohorts": {"north": 250}, "mechanism": MECHANISM.model_copy(update={"delta": 4e-3})}
    )
    with pytest.raises(PolicyError, match="not smaller than 1 / 250"):
        check_plan(loose, Policy(cohort=CohortRules(nominal=250)), "north")


def test_case_44_the_check_uses_public_constants_only(tmp_path: Path) -> None:
    """The same plan costs the same whatever is in any vault: nothing but plan and policy goes in."""
    assert check_plan(plan(), Policy(), "north") == check_plan(plan(), Policy(), "north")
    assert math.isfinite(check_plan(plan(cohorts={"north": 100, "west": 7}), Policy(), "north"))


@pytest.mark.parametrize(
    "policy",
    [
        Policy(),
        policy_for(40),
        policy_for(100_000),
        Policy(
            budget=BudgetRules(lifetime_epsilon=3, study_epsilon=1.5, delta=1e-5),
            training=TrainingRules(trained=("affine",), bases=("a" * 64, "b" * 64)),
            audit=AuditRules(maximum_alpha=0.01),
            intake=IntakeRules(devices=('Ge "Logiq"', "Ünit\\1")),
        ),
    ],
)
def test_the_written_policy_reads_back_and_explains_every_rule(policy: Policy, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(policy_text(policy), encoding="utf-8")
    assert read_policy(path) == policy
    for line in path.read_text(encoding="utf-8").splitlines():
        assert " = " not in line or "  # " in line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[budget]\nlifetime_epsilon = 1e9\n", "lifetime_epsilon"),
        ("[budget]\nlifetime_epsilon = nan\n", "lifetime_epsilon"),
        ("[budget]\nstudy_epsilon = 30.0\n", "larger than lifetime"),
        ("[cohort]\nnominal = 5000\n", "1 / cohort.nominal"),
        ("[cohort]\nheld_out_fraction = 0.05\n", "held_out_fraction"),
        ("[budgett]\nx = 1\n", "budgett"),
        ("[training]\ntrained = []\n", "trained"),
        ("[training]\nbases = 'none'\n", "bases"),
        ("[federation]\nreply_slot_seconds = -1\n", "reply_slot_seconds"),
        ("budget = [\n", "not TOML"),
    ],
)
def test_a_wrong_policy_file_is_one_clear_error(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_policy(path)


def test_a_policy_is_frozen_and_has_a_digest() -> None:
    with pytest.raises(ValidationError):
        Policy().budget.delta = 1e-2
    assert Policy().digest() == Policy().digest() != policy_for(40).digest()


def test_a_plan_is_read_bare_or_in_its_envelope(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(plan().canonical())
    assert read_plan(path) == plan()
    path.write_bytes(Envelope.sign(PLAN_PAYLOAD_TYPE, plan().canonical(), SigningKey.generate()).to_bytes())
    assert read_plan(path) == plan()
    for content in (b"", b"{}", b'{"payload": "!"}', b"[1]", b"\xff"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="not a study plan"):
            read_plan(path)


def test_home_is_made_completely_or_not_at_all(tmp_path: Path) -> None:
    home = NodeHome.create(tmp_path / "a" / "node", "st-elsewhere", policy=policy_for(40))
    assert NodeHome.open(home.path) == home
    assert home.policy().cohort.nominal == 40
    assert home.node_public_key.startswith("ecdsa-sha2-nistp384 ")
    assert len(home.node_public_key.split()) == 2
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["node"]
    with pytest.raises(InputError, match="in use"):
        NodeHome.create(home.path, "other")
    with pytest.raises(InputError, match="lowercase"):
        NodeHome.create(tmp_path / "b", "../x")
    with pytest.raises(InputError, match="is not a hospital's folder"):
        NodeHome.open(tmp_path)
    assert not (tmp_path / "b").exists()


def test_vault_key_may_lie_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    home = NodeHome.create(tmp_path / "node", "north", vault_key=tmp_path / "keys" / "north.key")
    assert home.vault_key_path == tmp_path / "keys" / "north.key"
    assert home.vault_key_path.stat().st_size == 32
    assert not (home.path / "vault.key").exists()


def test_two_nodes_share_no_key(tmp_path: Path) -> None:
    nodes = [NodeHome.create(tmp_path / name, "north") for name in ("a", "b")]
    for read in (
        lambda home: home.identity().public.hex,
        lambda home: home.node_public_key,
        lambda home: home.vault_key_path.read_bytes(),
    ):
        assert len({read(home) for home in nodes}) == 2


def test_the_arithmetic_of_a_training_is_the_hospitals_choice() -> None:
    for precision in (None, "float32", "tf32", "bfloat16"):
        check_plan(plan(precision=precision), Policy(), "north")
    exact = Policy(training=TrainingRules(precisions=("float32",)))
    check_plan(plan(), exact, "north")
    with pytest.raises(PolicyError, match="the plan computes in 'bfloat16'; the policy permits float32") as found:
        check_plan(plan(precision="bfloat16"), exact, "north")
    assert "training.precisions" in found.value.remedy


def test_a_policy_file_of_before_permits_every_precision(tmp_path: Path) -> None:
    lines = policy_text(Policy()).splitlines()
    path = tmp_path / "policy.toml"
    path.write_text("\n".join(line for line in lines if not line.startswith("precisions")))
    assert len(path.read_text().splitlines()) == len(lines) - 1
    assert read_policy(path) == Policy()


def test_a_node_says_where_it_computes_and_one_of_before_takes_what_there_is(tmp_path: Path) -> None:
    assert NodeHome.create(tmp_path / "usual", "north").device == "auto"
    chosen = NodeHome.create(tmp_path / "chosen", "north", device="cuda:1")
    assert chosen.device == "cuda:1"
    lines = chosen.home_path.read_text().splitlines()
    chosen.home_path.write_text("\n".join(line for line in lines if "device" not in line))
    assert NodeHome.open(chosen.path).device == "auto"


def pooled_plan(honest: int = 2, hospitals: int = 4) -> StudyPlan:
    cohorts = {"north": 100} | {f"other-{i}": 80 for i in range(hospitals - 1)}
    return plan(
        noise="pooled", honest=honest, masked=True, local_steps=1, rounds=15, cohorts=cohorts, quorum=max(3, honest)
    )


def test_pooled_noise_is_refused_until_the_hospital_permits_it_and_says_whom_it_trusts() -> None:
    usual = Policy(cohort=CohortRules(nominal=100))
    with pytest.raises(PolicyError, match="the plan's noise is 'pooled'; the policy permits own"):
        check_plan(pooled_plan(), usual, "north")
    opted = usual.model_copy(update={"training": TrainingRules(noise=("own", "pooled"))})
    with pytest.raises(PolicyError, match="rests on 2 honest ones; the policy allows for 1000 that are not"):
        check_plan(pooled_plan(), opted, "north")
    for colluding, honest, allowed in ((0, 4, True), (1, 4, False), (1, 3, True), (2, 2, True), (3, 2, False)):
        rules = TrainingRules(noise=("own", "pooled"), maximum_colluding=colluding)
        deciding = usual.model_copy(update={"training": rules})
        if allowed:
            assert check_plan(pooled_plan(honest), deciding, "north") > 0
        else:
            with pytest.raises(PolicyError, match="honest"):
                check_plan(pooled_plan(honest), deciding, "north")
    assert check_plan(plan(noise="own"), usual, "north") == check_plan(plan(), usual, "north")


def test_a_sum_over_fewer_hospitals_withstands_fewer_that_collude() -> None:
    four = pooled_plan(honest=2, hospitals=4)
    require_honest_sum(four, members=4, colluding=2)
    require_honest_sum(four, members=3, colluding=1)
    for members, colluding in ((3, 2), (1, 0), (2, 1)):
        with pytest.raises(PolicyError, match=f"the sum of {members} hospitals"):
            require_honest_sum(four, members=members, colluding=colluding)
    require_honest_sum(plan(), members=1, colluding=1000)


def test_pooled_noise_costs_what_the_whole_noise_costs_and_says_what_is_left_without_masks() -> None:
    own, pooled = plan(local_steps=1, rounds=15), pooled_plan(honest=4)
    assert training_epsilon(pooled, 1e-3) == training_epsilon(own, 1e-3)
    assert epsilon_alone(own, 1e-3) is None
    quieter = plan({"noise_multiplier": 2.0}, local_steps=1, rounds=15)
    assert epsilon_alone(pooled, 1e-3) == pytest.approx(training_epsilon(quieter, 1e-3))
    assert study_epsilon(pooled, 1e-3) == study_epsilon(own, 1e-3)
