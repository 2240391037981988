"""What a candidate takes of an agent's memory until its audit begins: peak resident memory of a process of its own.

    python -m benchmarks.pieces [--megabytes 200]

A candidate of random files is written as the frame in which it reaches an agent. A fresh process reads the frame, takes
it apart, checks every digest and looks at every file once, as an audit does; nothing is computed and no patient read.

Prints one JSON object: ``frame_mib``, ``start_mib`` (resident before), ``peak_mib``, and ``times`` (what came on top,
over the size of the frame).
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
from pathlib import Path
from typing import Final

import numpy as np

from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents.exchange import KeysRequest, decode_frame, encode_frame
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.candidate import Candidate, CandidateImage
from sonoshare_shared.protocol.release.transfer import pack, unpack

FILE_BYTES: Final = 100_000
_MIB: Final = 1 << 20


def frame_of(megabytes: int) -> tuple[bytes, str]:
    """A frame with a candidate of about a size, and the candidate's digest."""
    source, adapter = np.random.default_rng(1), b"adapter"
    files: dict[str, bytes] = {}
    listed = []
    for index in range(max(1, megabytes * 1_000_000 // (2 * FILE_BYTES))):
        image, mask = source.bytes(FILE_BYTES), source.bytes(FILE_BYTES)
        files |= {layout.image_path(index): image, layout.mask_path(index): mask}
        digests = sha256_hex(image), sha256_hex(mask)
        listed.append(
            CandidateImage(index=index, image=digests[0], mask=digests[1], label="phantom", scanner="unknown", box=None)
        )
    candidate = Candidate(
        release="r1",
        study="study",
        plan_digest="0" * 64,
        model_digest=sha256_hex(adapter),
        seed=1,
        size=256,
        images=tuple(listed),
    ).canonical()
    return encode_frame(KeysRequest(), pack(candidate, adapter, files.__getitem__)), sha256_hex(candidate)


def looked_at(path: str, digest: str) -> tuple[float, float]:
    """Resident memory before and at its peak, in MiB, of a process that takes a frame as an agent does."""
    start = _peak_mib()
    frame = Path(path).read_bytes()  # held to the end, as by `Agent.answer`
    _, payload = decode_frame(frame)
    files = unpack(payload, digest)
    for _ in zip(files.images, files.masks, strict=True):
        pass
    return start, _peak_mib()


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=200)
    megabytes = parser.parse_args().megabytes
    with tempfile.TemporaryDirectory() as folder, multiprocessing.get_context("spawn").Pool(1) as pool:
        path = Path(folder) / "frame"
        frame, digest = frame_of(megabytes)
        path.write_bytes(frame)
        start, peak = pool.apply(looked_at, (str(path), digest))
    size = len(frame) / _MIB
    figures = {"frame_mib": size, "start_mib": start, "peak_mib": peak, "times": (peak - start) / size}
    print(json.dumps({name: round(value, 2) for name, value in figures.items()}))


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
