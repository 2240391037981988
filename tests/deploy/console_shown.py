"""A role's console in this process, entered by one browser."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from starlette.testclient import TestClient

from sonoshare_shared.local_pages.door import Door
from sonoshare_shared.local_pages.guard import FORM_WORD

Home = TypeVar("Home")


@dataclass
class Shown(Generic[Home]):
    """A console, its session, and the folder that it shows."""

    home: Home
    door: Door
    client: TestClient

    @classmethod
    def entered(cls, home: Home, door: Door, app: Any, port: int) -> "Shown[Home]":
        """Follow the link that works once."""
        client = TestClient(app, base_url=f"http://127.0.0.1:{port}")
        assert client.get(door.link.partition(str(port))[2]).status_code == 200
        return cls(home, door, client)

    def get(self, path: str) -> Any:
        return self.client.get(f"{self.door.root}{path}")

    def page(self, path: str) -> str:
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        return str(answer.text)

    def post(self, path: str, **fields: str) -> Any:
        return self.client.post(f"{self.door.root}{path}", data={FORM_WORD: self.door.form_word, **fields})
