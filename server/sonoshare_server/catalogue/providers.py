"""Who else may say who somebody is: providers of OpenID Connect, as a coordinator names them in a file.

    SONOSHARE_OIDC=/etc/sonoshare/oidc.toml

    [orcid]
    title = "ORCID"
    issuer = "https://orcid.org"
    client_id = "APP-0123456789ABCDEF"
    secret_file = "/run/secrets/orcid"            or secret_env = "ORCID_SECRET"

    [institution]
    title = "Example University"
    issuer = "https://login.example.edu"
    client_id = "sonoshare"
    secret_file = "/run/secrets/institution"
    email_domains = ["example.edu"]               addresses that this provider is believed about, where it says verified

A secret is read when it is needed, so that it can be changed; it stands in no database and in no log.
"""

import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from sonoshare_server.catalogue.accounts import address_of
from sonoshare_shared.errors import InputError

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost"})


class Provider(BaseModel):
    """A provider.

    Attributes:
        name: in addresses of the catalogue.
        title: for people.
        issuer: whose word it is; https, or loopback for tests.
        client_id: what the provider knows the catalogue as.
        secret_file: file with the client's secret; or
        secret_env: variable with it; without either the client is public, and PKCE alone protects it.
        email_domains: domains of addresses that this provider is believed about.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: Annotated[str, Field(min_length=1, max_length=60)]
    issuer: str
    client_id: Annotated[str, Field(min_length=1, max_length=200)]
    secret_file: Path | None = None
    secret_env: str | None = None
    email_domains: tuple[str, ...] = ()

    @field_validator("issuer")
    @classmethod
    def _of_an_address(cls, issuer: str) -> str:
        parts = urlsplit(issuer)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
            raise ValueError("an issuer is an https address")
        return issuer

    @field_validator("email_domains")
    @classmethod
    def _of_lower_case(cls, domains: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(domain.lower().lstrip("@") for domain in domains)

    def secret(self) -> str | None:
        """The client's secret, as it is now.

        Raises:
            InputError: it is named, and not there.
        """
        if self.secret_file is not None:
            try:
                return self.secret_file.read_text().strip()
            except OSError as error:
                raise InputError(f"the secret of {self.name} cannot be read", remedy="check secret_file") from error
        if self.secret_env is None:
            return None
        if not (secret := os.environ.get(self.secret_env)):
            raise InputError(f"the secret of {self.name} is not set", remedy=f"set {self.secret_env}")
        return secret

    def believed(self, email: str) -> bool:
        """Whether an address lies in one of its own domains."""
        return address_of(email).rpartition("@")[2] in self.email_domains


def read_providers(path: Path) -> tuple[Provider, ...]:
    """The providers of a file.

    Raises:
        InputError: it cannot be read, or says what is not known; no value of it is repeated.
    """
    remedy = "see Signing in elsewhere in docs/catalogue.md"
    try:
        said = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"SONOSHARE_OIDC names no readable TOML file: {type(error).__name__}", remedy=remedy
        ) from error
    found = []
    for name, fields in said.items():
        if not _NAME.fullmatch(name) or not isinstance(fields, dict):
            raise InputError("a provider's name is lowercase letters, digits and hyphens", remedy=remedy)
        try:
            found.append(Provider.model_validate({**fields, "name": name}))
        except ValidationError as error:
            wrong = ", ".join(sorted({str(e["loc"][0]) for e in error.errors()}))
            raise InputError(f"provider {name}: {wrong} cannot be used", remedy=remedy) from error
    for provider in found:
        provider.secret()
    return tuple(found)
