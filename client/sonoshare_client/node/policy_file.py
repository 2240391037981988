"""The text of ``policy.toml`` as a new node gets it: every rule, its value and what it means."""

import json
from collections.abc import Mapping
from typing import Any, Final

from sonoshare_client.node.policy import Policy

_OPENING: Final = """\
# The rules of this hospital. The node reads them before every answer to the federation; nothing that a
# coordinator sends can widen them. Change them with any editor; 'sonoshare hospital policy show' checks the file.
"""

# section -> (what it is about, rule -> comment), in the order in which a person would ask.
_COMMENTS: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "budget": (
        "What may be spent. Neighbouring: one patient with all images, added or removed.",
        {
            "lifetime_epsilon": "All studies and audits together. What is spent never comes back.",
            "study_epsilon": "One study with its calibration and all its audits.",
            "delta": "The delta at which both are stated, and the largest a plan may use; below 1 / nominal.",
        },
    ),
    "cohort": (
        "Who is in the vault. Everything here is public.",
        {
            "nominal": "Trained patients the hospital declares: a round number near the truth. Plans divide by it.",
            "minimum_trained": "With fewer trained patients 'policy check' and 'start' say not to join.",
            "minimum_held_out": "The same for held-out patients, who calibrate audits; 40 give audits some power.",
            "held_out_fraction": "Probability that a patient is held out. Fixed once the vault has its first image.",
        },
    ),
    "training": (
        "What may be trained.",
        {
            "trained": "Permitted sets of trained parameters: affine, outer, lora, full.",
            "bases": '"any", or a list of permitted sha256 digests of base weights.',
            "precisions": "Permitted arithmetic of a training: float32, tf32, bfloat16 (docs/devices.md).",
            "maximum_draws": "Most draws of one patient in one step.",
            "maximum_rounds": "Most rounds of a study.",
            "maximum_local_steps": "Most steps of one round.",
            "maximum_steps": "Most steps of a study.",
            "maximum_rate": "Most of the patients, on average, in one step.",
            "minimum_noise_multiplier": "Least noise of one step; the budget asks for more in nearly every study.",
            "minimum_clip_norm": "Least bound on one patient's contribution, in the gradient's units.",
            "maximum_clip_norm": "The largest.",
            "clip_modes": "Permitted ways to clip: clip, normalise.",
            "minimum_canaries": "Fewest pseudo-patients that test the mechanism; 0 asks for none.",
            "maximum_epsilon_calibration": "Most epsilon of the votes on a study's phantoms; 0 takes part in none.",
            "minimum_latest_time": "Training draws reach this diffusion time; audits attack the model up to 150.",
            "noise": "Whose noise a plan may rest on: own; pooled (shared with others: read docs/pooled-noise.md).",
            "maximum_colluding": "Pooled noise: other hospitals that might work with the coordinator. 1000: any.",
        },
    ),
    "audit": (
        "What an audit may cost, and what it must not tolerate.",
        {
            "maximum_epsilon_copies": "Most epsilon of one copy audit.",
            "maximum_epsilon_membership": "Most epsilon of one membership audit.",
            "maximum_epsilon_veto": "Most epsilon of the votes on one candidate; 0 takes part in no veto.",
            "maximum_tolerated_share": "Largest share of copied patients at which a PASS may still be possible.",
            "maximum_tolerated_auc": "Largest membership AUC at which a PASS may still be possible.",
            "maximum_alpha": "Largest error probability of each bound.",
            "maximum_candidates": "Most candidates of a study; each is paid for, and one more chance for a leak.",
            "maximum_candidate_mib": "Most MiB of this disk that a candidate takes until its audit; one at a time.",
        },
    ),
    "federation": (
        "What must be known of the others before anything is charged (docs/witness.md), and when answers leave.",
        {
            "peers": "Least other hospitals that must be known to hold the same log; half of all in any case. 0: none.",
            "reply_slot_seconds": "Charged replies leave after this, or twice or four times ... as long.",
            "masking": "Of updates, so that only their sum is seen (docs/masking.md): any, required, refused.",
            "approve": '"rules": what these rules permit is done; "person": see hospital studies and approve, too.',
        },
    ),
    "intake": (
        "What intake may keep of a DICOM header, of pictures with colour, and of a clip.",
        {
            "devices": '"manufacturer model" texts that may be kept; of others only a well-known manufacturer is.',
            "colour": "Take in pictures with flow or elastography over them, as grey levels.",
            "clip_frames": "Most pictures that are taken of one clip, spread over it.",
        },
    ),
    "intake.sources": (
        "Where pictures may come from by network (docs/sources.md). As shipped nothing listens, nothing is asked.",
        {
            "title": "This node's application entity title.",
            "address": "The receiver listens here; another than loopback lets other machines in.",
            "port": "And here; 0: nothing listens.",
            "callers": 'Who may send: "TITLE@ADDRESS"; "*@ADDRESS" for any title from there.',
            "peers": 'Who may be asked by C-FIND and C-MOVE: "TITLE@ADDRESS:PORT".',
            "dicomweb": 'Which DICOMweb servers may be asked: "https://HOST:PORT"; http for an address only.',
            "maximum_object_mib": "Largest object that is received or fetched.",
            "maximum_inbox_mib": "Most that waits in the inbox.",
        },
    ),
}


def policy_text(policy: Policy) -> str:
    """A commented ``policy.toml`` that reads back as this policy."""
    values: dict[str, Mapping[str, Any]] = policy.model_dump(mode="json")
    values["intake.sources"] = values["intake"]["sources"]
    parts = [_OPENING]
    for section, (about, comments) in _COMMENTS.items():
        lines = [f"[{section}]", f"# {about}"]
        lines += [f"{name} = {_toml(values[section][name])}  # {comment}" for name, comment in comments.items()]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _toml(value: Any) -> str:
    """A TOML value; JSON's strings, numbers and flat lists are TOML's."""
    return json.dumps(value)
