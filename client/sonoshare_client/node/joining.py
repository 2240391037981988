"""Whether a consortium's roster is about this very node: its id, its identity key, its node key.

A roster that names this hospital with other keys was made from a mistyped or an older key. Under it nothing that this
node signs would be believed, so it is refused before it is pinned, with what puts it right.
"""

from sonoshare_client.node import witness
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.invitation import Joined
from sonoshare_client.node.log_copy import LogCopy
from sonoshare_shared.errors import RefusedError
from sonoshare_shared.protocol.documents import HospitalEntry, Roster
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import PublicKey


def enrol(home: NodeHome, roster: Envelope, root_key: PublicKey, joined: Joined | None = None) -> Roster:
    """Pin a consortium whose roster names this node.

    Args:
        home: the node's folder.
        roster: as it came.
        root_key: the consortium's.
        joined: what the node's invitation said, if there was one.

    Raises:
        VerificationError: the roster is not signed by this root key.
        RefusedError: it does not name this node with its keys, is older than the one pinned before, or names another
            coordinator than the one that signed the invitation.
    """
    checked = witness.checked_roster(roster, root_key)
    if joined is not None and joined.coordinator_key != checked.coordinator_key:
        # Before the first roster nothing vouches for who signed an invitation, and with it the address in it.
        raise RefusedError(
            "the invitation was not signed by the coordinator that the roster names",
            remedy="tell the consortium by telephone: somebody else may have made it; join anew with a right one",
        )
    require_named(checked, home)
    return witness.enrol(home.state_path, roster, root_key)


def require_named(roster: Roster, home: NodeHome, *, node_key: bool = True) -> None:
    """Check that a roster names this node with the keys that it has.

    Args:
        roster: a consortium's.
        home: the node's folder.
        node_key: whether the node key counts. One that was changed since this roster was pinned stands in the next.

    Raises:
        RefusedError: it does not; says what the coordinator has to do.
    """
    hospital, identity = home.hospital, home.identity().public.hex
    entry = roster.hospital(hospital)
    if entry is None:
        same = next((other.id for other in roster.hospitals if other.identity_key == identity), None)
        if same is not None:
            raise RefusedError(
                f"the roster names this node's key as {same}, and this node is {hospital}",
                remedy=f"the coordinator expels {same} and admits {hospital} with the same keys",
            )
        raise RefusedError(
            f"the roster (version {roster.version}) does not name {hospital}",
            remedy="send the keys that 'sonoshare hospital keys' shows to the coordinator: sonoshare coordinator admit",
        )
    if entry.identity_key != identity and not _is_of_this_ledger(entry, home):
        raise _other_key(hospital, "identity")
    if node_key and entry.node_key.split()[:2] not in [key.split()[:2] for key in home.node_public_keys]:
        raise _other_key(hospital, "node")


def _is_of_this_ledger(entry: HospitalEntry, home: NodeHome) -> bool:
    """Whether a roster names the identity key that this node will have, or one that its own followed by the log."""
    following = home.next_identity()
    if following is not None and entry.key == following.public:
        return True
    index = LogCopy.open(home.state_path).index
    return home.identity().public in index.keys_since(entry.key, -1) and index.passed_on(entry.key) is not None


def _other_key(hospital: str, which: str) -> RefusedError:
    return RefusedError(
        f"the roster names {hospital} with another {which} key than this node's",
        remedy="send the keys that 'sonoshare hospital keys' shows: the coordinator admits them again, with "
        "'sonoshare coordinator admit'",
    )
