"""``sonoshare verify``: check a release folder, a hospital's exported ledger, or evidence of misconduct, offline."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from sonoshare_deploy.cli.output import emit, insist, json_option
from sonoshare_shared.bounded import read_bounded
from sonoshare_shared.errors import InputError, IntegrityError, NewerVersionError, VerificationError

if TYPE_CHECKING:
    from sonoshare_shared.protocol.documents.charge import LedgerExport
    from sonoshare_shared.protocol.envelope import Envelope
    from sonoshare_shared.protocol.keys import PublicKey
    from sonoshare_shared.protocol.release.evidence import LogView
    from sonoshare_shared.protocol.release.verify import Verified

Human = Callable[[Console], None]

MAX_DOCUMENT_BYTES = 256 << 20
STALE_LOG = timedelta(days=7)
"""A log older than this may hide a revocation: said, but no reason to refuse, since verification works offline."""


@click.command()
@click.argument("path", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--roster", "roster_file", type=click.Path(path_type=Path), help="Signed roster you trust.")
@click.option("--log-head", type=click.Path(path_type=Path), help="Fresh log (GET /api/v1/log), to see revocations.")
@click.option("--root", help="The consortium's root key (hexadecimal), if you have it from elsewhere.")
@click.option(
    "--server", envvar="SONOSHARE_SERVER", help="Catalogue you have logged in to, whose pinned root and roster to use."
)
@json_option
def command(
    *, path: Path, roster_file: Path | None, log_head: Path | None, root: str | None, server: str | None, as_json: bool
) -> int:
    """Verify the release in DIR: files, statements, signatures and log proof. No network is used.

    Without --roster the roster is used that was seen last at the catalogue you logged in to (sonoshare login).

    DIR may also be a file, the export of a hospital's ledger (sonoshare hospital ledger --export): its order, chain and
    signatures are verified with the key that the roster names. Or it is evidence that a hospital or the coordinator
    keeps of somebody who signed what cannot be true: then it says who, and what. Exit status 1 names the cause.

    Example: sonoshare verify r1 --roster roster.dsse.json
    """
    if roster_file is None and not path.exists():  # before a login is asked for, which would not help
        raise InputError(f"there is no {path}", remedy="give the folder of a release, or an exported file")
    try:
        roster, key = trusted(roster_file, root, server)
        if path.is_file():
            check_file = check_evidence if _is_evidence(path) else check_ledger
            result, verified = check_file(path, roster, root=key)
        else:
            result, verified = check(path, roster, log_head=log_head, root=key)
    except VerificationError as error:
        if as_json:
            emit({"verified": False, "cause": error.cause, "message": error.message}, as_json)
        raise
    emit(result, as_json, verified)
    if _is_stale(result.get("revocations_known_until")):
        insist(f"warning: the log given is older than {STALE_LOG.days} days: fetch a fresh one")
    return 0


def trusted(roster_file: Path | None, root: str | None, server: str | None) -> "tuple[Envelope, PublicKey | None]":
    """Roster and root key to verify with: those given, or those of the login.

    Raises:
        UsageError: neither is there.
    """
    from sonoshare_deploy.researcher.places import read_known  # noqa: PLC0415 - keeps --help fast, here and below
    from sonoshare_deploy.researcher.trust import read_roster  # noqa: PLC0415
    from sonoshare_shared.protocol.keys import PublicKey  # noqa: PLC0415

    key = PublicKey.from_hex(root) if root else None
    if roster_file is not None:
        return read_roster(roster_file), key
    known = read_known()
    asked = server or known.server
    place = None if asked is None else known.at(asked)
    if place is None or place.pin is None or place.roster is None:
        raise click.UsageError("give the consortium's signed roster, --roster FILE; or log in: sonoshare login URL")
    return place.roster, key or PublicKey.from_hex(place.pin.root)


def check(
    folder: Path, roster: "Envelope", *, log_head: Path | None, root: "PublicKey | None"
) -> tuple[dict[str, object], Human]:
    """Verify a folder and say what was found, for machines and for people.

    Raises:
        VerificationError: the release is not verified.
    """
    return described(check_release(folder, roster, log_head=log_head, root=root))


def check_release(folder: Path, roster: "Envelope", *, log_head: Path | None, root: "PublicKey | None") -> "Verified":
    """Verify a folder as of now.

    Raises:
        VerificationError: the release is not verified.
    """
    from sonoshare_shared.protocol.release.verify import verify_release  # noqa: PLC0415

    log = read_log(log_head) if log_head else None
    return verify_release(folder, roster, now=datetime.now(UTC), root=root, log=log)


def described(verified: "Verified") -> tuple[dict[str, object], Human]:
    """What is said of a release that was verified, for machines and for people."""
    manifest, known = verified.manifest, verified.revocations_known_until
    result: dict[str, object] = {
        "verified": True,
        "cause": None,
        "release": manifest.release,
        "manifest_digest": verified.manifest_digest,
        "hospitals": list(verified.hospitals),
        "epsilon": manifest.privacy.epsilon,
        "delta": manifest.privacy.delta,
        "honest": manifest.privacy.honest,
        "files": verified.files,
        "logged_at": verified.logged_at.isoformat(),
        "revocations_known_until": known.isoformat() if known else None,
    }

    def human(console: Console) -> None:
        console.print(f"[green]verified[/green] {manifest.release}: {verified.files} files, {verified.size:,} bytes")
        console.print(f"  passed and signed by {', '.join(verified.hospitals)}")
        console.print(
            f"  epsilon {manifest.privacy.epsilon:.3f} at delta {manifest.privacy.delta:.1e}, for one patient"
        )
        if manifest.privacy.honest is not None:
            console.print(
                f"  as long as {manifest.privacy.honest} hospitals of every sum are honest: they share the noise"
            )
        console.print(f"  in the transparency log since {verified.logged_at:%Y-%m-%d} (UTC)")
        looked = f"looked for until {known:%Y-%m-%d %H:%M} UTC" if known else "not looked for (give --log-head)"
        console.print(f"  revocations: {looked}")

    return result, human


def check_ledger(path: Path, roster: "Envelope", *, root: "PublicKey | None") -> tuple[dict[str, object], Human]:
    """Verify an exported ledger: every entry follows the one before and is signed by the hospital's own key.

    What it says of epsilon is the hospital's signed word, computed when each charge was made; the events are there, so
    that anybody can compose them again.

    Raises:
        VerificationError: cause ``ledger`` or ``roster``.
    """
    from sonoshare_shared.protocol.documents.charge import most_honest  # noqa: PLC0415
    from sonoshare_shared.protocol.release.verify import open_roster  # noqa: PLC0415

    named = open_roster(roster, root)
    export = _read_export(path)
    hospital = named.hospital(export.hospital)
    if hospital is None:
        raise VerificationError("ledger", f"the roster names no hospital {export.hospital}")
    try:
        charges = export.verify(hospital.key)
    except IntegrityError as error:
        raise VerificationError.because("ledger", error) from error
    last, rests = charges[-1], most_honest(charges)
    result: dict[str, object] = {
        "verified": True,
        "cause": None,
        "hospital": export.hospital,
        "entries": len(export.entries),
        "head": export.head,
        "epsilon_lifetime": last.epsilon_lifetime,
        "honest": rests,
    }

    def human(console: Console) -> None:
        console.print(
            f"[green]verified[/green] ledger of {export.hospital}: {len(export.entries)} entries in one chain"
        )
        console.print(f"  epsilon of its life: at most {last.epsilon_lifetime:.3f}, as of {last.time[:10]}")
        if rests is not None:
            console.print(f"  where noise was shared: as long as {rests} hospitals of every sum were honest")
        console.print(f"  head {export.head}", highlight=False, soft_wrap=True)

    return result, human


def check_evidence(path: Path, roster: "Envelope", *, root: "PublicKey | None") -> tuple[dict[str, object], Human]:
    """Check whether a file proves that the coordinator or a hospital of the roster signed what cannot be true.

    Raises:
        VerificationError: cause ``evidence`` (it proves nothing) or ``roster``.
    """
    from sonoshare_shared.protocol.misconduct import verify_evidence  # noqa: PLC0415
    from sonoshare_shared.protocol.release.verify import open_roster  # noqa: PLC0415

    named = open_roster(roster, root)
    against, words = verify_evidence(read_bounded(path, MAX_DOCUMENT_BYTES), named)
    result: dict[str, object] = {"verified": True, "cause": None, "against": against, "what": words}

    def human(console: Console) -> None:
        console.print(f"[green]verified[/green] evidence against {against}: it {words}", highlight=False)

    return result, human


def _is_evidence(path: Path) -> bool:
    """Whether a file says of itself that it is evidence; what it proves is checked apart."""
    from sonoshare_shared.protocol.misconduct import SCHEMA_PREFIX  # noqa: PLC0415

    try:
        said = json.loads(read_bounded(path, MAX_DOCUMENT_BYTES))
    except (OSError, InputError, ValueError, RecursionError):
        return False
    return isinstance(said, dict) and str(said.get("schema")).startswith(SCHEMA_PREFIX)


def _read_export(path: Path) -> "LedgerExport":
    from sonoshare_shared.protocol.documents.charge import LedgerExport  # noqa: PLC0415

    try:
        return LedgerExport.from_bytes(read_bounded(path, MAX_DOCUMENT_BYTES))
    except InputError as error:
        raise VerificationError("ledger", error.message, remedy=error.remedy) from error
    except OSError as error:
        raise VerificationError("ledger", f"cannot read {path.name}") from error
    except IntegrityError as error:
        raise VerificationError.because("ledger", error) from error


def _is_stale(known_until: object) -> bool:
    return isinstance(known_until, str) and datetime.now(UTC) - datetime.fromisoformat(known_until) > STALE_LOG


def read_log(path: Path) -> "LogView | Envelope":
    """A whole log, or the signed head alone.

    Raises:
        VerificationError: cause ``log-proof``: it is neither.
    """
    from sonoshare_shared.protocol.envelope import Envelope  # noqa: PLC0415
    from sonoshare_shared.protocol.release.evidence import LogView  # noqa: PLC0415

    try:
        data = read_bounded(path, MAX_DOCUMENT_BYTES)
    except InputError as error:
        raise VerificationError("log-proof", error.message, remedy=error.remedy) from error
    except OSError as error:
        raise VerificationError("log-proof", f"cannot read {path.name}") from error
    try:
        return LogView.from_bytes(data)
    except NewerVersionError as error:
        raise VerificationError.because("log-proof", error) from error
    except IntegrityError:
        pass
    try:
        return Envelope.from_bytes(data)
    except VerificationError as error:
        raise VerificationError(
            "log-proof", f"{path.name} is no log", remedy="fetch it again: GET /api/v1/log"
        ) from error
