"""The one route of our own on the published listener: answers who holds a key, and nothing else, whatever is sent."""

import asyncio
import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from sonoshare_server.federation.link_check import LinkCheck
from sonoshare_server.paths import CoordinatorPaths
from sonoshare_shared.protocol.documents import HospitalEntry, Roster
from sonoshare_shared.protocol.documents.roster import ROSTER_PAYLOAD_TYPE
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.protocol.link import MOST_REQUEST_BYTES, key_line, link_request

NOW = datetime(2026, 11, 28, 9, 30, tzinfo=UTC)
KEY, OTHER = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())


@pytest.fixture
def home(tmp_path: Path) -> CoordinatorPaths:
    root = SigningKey.generate()
    north = HospitalEntry(id="north", identity_key="cd" * 32, node_key=f"{key_line(KEY.public_key())} a comment")
    roster = Roster(
        consortium="c",
        version=7,
        expires=NOW,
        root_key=root.public.hex,
        coordinator_key="ab" * 32,
        hospitals=(north,),
        audit_policy="ef" * 32,
    )
    paths = CoordinatorPaths(tmp_path)
    paths.roster_path.write_bytes(Envelope.sign(ROSTER_PAYLOAD_TYPE, roster.canonical(), root).to_bytes())
    return paths


def ask(home: CoordinatorPaths, body: bytes, *, method: str = "POST", path: str = "/link", parts: int = 1) -> Any:
    """Status and answer; the status alone is 404 where the request went on to the application behind."""
    sent: list[Any] = []
    size = -(-len(body) // parts) or 1
    blocks = [body[start : start + size] for start in range(0, len(body), size)] or [b""]

    async def receive() -> dict[str, Any]:
        block = blocks.pop(0)
        return {"type": "http.request", "body": block, "more_body": bool(blocks)}

    async def send(message: Any) -> None:
        sent.append(message)

    async def behind(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": []})

    asyncio.run(LinkCheck(behind, home)({"type": "http", "method": method, "path": path}, receive, send))
    answer = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], json.loads(answer) if answer else None


def test_who_holds_an_admitted_key_is_told_so_and_a_stranger_learns_nothing_more(home: CoordinatorPaths) -> None:
    for parts in (1, 3):
        status, said = ask(home, link_request(KEY, NOW), parts=parts)
        assert (status, said) == (200, {"admitted": True, "hospital": "north", "roster_version": 7})
    assert ask(home, link_request(OTHER, NOW)) == (200, {"admitted": False, "hospital": None, "roster_version": None})
    home.roster_path.unlink()
    assert ask(home, link_request(KEY, NOW))[1]["admitted"] is False


def test_nobody_learns_of_a_key_that_he_does_not_hold(home: CoordinatorPaths) -> None:
    mine = json.loads(link_request(OTHER, NOW))
    theirs = json.dumps(mine | {"key": key_line(KEY.public_key())}).encode()
    assert ask(home, theirs) == (400, {})


def test_a_signature_for_flower_is_none_here_and_the_other_way_round(home: CoordinatorPaths) -> None:
    time = NOW.isoformat()
    flowers = KEY.sign(time.encode(), ec.ECDSA(hashes.SHA256()))  # as Flower's own header: over the time alone
    said = {"key": key_line(KEY.public_key()), "time": time, "signature": base64.b64encode(flowers).decode()}
    assert ask(home, json.dumps(said).encode()) == (400, {})
    ours = base64.b64decode(json.loads(link_request(KEY, NOW))["signature"])
    with pytest.raises(InvalidSignature):
        KEY.public_key().verify(ours, time.encode(), ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[" * MOST_REQUEST_BYTES,
        b'{"key": 1}',
        b"\xff\xfe",
        b'{"key": "ssh-rsa AAAA", "time": "x", "signature": "AAAA"}',
        b'{"key": "ecdsa-sha2-nistp384 AAAA", "time": "x", "signature": "!"}',
        link_request(KEY, NOW) + b" " * MOST_REQUEST_BYTES,
    ],
)
def test_whatever_else_is_sent_is_400(home: CoordinatorPaths, body: bytes) -> None:
    assert ask(home, body) == (400, {})


def test_a_question_that_does_not_arrive_is_closed_in_time(home: CoordinatorPaths) -> None:
    """A peer that sends a part and then nothing would else hold its connection for ever."""
    sent: list[Any] = []
    parts = [{"type": "http.request", "body": link_request(KEY, NOW)[:9], "more_body": True}]

    async def receive() -> dict[str, Any]:
        if not parts:
            await asyncio.sleep(60)
        return parts.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    async def behind(*_: Any) -> None:
        raise AssertionError("it is for this route")

    scope = {"type": "http", "method": "POST", "path": "/link"}
    asyncio.run(asyncio.wait_for(LinkCheck(behind, home, body_seconds=0.05)(scope, receive, send), 5))
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]


def test_everything_else_goes_on_to_the_application_behind(home: CoordinatorPaths) -> None:
    assert ask(home, b"", method="GET") == (404, None)
    assert ask(home, b"", path="/link/") == (404, None)
