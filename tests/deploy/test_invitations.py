"""An invitation, the request that answers it, and a person who admits: public halves travel, a code counts once."""

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.deploy.command import Run, sonoshare

from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.invitation import Joined, join, read_joined
from sonoshare_client.node.joining import enrol
from sonoshare_client.node.policy import policy_for
from sonoshare_deploy.invited_address import invited_address
from sonoshare_deploy.provision import create_coordinator
from sonoshare_server.consortium.audit_terms import audit_policy
from sonoshare_server.consortium.inviting import admit_request, invite, read_invited, read_request
from sonoshare_server.consortium.members import Consortium, read_members
from sonoshare_server.home import CoordinatorHome
from sonoshare_shared.errors import InputError, IntegrityError, RefusedError, VerificationError
from sonoshare_shared.protocol.documents.invitation import INVITATION_PAYLOAD_TYPE, Invitation, JoinRequest
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import SigningKey, told_fingerprint
from sonoshare_shared.protocol.release.evidence import REVOCATION_PAYLOAD_TYPE

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
ADDRESS = "fed.example.org:9092"


@pytest.fixture
def coordinator(tmp_path: Path) -> CoordinatorHome:
    made = Consortium("clinics", audit_policy(1.0, 0.6, 0.97, 0.001))
    return create_coordinator(tmp_path / "c", made, ("fed.example.org", "127.0.0.1"))


def invited(home: CoordinatorHome, hospital: str = "west") -> Invitation:
    return Invitation.opened(invite(home, hospital, ADDRESS, now=NOW))


def run(*words: object) -> Run:
    done = sonoshare(*words)
    assert done.returncode == 0, done.stderr
    return done


def test_six_commands_take_a_hospital_from_an_empty_folder_to_the_roster(
    coordinator: CoordinatorHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, node = tmp_path / "a place", tmp_path / "a place" / "west node"
    place.mkdir()
    monkeypatch.chdir(place)
    said = run("coordinator", "invite", "--home", coordinator.path, "--id", "west")
    assert "fed.example.org:9092" in said.stdout
    assert (place / "west-invitation.json").stat().st_mode & 0o777 == 0o600
    joined = json.loads(
        run(
            *("hospital", "join", "west-invitation.json", "--home", node, "--json"),
            *("--root-fingerprint", coordinator.root.fingerprint),
        ).stdout
    )
    asked = ("coordinator", "admit", "west-request.json", "--home", coordinator.path)
    refused = sonoshare(*asked)
    assert refused.returncode == 1  # nobody told a fingerprint
    assert joined["fingerprint"] not in refused.stderr  # who sees it types it, and has compared nothing
    assert not read_members(coordinator)
    wrong = sonoshare(*asked, "--fingerprint", "0" * 16)
    assert "do not admit it" in wrong.stderr
    assert joined["fingerprint"] not in wrong.stderr
    for _ in range(2):  # the second finds it done
        run(*asked, "--fingerprint", joined["fingerprint"])
    assert coordinator.roster.version == 1
    run("hospital", "enrol", "--home", node, "--roster", coordinator.roster_path)
    assert NodeHome.open(node).state.root_key_path.read_text().strip() == coordinator.root.hex


def test_nothing_secret_lies_at_the_coordinator_or_in_the_request(coordinator: CoordinatorHome, tmp_path: Path) -> None:
    invitation = invited(coordinator)
    home, request = join(tmp_path / "n", invitation, now=NOW)
    kept = coordinator.invited_path.read_text()
    payload = base64.b64decode(request.payload).decode()
    for secret in (invitation.code, home.identity_key_path.read_text(), home.node_key_path.read_text()):
        assert secret not in kept
        assert secret not in payload
    assert invitation.code_key.public.hex in kept
    assert invitation.code not in home.state.joined_path.read_text()


def test_a_code_counts_once_in_time_and_not_beside_a_newer_one(coordinator: CoordinatorHome, tmp_path: Path) -> None:
    first = invited(coordinator)
    _, request = join(tmp_path / "n", first, now=NOW)
    with pytest.raises(RefusedError, match="ended on 2026-11-15"):
        read_request(coordinator, request, NOW + timedelta(days=14))
    invited(coordinator)
    with pytest.raises(InputError, match="no invitation waits"):
        read_request(coordinator, request, NOW)
    with pytest.raises(RefusedError, match="ended on"):
        join(tmp_path / "late", first, now=NOW + timedelta(days=14))
    assert not (tmp_path / "late").exists()
    second = invited(coordinator)
    home, request = join(tmp_path / "n", second, now=NOW)
    admit_request(coordinator, request, home.identity().public.fingerprint, now=NOW)
    assert read_invited(coordinator) == {}
    _, other = join(tmp_path / "thief", second, now=NOW)
    with pytest.raises(InputError, match="no invitation waits"):
        admit_request(coordinator, other, home.identity().public.fingerprint, now=NOW)
    with pytest.raises(InputError, match="admitted already"):
        invite(coordinator, "west", ADDRESS, now=NOW)


def test_keys_that_were_exchanged_on_the_way_are_refused(coordinator: CoordinatorHome, tmp_path: Path) -> None:
    invitation = invited(coordinator)
    home, request = join(tmp_path / "n", invitation, now=NOW)
    thief = SigningKey.generate()
    said = JoinRequest.from_bytes(request.decoded()).model_copy(update={"identity_key": thief.public.hex})
    for signed in (
        Envelope.sign(request.payloadType, said.canonical(), thief),
        Envelope.sign(request.payloadType, said.canonical(), thief).countersigned(home.identity()),
    ):
        with pytest.raises(InputError, match="no invitation waits"):
            read_request(coordinator, signed, NOW)
    # By who has read the invitation: the node key has not signed for the other identity.
    signed = Envelope.sign(request.payloadType, said.canonical(), invitation.code_key).countersigned(thief)
    with pytest.raises(IntegrityError, match="a node key did not sign"):
        read_request(coordinator, signed, NOW)
    alone = Envelope.sign(request.payloadType, request.decoded(), invitation.code_key)
    with pytest.raises(VerificationError):
        read_request(coordinator, alone, NOW)


def test_an_invitation_that_was_altered_or_made_by_another_is_noticed(
    coordinator: CoordinatorHome, tmp_path: Path
) -> None:
    envelope = invite(coordinator, "west", ADDRESS, now=NOW)
    said = Invitation.opened(envelope)
    elsewhere = said.model_copy(update={"superlink": "evil.example.org:9092"})
    forged = envelope.model_copy(update={"payload": base64.b64encode(elsewhere.canonical()).decode()})
    with pytest.raises(VerificationError):
        Invitation.opened(forged)
    thief = SigningKey.generate()
    with pytest.raises(VerificationError):
        Invitation.opened(Envelope.sign(INVITATION_PAYLOAD_TYPE, elsewhere.canonical(), thief))
    # Whole, under another coordinator's key: nothing shows it before the roster, and then it is refused.
    own = elsewhere.model_copy(update={"coordinator_key": thief.public.hex})
    false = Invitation.opened(Envelope.sign(INVITATION_PAYLOAD_TYPE, own.canonical(), thief))
    home, request = join(tmp_path / "n", false, now=NOW)
    admit_request(coordinator, request, home.identity().public.fingerprint, now=NOW)
    joined = Joined(false.consortium, false.superlink, false.root_key, false.coordinator_key)
    with pytest.raises(RefusedError, match="not signed by the coordinator that the roster names"):
        enrol(home, coordinator.roster_envelope, coordinator.root, joined)
    # From the first roster on it shows at once.
    later = invited(coordinator, "north").model_copy(update={"coordinator_key": thief.public.hex})
    with pytest.raises(VerificationError, match="of another coordinator"):
        Invitation.opened(Envelope.sign(INVITATION_PAYLOAD_TYPE, later.canonical(), thief))


def test_a_wrong_root_fingerprint_or_folder_is_refused_before_anything_is_written(
    coordinator: CoordinatorHome, tmp_path: Path
) -> None:
    with pytest.raises(RefusedError, match="do not join") as refused:
        join(tmp_path / "n", invited(coordinator), now=NOW, root_fingerprint="0" * 16)
    assert coordinator.root.fingerprint not in str(refused.value)
    assert not (tmp_path / "n").exists()
    join(tmp_path / "n", invited(coordinator), now=NOW)
    with pytest.raises(InputError, match="is the node of west, and the invitation is for north"):
        join(tmp_path / "n", invited(coordinator, "north"), now=NOW)
    other = create_coordinator(tmp_path / "d", Consortium.read(coordinator), ("fed.example.org",))
    with pytest.raises(RefusedError, match="another root key"):
        join(tmp_path / "n", invited(other), now=NOW)


def test_who_belongs_to_a_consortium_joins_by_no_invitation_of_another_coordinator(
    coordinator: CoordinatorHome, tmp_path: Path
) -> None:
    """The root key is public: whoever names it could have the courier connect elsewhere, and trust what answers."""
    invitation, forger = invited(coordinator), SigningKey.generate()
    home, request = join(tmp_path / "n", invitation, now=NOW)
    admit_request(coordinator, request, home.identity().public.fingerprint, now=NOW)
    enrol(home, coordinator.roster_envelope, coordinator.root)
    changes = {"superlink": "thief.example.org:9092", "authority": "a", "coordinator_key": forger.public.hex}
    before = home.state.authority_path.read_bytes(), read_joined(home)
    with pytest.raises(RefusedError, match="another coordinator"):
        join(home.path, invitation.model_copy(update={**changes, "roster": None}), now=NOW)
    assert (home.state.authority_path.read_bytes(), read_joined(home)) == before
    join(home.path, invitation, now=NOW)


def test_a_fingerprint_is_taken_as_it_is_told_and_a_word_of_the_page_is_none(
    coordinator: CoordinatorHome, tmp_path: Path
) -> None:
    root = coordinator.root.fingerprint
    spoken = " ".join(root[i : i + 4] for i in range(0, 16, 4)).upper()
    for told in (spoken, ":".join(root[i : i + 2] for i in range(0, 16, 2)), f"\t{root}\n"):
        assert told_fingerprint(told) == root
    home, request = join(tmp_path / "n", invited(coordinator), now=NOW, root_fingerprint=spoken)
    for word in ("FINGERPRINT", "", root[:8], root + "00"):
        with pytest.raises(InputError, match=r"is no fingerprint .type the 16 characters"):
            admit_request(coordinator, request, word, now=NOW)
    own = home.identity().public.fingerprint
    assert admit_request(coordinator, request, f"{own[:8].upper()} {own[8:]}", now=NOW) == ("west", 1)


def test_a_node_that_is_there_does_not_pass_over_another_declared_number(
    coordinator: CoordinatorHome, tmp_path: Path
) -> None:
    home, _ = join(tmp_path / "n", invited(coordinator), now=NOW)
    with pytest.raises(InputError, match=r"declares 100 trained patients .for 150 set nominal") as refused:
        join(tmp_path / "n", invited(coordinator), now=NOW, policy=policy_for(150))
    assert str(home.policy_path) in str(refused.value)
    join(tmp_path / "n", invited(coordinator), now=NOW, policy=policy_for(100))


def test_an_invitation_names_an_address_that_the_certificate_is_for(coordinator: CoordinatorHome) -> None:
    assert invited_address(coordinator, None) == ADDRESS
    assert invited_address(coordinator, "127.0.0.1:7000") == "127.0.0.1:7000"
    with pytest.raises(InputError, match=r"not for other.example.org.*renew --host other.example.org"):
        invited_address(coordinator, "other.example.org:9092")


@pytest.mark.parametrize("place", ["other", "nobody", "nothing", "."])
def test_a_home_that_is_the_other_roles_folder_or_nobodys_is_named_so(
    place: str, coordinator: CoordinatorHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    NodeHome.create(tmp_path / "n", "west")
    (tmp_path / "nobody").mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.safetensors").write_bytes(b"x")
    roles = {"hospital": ("c", ("ledger", "status", "console")), "coordinator": ("n", ("status", "start"))}
    others = {"hospital": "coordinator", "coordinator": "hospital"}
    for role, (folder, verbs) in roles.items():
        home = folder if place == "other" else place
        said = {
            "other": f"{home} is a {others[role]}'s folder, not a {role}'s (check --home)",
            "nothing": f"there is no folder nothing (check --home; a new one is made by: sonoshare {role} init --home ",
        }.get(place, f"{home} is not a {role}'s folder (check --home; a new one is made by: ")
        for verb in verbs:
            (line,) = sonoshare(role, *verb.split(), "--home", home).errors
            assert line.startswith(f"error: {said}")
    if place == "nobody":
        (line,) = sonoshare("base", "import", "x.safetensors", "--home", place).errors
        assert "neither a hospital's folder nor a coordinator's" in line


def test_a_file_in_the_place_of_another_is_named_with_the_one_that_is_wanted(
    coordinator: CoordinatorHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    home = coordinator.path
    run("coordinator", "invite", "--home", home, "--id", "west")
    run("hospital", "join", "west-invitation.json", "--home", "n")
    revocation = Envelope.sign(REVOCATION_PAYLOAD_TYPE, b"{}", SigningKey.generate())
    (tmp_path / "r.json").write_bytes(revocation.to_bytes())
    (tmp_path / "plan.json").write_text('{"study": "s1"}')
    admit, asks = ("coordinator", "admit", "--home", home), "sonoshare hospital join"
    cases = [
        ((*admit, "west-invitation.json"), "is an invitation, not a request to join", asks),
        ((*admit, "plan.json"), "is not a request to join: it is no signed file", asks),
        ((*admit, "--rotate", "west-request.json"), "is a request to join, not a change of keys", "keys rotate"),
        (("hospital", "join", "--home", "m", "west-request.json"), "is a request to join, not an invitation", "invite"),
        (("hospital", "join", "--home", "m", "r.json"), "is a revocation, not an invitation", "invite"),
        (("hospital", "enrol", "--home", "n", "--roster", "r.json"), "is a revocation, not a roster", "roster.dsse"),
        (
            ("coordinator", "release", "revoke", "--home", home, "--signed", "west-request.json"),
            "is a request to join, not a revocation",
            "sonoshare hospital revoke",
        ),
    ]
    for words, said, remedy in cases:
        (line,) = sonoshare(*words).errors
        assert line.startswith(f"error: {words[-1]} {said} (give ")
        assert remedy in line
    assert not (tmp_path / "m").exists()
