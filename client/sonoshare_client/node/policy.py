"""The hospital's own rules, as ``policy.toml`` says them; nothing in a plan can widen them.

How a plan is held against them: ``plan_check``.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sonoshare_client.node.source_rules import SourceRules
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.canonical import canonical_bytes, sha256_hex
from sonoshare_shared.protocol.documents.base import HexDigest
from sonoshare_shared.protocol.documents.plan import MOST_CANDIDATES, Noise, Precision, Trained

Epsilon = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
Device = Annotated[str, Field(min_length=1, max_length=64)]


class _Rules(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BudgetRules(_Rules):
    """What may be spent.

    Attributes:
        lifetime_epsilon: all studies and audits together, at ``delta``.
        study_epsilon: one study with all its audits, at ``delta``.
        delta: the delta at which both are stated, and the largest delta a plan may use.
    """

    lifetime_epsilon: Epsilon = 20.0
    study_epsilon: Epsilon = 10.0
    delta: Annotated[float, Field(gt=0, lt=1e-2)] = 1e-3

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.study_epsilon > self.lifetime_epsilon:
            raise ValueError("study_epsilon is larger than lifetime_epsilon")
        return self


class CohortRules(_Rules):
    """Who is in the vault.

    Attributes:
        nominal: number of trained patients the hospital publicly declares; a round number near the truth.
        minimum_trained: with fewer trained patients the hospital's own checks say not to join. The agent never
            refuses by a count: a refusal would tell it.
        minimum_held_out: the same for held-out patients, who calibrate the audits.
        held_out_fraction: public probability with which a patient is held out; fixed when the vault is made.
    """

    nominal: Annotated[int, Field(ge=1)] = 100
    minimum_trained: Annotated[int, Field(ge=1)] = 10
    minimum_held_out: Annotated[int, Field(ge=0)] = 3
    held_out_fraction: Annotated[float, Field(ge=0.25, le=0.5)] = 0.3


class TrainingRules(_Rules):
    """What may be trained.

    Attributes:
        trained: permitted sets of trained parameters.
        bases: permitted sha256 digests of base weights, or ``"any"``.
        precisions: permitted arithmetic of a training; each keeps the same promise to patients, because contributions
            are clipped and measured after whatever rounding came before (docs/devices.md).
        maximum_draws: most draws of one patient in one step.
        maximum_rounds: most rounds of a study.
        maximum_local_steps: most steps of one round.
        maximum_steps: most steps of a study.
        maximum_rate: most of the patients, on average, in one step.
        minimum_noise_multiplier: least noise of one step; the budget's rules ask for more in nearly every study.
        minimum_clip_norm: least bound on one patient's contribution, in the gradient's units.
        maximum_clip_norm: the largest.
        clip_modes: permitted ways to clip.
        minimum_canaries: fewest pseudo-patients that test the mechanism from within; 0 asks for none. Studies that
            train low-rank layers or everything have none.
        maximum_epsilon_calibration: most epsilon of the votes on a study's phantoms; 0 takes part in none.
        minimum_latest_time: training draws reach this diffusion time (of 1000) at least. Audits attack the model at
            times up to 150; a study that trains earlier ones alone could remember where nobody looks.
        noise: whose noise a plan may rest on: ``own``, and ``pooled`` with others' (docs/pooled-noise.md).
        maximum_colluding: of a plan with pooled noise: other hospitals that might work with the coordinator; every
            sum stays private against so many. The default trusts nobody, so that who permits ``pooled`` says whom.
    """

    trained: Annotated[tuple[Trained, ...], Field(min_length=1)] = ("affine", "outer", "lora", "full")
    bases: Literal["any"] | tuple[HexDigest, ...] = "any"
    precisions: Annotated[tuple[Precision, ...], Field(min_length=1)] = ("float32", "tf32", "bfloat16")
    maximum_draws: Annotated[int, Field(ge=1)] = 64
    maximum_rounds: Annotated[int, Field(ge=1)] = 1000
    maximum_local_steps: Annotated[int, Field(ge=1)] = 1000
    maximum_steps: Annotated[int, Field(ge=1)] = 10_000
    maximum_rate: Annotated[float, Field(gt=0, le=1)] = 0.5
    minimum_noise_multiplier: Annotated[float, Field(ge=1 / 64, le=1e6)] = 0.25
    minimum_clip_norm: Annotated[float, Field(ge=1e-9, le=1e9)] = 1e-4
    maximum_clip_norm: Annotated[float, Field(ge=1e-9, le=1e9)] = 100.0
    clip_modes: Annotated[tuple[Literal["clip", "normalise"], ...], Field(min_length=1)] = ("clip",)
    minimum_canaries: Annotated[int, Field(ge=0, le=1000)] = 0
    maximum_epsilon_calibration: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 2.0
    minimum_latest_time: Annotated[int, Field(ge=1, le=999)] = 150
    noise: Annotated[tuple[Noise, ...], Field(min_length=1)] = ("own",)
    maximum_colluding: Annotated[int, Field(ge=0, le=1000)] = 1000


class AuditRules(_Rules):
    """What an audit may cost, and what it must not tolerate.

    Attributes:
        maximum_epsilon_copies: most epsilon of one copy audit.
        maximum_epsilon_membership: most epsilon of one membership audit.
        maximum_epsilon_veto: most epsilon of the votes on one candidate; 0 takes part in no veto.
        maximum_tolerated_share: largest share of copied patients at which a PASS may still be possible.
        maximum_tolerated_auc: largest membership AUC at which a PASS may still be possible.
        maximum_alpha: largest error probability of each bound.
        maximum_candidates: most candidates of one study. Each is one more chance for a leak to be passed: with N of
            them a leak of the tolerated size passes with a chance of at most N times alpha.
        maximum_candidate_mib: most MiB of this disk that a candidate may take until its audit; it is one at a time.
    """

    maximum_epsilon_copies: Epsilon = 1.0
    maximum_epsilon_membership: Epsilon = 1.0
    maximum_epsilon_veto: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 0.0
    maximum_tolerated_share: Annotated[float, Field(gt=0, lt=1)] = 0.25
    maximum_tolerated_auc: Annotated[float, Field(gt=0.5, lt=1)] = 0.8
    maximum_alpha: Annotated[float, Field(gt=0, le=0.2)] = 0.05
    maximum_candidates: Annotated[int, Field(ge=1, le=MOST_CANDIDATES)] = 3
    maximum_candidate_mib: Annotated[int, Field(ge=1, le=1 << 20)] = 2048


class FederationRules(_Rules):
    """How the hospital takes part in exchanges, and when it answers.

    Attributes:
        peers: other hospitals of the roster that must be known to hold the same log before anything is charged: at
            least so many, and at least half of the roster's number; all others, where there are fewer. 0 rests on this
            hospital's own memory alone.
        reply_slot_seconds: the time from a request to a reply that was charged is this, or this doubled as often
            as it takes, so that it tells nothing finer of how long the work took; 0 answers at once.
        masking: of updates, so that the coordinator sees their sum alone (docs/masking.md): ``any`` takes part with and
            without, ``required`` with only, ``refused`` without only.
        approve: who decides about a study that is within these rules: they themselves, or a person at the hospital
            for each study (``sonoshare hospital approve``).
    """

    peers: Annotated[int, Field(ge=0, le=1000)] = 1
    reply_slot_seconds: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = 60.0
    masking: Literal["any", "required", "refused"] = "any"
    approve: Literal["rules", "person"] = "rules"


class IntakeRules(_Rules):
    """What intake may keep of a DICOM header, of pictures with colour, and of a clip.

    Attributes:
        devices: ``manufacturer model`` texts that may be kept as they are in a header; of any other device only
            the name of a well-known manufacturer is kept.
        colour: pictures with flow or elastography over them are taken in too, as grey levels; where a picture without
            colour stands beside one, that one is kept.
        sources: where pictures may come from by network.
        clip_frames: most pictures that are taken of one clip.
    """

    devices: tuple[Device, ...] = ()
    colour: bool = False
    sources: SourceRules = SourceRules()
    clip_frames: Annotated[int, Field(ge=1, le=16)] = 4


class Policy(_Rules):
    """All rules of a hospital; the defaults are what a new node gets."""

    budget: BudgetRules = BudgetRules()
    cohort: CohortRules = CohortRules()
    training: TrainingRules = TrainingRules()
    audit: AuditRules = AuditRules()
    federation: FederationRules = FederationRules()
    intake: IntakeRules = IntakeRules()

    @model_validator(mode="after")
    def _a_clip_norm_is_left(self) -> Self:
        if self.training.minimum_clip_norm > self.training.maximum_clip_norm:
            raise ValueError("training.minimum_clip_norm must not be larger than training.maximum_clip_norm")
        return self

    @model_validator(mode="after")
    def _delta_is_small(self) -> Self:
        if self.budget.delta * self.cohort.nominal >= 1:
            raise ValueError("budget.delta must be smaller than 1 / cohort.nominal")
        return self

    def digest(self) -> str:
        """Sha256 of the rules, 64 hexadecimal characters."""
        return sha256_hex(canonical_bytes(self.model_dump(mode="json")))


def read_policy(path: Path) -> Policy:
    """Read ``policy.toml``.

    Raises:
        InputError: missing, not TOML, an unknown rule or a value out of range; names the first offending rule.
    """
    try:
        return Policy.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise InputError(
            "policy.toml is missing", remedy="restore it; 'sonoshare hospital init' writes a fresh one"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"policy.toml is not TOML: {error}", remedy="correct the file") from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "policy"
        raise InputError(f"policy.toml: {place}: {first['msg']}", remedy="correct the file") from error


def policy_for(nominal: int | None) -> Policy:
    """The default rules for a declared number of trained patients; delta is at most 1 / (10 x nominal)."""
    if nominal is None:
        return Policy()
    delta = min(BudgetRules().delta, 0.1 / nominal)
    return Policy(cohort=CohortRules(nominal=nominal), budget=BudgetRules(delta=delta))
