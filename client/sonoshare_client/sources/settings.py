"""What the receiver's process is told, and what starts it.

Listening is off until the hospital's policy names a port and at least one caller.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from sonoshare_client.node.source_rules import SourceRules
from sonoshare_shared.errors import InputError

LISTENER: Final = "sonoshare_client.sources.listener"


@dataclass(frozen=True)
class Settings:
    """What the receiver is told.

    Attributes:
        inbox: the folder.
        title: its own application entity title.
        address: that it listens on.
        port: that it listens on.
        callers: who may send, ``TITLE@ADDRESS`` each.
        object_bytes: largest object.
        inbox_bytes: most that waits in the inbox.
    """

    inbox: str
    title: str
    address: str
    port: int
    callers: Sequence[str]
    object_bytes: int
    inbox_bytes: int


def command(settings: Settings) -> list[str]:
    """What starts a receiver."""
    return [sys.executable, "-P", "-m", LISTENER, json.dumps(asdict(settings))]


def settings_of(rules: SourceRules, inbox: Path) -> Settings:
    """What a hospital's rules say of its receiver.

    Raises:
        InputError: they let nothing listen, or nobody in.
    """
    if rules.port == 0 or not rules.callers:
        what = "port" if rules.port == 0 else "callers"
        raise InputError(
            "policy.toml lets nothing come in by C-STORE", remedy=f"set intake.sources.{what} (docs/sources.md)"
        )
    return Settings(
        inbox=str(inbox),
        title=rules.title,
        address=rules.address,
        port=rules.port,
        callers=rules.callers,
        object_bytes=rules.maximum_object_mib << 20,
        inbox_bytes=rules.maximum_inbox_mib << 20,
    )
