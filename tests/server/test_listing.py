"""What is looked for in the public list is found in the database, as it would be by looking at every release."""

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.server.memory import MemoryReleases
from tests.server.postgres import fresh_schema, postgres
from tests.shared.consortium import NOW, Consortium

from sonoshare_server.catalogue.blobs import FolderBlobs
from sonoshare_server.catalogue.database import Database
from sonoshare_server.catalogue.listing import PAGE, Choices, Found, Wanted
from sonoshare_server.catalogue.publishing import publish
from sonoshare_server.catalogue.store import ReleaseStore, SqlReleases, StoredRelease
from sonoshare_shared.protocol.release.verify import Verified

RELEASES = 30
ALL = 1000


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Verified, StoredRelease]]:
    """Releases of several tasks, classes, sizes and budgets, after one that was really made."""
    folder, store = tmp_path_factory.mktemp("consortium"), MemoryReleases()
    consortium = Consortium(folder)
    verified = publish(store, FolderBlobs(folder), consortium.release(), consortium.signed_roster(), now=NOW)
    (first,) = store.releases().values()
    rng = random.Random(17)  # noqa: S311 - repeatable
    made = []
    for number in range(RELEASES):
        name, summary = f"r{number}", {**first.summary}
        summary |= {"release": name, "task": rng.choice(["diagnosis", "grading"]), "images": rng.randrange(9)}
        summary |= {"question": rng.choice(["Benign?", "100 % sure_of ÄRGER?"])}
        summary["counts"] = {label: rng.randrange(2) for label in ("benign", "malignant", "no-lesion")}
        summary["privacy"] = {**first.summary["privacy"], "epsilon": rng.choice([0.5, 2.0, 7.25])}
        if number % 3:
            summary["image_size"] = rng.choice([64, 256])
        else:
            del summary["image_size"]  # as it was before it was told
        stored = replace(first, release=name, sequence=number // 2 + 1, summary=summary)
        made.append((replace(verified, manifest=verified.manifest.model_copy(update={"release": name})), stored))
    return made


def fill(store: ReleaseStore, shown: list[tuple[Verified, StoredRelease]]) -> ReleaseStore:
    for number, (verified, stored) in enumerate(shown):
        store.show(verified, stored, now=NOW)
        if number % 5 == 1:
            store.hide(stored.release, now=NOW)
        if number % 10 in {0, 1}:
            store.withdraw(stored.release, stored.manifest_digest, reason="south: withdrawn", now=NOW)
        elif number % 15 == 6:
            store.show(verified, stored, now=NOW)
    return store


@pytest.fixture(scope="module", params=["SQLite", "PostgreSQL"])
def releases(
    request: pytest.FixtureRequest,
    shown: list[tuple[Verified, StoredRelease]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ReleaseStore]:
    if request.param == "SQLite":
        database = Database(tmp_path_factory.mktemp("catalogue") / "catalogue.db")
        yield fill(SqlReleases(database), shown)
        database.close()
        return
    with postgres() as url:
        database = Database(fresh_schema(url))
        yield fill(SqlReleases(database), shown)
        database.close()


def names(found: Found) -> list[str]:
    return [release["release"] for release in found.releases]


def test_every_filter_finds_what_a_look_at_every_release_finds(
    releases: ReleaseStore, shown: list[tuple[Verified, StoredRelease]]
) -> None:
    plain = fill(MemoryReleases(), shown)
    assert (
        releases.choices()
        == plain.choices()
        == Choices(("diagnosis", "grading"), ("benign", "malignant", "no-lesion"), (64, 256))
    )
    rng, counts = random.Random(18), set()  # noqa: S311 - repeatable
    for _ in range(150):
        wanted = Wanted(
            words=rng.choice(["", "", "ärger", "100 %", "R1", "benign r2", "sure_", "sureXof", "%", "\\", "'"]),
            task=rng.choice(["", "", "diagnosis", "none"]),
            label=rng.choice(["", "", "malignant", "no-lesion"]),
            size=rng.choice([None, None, 64, 5]),
            epsilon=rng.choice([None, None, 2.0, 0.1]),
            state=rng.choice(["", "", "published", "revoked"]),
            order=rng.choice(["newest", "oldest", "epsilon", "images", "name"]),
            page=rng.choice([1, 1, 2]),
        )
        answer = releases.search(wanted)
        assert answer == plain.search(wanted), wanted
        counts.add(answer.count)
    assert 0 in counts
    assert len(counts) > 5


def test_pages_hold_every_public_release_once_and_nothing_else(releases: ReleaseStore) -> None:
    pages = [names(releases.search(Wanted(page=page))) for page in (1, 2)]
    assert [len(page) for page in pages] == [PAGE, len(releases.releases()) - PAGE]
    assert pages[0] + pages[1] == list(releases.releases())
    assert names(releases.search(Wanted(page=ALL))) == []
