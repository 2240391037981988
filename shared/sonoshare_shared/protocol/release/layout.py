"""The names of a release folder, in one place.

images/000000.png            8-bit greyscale synthetic image; the number is the index of the sample
masks/000000.png             8-bit lesion mask, 0 or 255
metadata.csv                 one row an image (imagefolder layout)
contact-sheet.png            a picture of some of the images
croissant.json               machine-readable description (Croissant 1.0)
DATASHEET.md LICENSE.txt     what it is and what may be done with it
privacy-report.{json,html}   what was promised and measured about patients
utility-report.{json,html}   what it was measured to be worth, or that it was not measured
candidate.json               every image that the hospitals audited, with digests
plan.json roster.dsse.json   the study plan, and who belonged to the consortium
ballot.safetensors           what patients voted on, where the plan has a calibration
votes/H.dsse.json            signed noisy votes of hospital H, where the plan has a calibration
attestations/H.dsse.json     audit statement of hospital H over the candidate
manifest.json                every file above with digest and size
signatures/H.dsse.json       signature of hospital H over the manifest's exact bytes
log-proof.json               inclusion of the manifest in the transparency log
SHA256SUMS                   for ``sha256sum -c``: the manifest and every file that it lists
"""

IMAGES = "images"
MASKS = "masks"
METADATA = "metadata.csv"
CONTACT_SHEET = "contact-sheet.png"
CROISSANT = "croissant.json"
DATASHEET = "DATASHEET.md"
LICENCE = "LICENSE.txt"
PRIVACY_JSON = "privacy-report.json"
PRIVACY_HTML = "privacy-report.html"
UTILITY_JSON = "utility-report.json"
UTILITY_HTML = "utility-report.html"
CANDIDATE = "candidate.json"
PLAN = "plan.json"
ROSTER = "roster.dsse.json"
BALLOT = "ballot.safetensors"
VOTES = "votes"
ATTESTATIONS = "attestations"
MANIFEST = "manifest.json"
SIGNATURES = "signatures"
LOG_PROOF = "log-proof.json"
SHA256SUMS = "SHA256SUMS"

ENVELOPE_SUFFIX = ".dsse.json"

METADATA_COLUMNS = ("file_name", "label", "scanner", "x", "y", "w", "h", "mask_file_name", "index", "seed")
CASE_COLUMNS = ("case", "split", "birads", "mm_per_pixel_x", "mm_per_pixel_y")
"""Further columns, where the candidate says which simulated breast an image was drawn from."""

REQUIRED = (
    METADATA,
    CONTACT_SHEET,
    CROISSANT,
    DATASHEET,
    LICENCE,
    PRIVACY_JSON,
    PRIVACY_HTML,
    UTILITY_JSON,
    UTILITY_HTML,
    CANDIDATE,
    PLAN,
    ROSTER,
)
"""Files, besides images, masks and attestations, that every manifest lists."""


def image_path(index: int) -> str:
    """Path of the image of a sample."""
    return f"{IMAGES}/{index:06d}.png"


def mask_path(index: int) -> str:
    """Path of the lesion mask of a sample."""
    return f"{MASKS}/{index:06d}.png"


def attestation_path(hospital: str) -> str:
    """Path of a hospital's audit statement."""
    return f"{ATTESTATIONS}/{hospital}{ENVELOPE_SUFFIX}"


def votes_path(hospital: str) -> str:
    """Path of a hospital's signed votes."""
    return f"{VOTES}/{hospital}{ENVELOPE_SUFFIX}"


def signature_path(hospital: str) -> str:
    """Path of a hospital's signature over the manifest."""
    return f"{SIGNATURES}/{hospital}{ENVELOPE_SUFFIX}"


def attached_paths(hospitals: tuple[str, ...]) -> tuple[str, ...]:
    """Files that a finished release holds and that no manifest can list: the manifest and what is made after it."""
    return (MANIFEST, SHA256SUMS, LOG_PROOF, *(signature_path(hospital) for hospital in hospitals))


def sha256sums(digests: dict[str, str]) -> bytes:
    """The SHA256SUMS file for digests by path: sorted, in the format that ``sha256sum -c`` reads."""
    return "".join(f"{digests[path]}  {path}\n" for path in sorted(digests)).encode()


def is_public(path: str) -> bool:
    """Whether a file may be read before the data-use agreement is accepted: all but the data themselves."""
    return not path.startswith((f"{IMAGES}/", f"{MASKS}/")) and path != METADATA
