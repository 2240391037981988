"""Who takes part in a study is settled once: nobody joins, the forgotten leave, and every change is noticed."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.client.crafted import make_node, speckle

from sonoshare_client.intake.twins import compare_new
from sonoshare_client.node.home import NodeHome
from sonoshare_client.vault.store import Vault, generation_of
from sonoshare_client.vault.stored_image import StoredImage
from sonoshare_shared.errors import IntegrityError


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    return make_node(tmp_path / "home")


def come(home: NodeHome, *names: str) -> None:
    with Vault(home) as vault, vault.writing() as writer:
        for name in names:
            writer.add(name, StoredImage(speckle(sum(name.encode()), 40, 40), None, None, "benign", ""))
        writer.flush()
        compare_new(vault, writer)


def who(home: NodeHome, study: str, *names: str) -> set[Any]:
    with Vault(home) as vault:
        called = {vault.pseudonym(name): name for name in names}
        return {called[one.pseudonym] for one in vault.enrolled(study)}


def forget(home: NodeHome, name: str) -> None:
    with Vault(home) as vault, vault.writing() as writer:
        writer.forget(vault.pseudonym(name))


def test_later_arrivals_do_not_join_and_the_forgotten_leave_for_good(home: NodeHome) -> None:
    come(home, "Ann", "Bob")
    assert who(home, "s1", "Ann", "Bob") == {"Ann", "Bob"}
    come(home, "Cora")
    everybody = ("Ann", "Bob", "Cora")
    assert who(home, "s1", *everybody) == {"Ann", "Bob"}
    forget(home, "Bob")
    assert who(home, "s1", *everybody) == {"Ann"}
    come(home, "Bob")
    assert who(home, "s1", *everybody) == {"Ann"}
    assert who(home, "s2", *everybody) == set(everybody)


def test_looking_settles_nothing(home: NodeHome) -> None:
    come(home, "Ann")
    with Vault(home) as vault:
        assert len(vault.enrolled("s", settle=False)) == 1
    come(home, "Bob")
    assert who(home, "s", "Ann", "Bob") == {"Ann", "Bob"}


def test_the_list_is_sealed_and_bound_to_its_study(home: NodeHome) -> None:
    come(home, "Ann")
    with Vault(home) as vault:
        vault.enrolled("s")
        ann = vault.pseudonym("Ann")
        (sealed,) = vault._db.execute("SELECT sealed FROM enrolment").fetchone()
        assert ann.encode() not in sealed
        vault._db.execute("UPDATE enrolment SET study = 'other'")
        with pytest.raises(IntegrityError):
            vault.enrolled("other")


def test_of_two_agents_that_ask_at_once_one_decides(home: NodeHome) -> None:
    come(home, *[f"P{number}" for number in range(6)])
    found = []

    def ask() -> None:
        with Vault(home) as vault:
            found.append(tuple(one.pseudonym for one in vault.enrolled("s")))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == 1


def test_every_change_of_an_image_or_pair_raises_the_generation_and_nothing_else_does(home: NodeHome) -> None:
    seen = [generation_of(home)]

    def grew() -> bool:
        seen.append(generation_of(home))
        return seen[-1] > (seen[-2] or 0)

    come(home, "Ann", "Bob")
    assert grew()
    with Vault(home) as vault:
        vault.enrolled("s")
        vault.patients()
        with vault.writing():
            pass
    assert not grew()
    with Vault(home) as vault, vault.writing() as writer:
        first, second = (ref.blob for ref in vault.images())
        writer.record_twins([(first, second, 0.9)], last=second)
    assert grew()
    with Vault(home) as vault, vault.writing() as writer:
        writer.two_people(vault.twins()[0].number)
    assert grew()
    # By another process altogether, and past our own writer.
    change = "import sqlite3, sys; d = sqlite3.connect(sys.argv[1]); d.execute('DELETE FROM twin'); d.commit()"
    subprocess.run([sys.executable, "-c", change, str(home.vault_path / "index.db")], check=True)
    assert grew()
    forget(home, "Bob")
    assert grew()


def test_a_vault_that_cannot_be_read_has_no_generation(home: NodeHome) -> None:
    assert generation_of(home) is None
    (home.vault_path / "index.db").write_bytes(b"noise" * 1000)
    assert generation_of(home) is None
