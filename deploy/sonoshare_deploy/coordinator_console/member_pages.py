"""Members and invitations: what ``invite``, ``admit`` and ``expel`` do; fingerprints are seen before anything is done.

Whoever is admitted was asked by telephone: the fingerprint is typed, as the command asks for it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sonoshare_deploy.coordinator import tell_superlink
from sonoshare_deploy.coordinator_console.naming import given_name, named
from sonoshare_deploy.invited_address import invited_address
from sonoshare_server.consortium import admission, inviting
from sonoshare_server.consortium.members import read_members
from sonoshare_server.home import CoordinatorHome
from sonoshare_shared.errors import InputError
from sonoshare_shared.local_pages.guard import form_of
from sonoshare_shared.local_pages.pages import LocalPages
from sonoshare_shared.printable import printable
from sonoshare_shared.protocol.signed_files import JOIN_REQUEST, signed_text


@dataclass(frozen=True)
class Row:
    """A member, or who is invited.

    Attributes:
        id: of the hospital.
        fingerprint: of its identity key; empty where there is none yet.
        registered: whether the SuperLink lets its courier in.
        until: last day of its invitation; empty for a member.
        late: whether that is over.
    """

    id: str
    fingerprint: str
    registered: bool
    until: str = ""
    late: bool = False


def member_routes(home: CoordinatorHome, pages: LocalPages) -> list[Route]:
    """Routes of members and invitations."""

    def members(request: Request) -> Response:
        now = datetime.now(UTC)
        roster = home.roster if home.roster_path.exists() else None
        return pages.page(
            request,
            "members",
            members=_members(home),
            invited=_invited(home, now),
            roster=roster,
            root_fingerprint=home.root.fingerprint,
            root_here=home.root_key_path.is_file(),
            days=inviting.INVITATION_DAYS,
        )

    def invite(request: Request) -> Response:
        hospital = given_name(form_of(request).get("hospital", ""), "a hospital")
        address = invited_address(home, None)
        signed = inviting.invite(home, hospital, address, now=datetime.now(UTC))
        # The code in it is shown once, to this browser alone; it is kept nowhere here.
        name = f'attachment; filename="{hospital}-invitation.json"'
        return Response(signed.to_bytes(), media_type="application/json", headers={"Content-Disposition": name})

    return [
        Route("/members", members),
        Route("/members/invite", invite, methods=["POST"]),
        *_changes(home, pages),
    ]


def _changes(home: CoordinatorHome, pages: LocalPages) -> list[Route]:
    def admit(request: Request) -> Response:
        form, now = form_of(request), datetime.now(UTC)
        text = form.get("request", "").strip()
        signed = signed_text(text.encode(), JOIN_REQUEST)
        if "fingerprint" not in form:
            said = inviting.read_request(home, signed, now)
            return pages.page(
                request, "member_admit", asks=said, request_text=text, root_here=home.root_key_path.is_file()
            )
        told, key = form["fingerprint"], _root_key(form.get("root_key", ""))
        hospital, version = inviting.admit_request(home, signed, told, now=now, root_key=key)
        tell_superlink(home)
        return pages.done("/members", f"{hospital} is admitted: roster version {version}. {_send(home)}")

    def expel(request: Request) -> Response:
        hospital, form = named(request), form_of(request)
        entry = read_members(home).get(hospital)
        if entry is None:
            raise InputError(f"{hospital} is not admitted", remedy="see the list of members")
        if form.get("fingerprint") is None:
            studies = [study.plan.study for study in home.studies() if hospital in study.plan.cohorts]
            here = home.root_key_path.is_file()
            return pages.page(
                request, "member_expel", hospital=hospital, key=entry.key, studies=studies, root_here=here
            )
        if form["fingerprint"] != entry.key.fingerprint:
            raise InputError(f"{hospital} has another key by now", remedy="look at it again")
        version = admission.expel(home, hospital, root_key=_root_key(form.get("root_key", "")))
        tell_superlink(home)
        return pages.done("/members", f"{hospital} is expelled: roster version {version}. {_send(home)}")

    return [
        Route("/members/admit", admit, methods=["POST"]),
        Route("/members/{name}/expel", expel, methods=["POST"]),
    ]


def _members(home: CoordinatorHome) -> list[Row]:
    nodes = home.nodes
    return [Row(name, entry.key.fingerprint, name in nodes) for name, entry in sorted(read_members(home).items())]


def _invited(home: CoordinatorHome, now: datetime) -> list[Row]:
    waiting = sorted(inviting.read_invited(home).items())
    return [
        Row(name, "", registered=False, until=f"{one.expires:%Y-%m-%d}", late=now >= one.expires)
        for name, one in waiting
    ]


def _root_key(text: str) -> Path | None:
    return Path(text.strip()) if text.strip() else None


def _send(home: CoordinatorHome) -> str:
    return f"Send {printable(str(home.roster_path))} to all hospitals."
