"""Mail to people who have an account: plain text, by SMTP.

    SONOSHARE_SMTP=smtp://fed:PASSWORD@mail.example.org:587?from=fed@example.org

``smtp`` speaks TLS as soon as the server offers it, and must where a password is given; ``smtps`` from the first byte.
"""

import smtplib
import ssl
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Final, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from sonoshare_shared.errors import FederationError, InputError

_SECONDS: Final = 10.0
_PORTS: Final = {"smtp": 587, "smtps": 465}


class Mailer(Protocol):
    """Sends mail."""

    def send(self, to: str, subject: str, text: str) -> None:
        """Send one letter.

        Raises:
            FederationError: it was not taken.
        """


@dataclass(frozen=True)
class Smtp:
    """A mail server.

    Attributes:
        host: its name.
        port: where it listens.
        sender: whom letters are from.
        user: who signs in, or None.
        password: with what.
        tls_first: TLS from the first byte on.
    """

    host: str
    port: int
    sender: str
    user: str | None = None
    password: str = field(default="", repr=False)
    tls_first: bool = False

    @classmethod
    def of(cls, url: str) -> "Smtp":
        """The server that a URL names.

        Raises:
            InputError: it names none.
        """
        try:
            parts = urlsplit(url)
            port, sender = parts.port, parse_qs(parts.query).get("from", [""])[0]
        except ValueError:
            parts, port, sender = urlsplit(""), None, ""
        if parts.scheme not in _PORTS or not parts.hostname or "@" not in sender:
            raise InputError(
                "SONOSHARE_SMTP names no mail server",
                remedy="write smtp://user:password@host:587?from=sender@example.org",
            )
        return cls(
            host=parts.hostname,
            port=port or _PORTS[parts.scheme],
            sender=sender,
            user=None if parts.username is None else unquote(parts.username),
            password=unquote(parts.password or ""),
            tls_first=parts.scheme == "smtps",
        )

    def send(self, to: str, subject: str, text: str) -> None:
        """Send one letter."""
        letter = EmailMessage()
        letter["From"], letter["To"], letter["Subject"] = self.sender, to, subject
        letter.set_content(text)
        try:
            with self._connected() as server:
                server.send_message(letter)
        except (OSError, smtplib.SMTPException) as error:
            raise FederationError(
                f"the mail server does not take a letter: {type(error).__name__}", remedy="check SONOSHARE_SMTP"
            ) from error

    def _connected(self) -> smtplib.SMTP:
        context = ssl.create_default_context()
        if self.tls_first:
            server: smtplib.SMTP = smtplib.SMTP_SSL(self.host, self.port, timeout=_SECONDS, context=context)
        else:
            server = smtplib.SMTP(self.host, self.port, timeout=_SECONDS)
            server.ehlo()
            if server.has_extn("starttls"):
                server.starttls(context=context)
                server.ehlo()
            elif self.user is not None:
                server.close()
                raise smtplib.SMTPNotSupportedError("no TLS, so no password is sent")
        if self.user is not None:
            server.login(self.user, self.password)
        return server
