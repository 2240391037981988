"""What grows at the coordinator and the catalogue, measured at several sizes: rounds, log, drawing, the public list."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import numpy as np
from tests.server.catalogue_fixture import ACCEPTANCE, Clock
from tests.shared import consortium as simulated
from tests.shared.consortium import NOW, RELEASE, Consortium

from benchmarks import _round_world as world
from benchmarks._scale_hospital import REPEATS, SIDE, Points, timed
from benchmarks.release import TimedFleet
from benchmarks.verify_speed import pictures
from sonoshare_client.agent import service
from sonoshare_client.agent.node import Node
from sonoshare_client.agent.service import Agent
from sonoshare_client.node.home import NodeHome
from sonoshare_server.catalogue.app import create_app, serving
from sonoshare_server.catalogue.blobs import FolderBlobs
from sonoshare_server.catalogue.database import Database
from sonoshare_server.catalogue.listing import Wanted
from sonoshare_server.catalogue.public_log import OwnLog
from sonoshare_server.catalogue.publishing import publish
from sonoshare_server.catalogue.settings import CatalogueSettings
from sonoshare_server.catalogue.storage import open_storage
from sonoshare_server.catalogue.store import SqlReleases
from sonoshare_server.federation.coordinator import Coordinator
from sonoshare_server.federation.rounds import train
from sonoshare_shared.protocol.canonical import canonical_bytes
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.protocol.release.fetch import fetch_release
from sonoshare_shared.protocol.release.remote import HttpSource, connected
from sonoshare_shared.protocol.translog import TransparencyLog
from sonoshare_shared.science.model.base import load_base
from sonoshare_shared.science.model.conditions import Condition
from sonoshare_shared.science.model.sampler import SamplerSettings, sample

PAYLOAD = 1 << 18
ROUNDS = 3


class WeighedFleet(TimedFleet):
    """Counts what hospitals are sent, too."""

    sent = 0

    def ask(self, requests: Mapping[str, bytes], deadline_seconds: float) -> Iterator[dict[str, bytes | None]]:
        """See ``federation.fleet``."""
        self.sent += sum(len(frame) for frame in requests.values())
        return super().ask(requests, deadline_seconds)


def rounds(hospitals: Sequence[int]) -> tuple[Points, Points, Points, Points]:
    """A round without Flower and without its step, by hospitals; the first size is run twice, once to warm up.

    Returns:
        Seconds of the coordinator; seconds of one hospital's agent; bytes that all hospitals are sent; bytes that the
        transparency log grows by.
    """
    server: Points = []
    agent: Points = []
    wire: Points = []
    logged: Points = []
    vars(service)["train_round"] = world.RoundWithoutStep()
    for count in (hospitals[0], *hospitals):
        with tempfile.TemporaryDirectory() as folder:
            names = world.names(count)
            home = world.make(Path(folder), names, PAYLOAD, ROUNDS)
            fleet = WeighedFleet({name: Agent(Node.open(NodeHome.open(Path(folder) / name))) for name in names})
            spent: list[float] = []
            with timed(spent):
                train(Coordinator(home, home.study(world.STUDY), fleet, home.log()))
            grown = home.log_path.stat().st_size
            answered = sum(sum(of.values()) for of in fleet.took.values())
        at = {"hospitals": count}
        server.append((at, (spent[0] - answered) / ROUNDS))
        agent.append((at, answered / ROUNDS / count))
        wire.append((at, fleet.sent / ROUNDS))
        logged.append((at, grown / ROUNDS))
    return server[1:], agent[1:], wire[1:], logged[1:]


def log(entries: Sequence[int]) -> tuple[Points, Points]:
    """Reading the log to its first head, and a head after one more entry, by entries."""
    opening: Points = []
    appending: Points = []
    key = SigningKey.generate()
    with tempfile.TemporaryDirectory() as folder:
        for count in entries:
            path = Path(folder) / f"{count}.jsonl"
            lines = [canonical_bytes({"kind": "note", "number": n, "digest": f"{n:064d}"}) for n in range(count)]
            path.write_bytes(b"\n".join(lines) + b"\n")
            spent: list[float] = []
            more: list[float] = []
            for _ in range(REPEATS):
                with timed(spent):
                    opened = TransparencyLog(path, key, lambda: datetime.now(UTC))
                    opened.index  # noqa: B018 - reads what the entries say
                    opened.head()
            for number in range(9):
                with timed(more):
                    opened.append({"kind": "note", "number": count + number})
                    opened.head()
            opening.append(({"entries": count}, median(spent)))
            appending.append(({"entries": count}, median(more)))
    return opening, appending


def drawing(images: Sequence[int]) -> Points:
    """Drawing with the shipped network, ten steps each, by images."""
    model, _ = load_base("small")
    model.eval()
    points: Points = []
    for count in images:
        spent: list[float] = []
        with timed(spent):
            condition = Condition.of(np.zeros(count, np.int64))
            sample(model, SamplerSettings(steps=10, batch_size=32), condition, seed=1)
        points.append(({"images": count}, spent[0]))
    return points


def downloads(images: Sequence[int]) -> tuple[Points, Points]:
    """A release fetched over loopback, each file held against its digest: seconds of both ends together, and bytes."""
    seconds: Points = []
    size: Points = []
    simulated.SIZE = SIDE
    for count in images:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            made = pictures(folder, count, SIDE)
            settings = CatalogueSettings(
                database=folder / "catalogue.db",
                roster=made.signed_roster,
                clock=Clock(),
                log=OwnLog(made.folder / "log.jsonl", made.coordinator, Clock()),
                requests_per_minute=1_000_000_000,
            )
            storage = open_storage(settings)
            publish(storage.releases, storage.blobs, folder / RELEASE, settings.roster(), now=NOW)
            spent: list[float] = []
            with serving(create_app(settings, storage)) as address:
                with connected(address) as client:
                    token = client.post("/api/v1/agreements", json=ACCEPTANCE).json()["token"]
                with connected(address, token) as client, timed(spent):
                    fetch_release(HttpSource(client), RELEASE, folder / "fetched", lambda _: None)
            weight = sum(path.stat().st_size for path in (folder / "fetched").rglob("*") if path.is_file())
        seconds.append(({"images": count}, spent[0]))
        size.append(({"images": count}, float(weight)))
    return seconds, size


def catalogue(releases: Sequence[int]) -> tuple[Points, Points]:
    """A page of the public list, and a page of what a word finds, by releases (SQLite)."""
    newest: Points = []
    words: Points = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        consortium, store = Consortium(folder), SqlReleases(Database(folder / "catalogue.db"))
        verified = publish(store, FolderBlobs(folder), consortium.release(), consortium.signed_roster(), now=NOW)
        (first,) = store.releases().values()
        made = 1
        for count in releases:
            for number in range(made, count):
                name = f"r{number}"
                stored = replace(first, release=name, sequence=number + 1, summary={**first.summary, "release": name})
                shown = verified.manifest.model_copy(update={"release": name})
                store.show(replace(verified, manifest=shown), stored, now=NOW)
            made = count
            for points, wanted in ((newest, Wanted()), (words, Wanted(words="nothing like it"))):
                spent: list[float] = []
                for _ in range(9):
                    with timed(spent):
                        store.search(wanted)
                points.append(({"releases": count}, median(spent)))
    return newest, words
