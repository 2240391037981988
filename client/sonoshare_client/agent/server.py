"""The agent's Unix socket: one request at a time, in order, from whoever may open the socket file.

The socket file's permissions are the access control: 0600, or 0660 with a group that the courier's user is in.
"""

import logging
import socketserver
from pathlib import Path

from sonoshare_client.agent.service import Agent
from sonoshare_client.node.socket import receive_frame, send_frame
from sonoshare_shared.errors import SonoShareError

_log = logging.getLogger(__name__)


class AgentServer(socketserver.UnixStreamServer):
    """Serves an agent on a Unix socket.

    Args:
        path: the socket file; a stale one is replaced. Unix limits its length to 107 bytes.
        agent: answers the frames.
        group_access: let the socket file's group connect too.
    """

    def __init__(self, path: Path, agent: Agent, *, group_access: bool = False) -> None:
        path.unlink(missing_ok=True)
        self.agent = agent
        super().__init__(str(path), _Handler)
        path.chmod(0o660 if group_access else 0o600)


class _Handler(socketserver.BaseRequestHandler):
    server: AgentServer

    def handle(self) -> None:
        try:
            frame = receive_frame(self.request)
            send_frame(self.request, self.server.agent.answer(frame))
        except (OSError, SonoShareError) as error:
            # The courier went away: its request will come again and find the stored reply.
            _log.warning("connection lost: %s", type(error).__name__)
