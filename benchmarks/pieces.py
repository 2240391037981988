"""What a candidate takes on its way to an audit: memory of agent and coordinator, bytes on the wire, time.

    python -m benchmarks.pieces [--megabytes 200]

A candidate of random files lies in a folder. One process reads it batch by batch and makes the requests, as the
coordinator does; another takes them from a Unix socket, keeps each batch in its inbox, opens what it holds and looks at
every file once, as an agent does before an audit. Nothing is computed and no patient read.

Prints one JSON object: ``candidate_mib``; ``wire`` (bytes of all requests over those of the candidate's files);
``batches``; and for ``agent`` and ``coordinator`` resident memory before and at its peak, and what came on top, in MiB;
``hold_seconds`` and ``look_seconds``.
"""

import argparse
import json
import multiprocessing
import resource
import socket
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import numpy as np

from sonoshare_client.agent.inbox import Inbox, Terms
from sonoshare_client.node.socket import ask_agent, receive_frame, send_frame
from sonoshare_server.federation.holding import BATCH_BYTES
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents.exchange import decode_frame, encode_frame
from sonoshare_shared.protocol.documents.holding import Held, HoldRequest
from sonoshare_shared.protocol.documents.view import LogPart
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.candidate import Candidate, CandidateImage
from sonoshare_shared.protocol.release.transfer import Outgoing

FILE_BYTES: Final = 100_000
ADAPTER: Final = b"adapter"
_MIB: Final = 1 << 20


def candidate_in(folder: Path, megabytes: int) -> None:
    """Write a candidate of about a size."""
    source, listed = np.random.default_rng(1), []
    for name in (layout.IMAGES, layout.MASKS):
        (folder / name).mkdir()
    for index in range(max(1, megabytes * 1_000_000 // (2 * FILE_BYTES))):
        image, mask = source.bytes(FILE_BYTES), source.bytes(FILE_BYTES)
        (folder / layout.image_path(index)).write_bytes(image)
        (folder / layout.mask_path(index)).write_bytes(mask)
        digests = sha256_hex(image), sha256_hex(mask)
        listed.append(
            CandidateImage(index=index, image=digests[0], mask=digests[1], label="phantom", scanner="unknown", box=None)
        )
    candidate = Candidate(
        release="r1",
        study="study",
        plan_digest="0" * 64,
        model_digest=sha256_hex(ADAPTER),
        seed=1,
        size=256,
        images=tuple(listed),
    )
    (folder / layout.CANDIDATE).write_bytes(candidate.canonical())
    (folder / "adapter").write_bytes(ADAPTER)


def agent(path: str, folder: str, results: Connection) -> None:
    """Hold what comes until it is whole, then look at it; sends memory before and at its peak, and the seconds."""
    inbox, start, whole = Inbox(Path(folder)), _peak_mib(), False
    terms = Terms(lambda _candidate: None, 1 << 28, 1 << 32)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        results.send("listens")
        while not whole:
            with listener.accept()[0] as peer:
                header, batch = decode_frame(receive_frame(peer))
                request = HoldRequest.from_bytes(header)
                check = inbox.take(request.candidate_digest, request.offset, batch, terms)
                digest, whole = request.candidate_digest, check.whole
                held = Held(hospital="north", candidate=digest, held=check.size, whole=whole)
                send_frame(peer, encode_frame(held))
    began = time.monotonic()
    with inbox.opened(digest) as files:
        for _ in zip(files.images, files.masks, strict=True):
            pass
    results.send((start, _peak_mib(), time.monotonic() - began))


def coordinator(path: str, folder: str, results: Connection) -> None:
    """Send the candidate; sends the wire's bytes, how many batches, memory before and at its peak, and the seconds."""
    start, place, signed = _peak_mib(), Path(folder), Envelope.sign("text", b"", SigningKey.generate())
    source = Outgoing(place / layout.CANDIDATE, place / "adapter", place)
    wire, batches, began = 0, 0, time.monotonic()
    said = Held(hospital="north", candidate=source.digest, held=0, whole=False)
    while not said.whole:
        request = HoldRequest(
            plan=signed,
            release="r1",
            candidate_digest=source.digest,
            offset=said.held,
            log=LogPart(first=0, entries=(), head=signed),
        )
        frame = encode_frame(request, source.read(said.held, BATCH_BYTES))
        said = Held.from_bytes(decode_frame(ask_agent(Path(path), frame, 600))[0])
        wire, batches = wire + len(frame), batches + 1
    results.send((wire, batches, start, _peak_mib(), time.monotonic() - began))


def measured(megabytes: int) -> dict[str, object]:
    """The figures of one candidate."""
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder, path = Path(name), f"{name}/agent.sock"
        candidate_in(folder, megabytes)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        (agents, its), (coordinators, other) = spawn.Pipe(), spawn.Pipe()
        one = spawn.Process(target=agent, args=(path, f"{name}/inbox", its))
        one.start()
        agents.recv()
        two = spawn.Process(target=coordinator, args=(path, name, other))
        two.start()
        wire, batches, *sending, hold_seconds = coordinators.recv()
        *holding, look_seconds = agents.recv()
        for process in (one, two):
            process.join()
    return {
        "candidate_mib": round(size / _MIB, 1),
        "wire": round(wire / size, 4),
        "batches": batches,
        "agent": _memory(*holding),
        "coordinator": _memory(*sending),
        "hold_seconds": round(hold_seconds, 1),
        "look_seconds": round(look_seconds, 1),
    }


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=200)
    print(json.dumps(measured(parser.parse_args().megabytes)))


def _memory(start: float, peak: float) -> dict[str, float]:
    return {"start_mib": round(start, 1), "peak_mib": round(peak, 1), "on_top_mib": round(peak - start, 1)}


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
