"""What a node without its own courier would run: a refusal. Hospitals never run code from here."""

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

app = ClientApp()


@app.query("sonoshare")
def refuse(_message: Message, _context: Context) -> Message:
    """Refuse: only a hospital's own installed courier answers."""
    raise RuntimeError("this node runs code from the server; start it with: sonoshare hospital start")
