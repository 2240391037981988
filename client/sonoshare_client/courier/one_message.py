"""One message at a time at a SuperNode, also when a run ends while one of its messages is on the way.

Flower's SuperNode takes a message, waits for a reply, sends that, and takes the next. A run that ends in between
upsets it (Flower 1.41):

- A message whose run ended while it was fetched is ignored, but stays, with its task. Whoever took the task waits for
  the rest of the message for up to two hours, and the hospital answers nothing meanwhile.
- A reply to an ignored message is taken for that to the next one. From then on each reply leaves when the message after
  it has come, which the coordinator sends only once it has the reply: the hospital is silent for good.

Here an ignored message is taken back whole, as Flower does where fetching fails otherwise; and the next message is
taken only when that very one was answered which came last. Nothing of Flower is imported here (``flower``).
"""

from collections.abc import Callable
from typing import Any, Final

from sonoshare_shared.errors import FederationError

Call = Callable[..., Any]
_RUN_ENDED: Final = "the run ended while its message was fetched"


class OneMessage:
    """Takes the places of the two steps of Flower's loop.

    Args:
        take: Flower's own step that fetches a message.
        send: Flower's own step that waits for replies and sends them.
        run_ended: what Flower raises where the run of a message runs no more.
    """

    def __init__(self, take: Call, send: Call, run_ended: type[BaseException]) -> None:
        self._take, self._send, self._run_ended = take, send, run_ended
        self._unanswered = ""

    def take(self, *, receive: Call, pull_object: Call, confirm_message_received: Call, **others: Any) -> int | None:
        """Fetch a message; one whose run ends meanwhile leaves nothing behind. Returns its run, or None for none."""

        def received() -> Any:
            found = receive()
            if found is not None:
                self._unanswered = str(found[0].metadata.message_id)
            return found

        run: int | None = self._take(
            receive=received,
            pull_object=self._failing(pull_object),
            confirm_message_received=self._failing(confirm_message_received),
            **others,
        )
        return run

    def send(self, *, send: Call, **others: Any) -> None:
        """Wait for replies and send them, until the one to the message that came last was among them."""

        def sent(message: Any, *rest: Any) -> Any:
            if message.metadata.reply_to_message_id == self._unanswered:
                self._unanswered = ""
            return send(message, *rest)

        while True:
            self._send(send=sent, **others)
            if not self._unanswered:
                return

    def _failing(self, call: Call) -> Call:
        """The same call; the end of a run is a failure like any other, after which Flower takes the message back."""

        def called(*arguments: Any) -> Any:
            try:
                return call(*arguments)
            except self._run_ended as error:
                raise FederationError(_RUN_ENDED) from error

        return called
