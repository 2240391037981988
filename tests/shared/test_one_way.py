"""Things that the code base does in one place, and nowhere else."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("shared", "privacy", "client", "server", "deploy", "benchmarks")

ONE_WAY = {
    "a picture file is opened": (
        r"Image\.open\(|dcmread\(|pixel_array",
        {
            "shared/sonoshare_shared/science/pictures/raster.py",
            "shared/sonoshare_shared/science/pictures/dicom.py",
            # One compressed frame of what it opened.
            "shared/sonoshare_shared/science/pictures/compressed.py",
            # A JPEG made and read in memory: one of the planted edits.
            "privacy/sonoshare_privacy/audits/edits.py",
            # The bare decoding that intake is compared with.
            "benchmarks/intake.py",
            # Headers alone, to find ultrasound among test sets.
            "benchmarks/intake_objects.py",
            # Phantom stills, from which clips are made.
            "benchmarks/intake_clips.py",
            # Headers alone, to break them.
            "benchmarks/_fuzz_mutations.py",
        },
    ),
    "levels become eight bits": (
        r"(\*\s*255|255(\.0)?\s*\*)(?!.*np\.uint8\(255\))|_WHITE\)",
        {
            "shared/sonoshare_shared/science/levels.py",
            # The same of tensors, where they are.
            "shared/sonoshare_shared/science/phantom/on_device.py",
        },
    ),
    "somebody asks whether there is a GPU": (
        r"cuda\.(is_available|device_count|get_device_name)\(|\.is_cuda\b|(torch\.device|\.to)\([\"']cuda",
        {"shared/sonoshare_shared/science/device.py"},
    ),
    "libraries are told in which arithmetic to compute": (
        r"allow_tf32|fp32_precision|matmul_precision\(|cudnn\.(flags|benchmark|deterministic)|autocast\(",
        {
            "shared/sonoshare_shared/science/precision.py",
            # Leaves take up the forward's type and compute their own rule without it.
            "privacy/sonoshare_privacy/patient_gradients/leaves.py",
        },
    ),
    "an area under a curve is computed": (
        r"roc_auc_score|mannwhitneyu|rankdata\(",
        {"shared/sonoshare_shared/science/evaluation/auc.py"},
    ),
    "a box is a type": (
        r"^Box\s*[:=]|class Box\b|tuple\[float, float, float, float\]",
        {
            "shared/sonoshare_shared/science/box.py",
            # What a document holds is its own type.
            "server/sonoshare_server/release/build.py",
        },
    ),
}


@pytest.mark.parametrize("what", ONE_WAY)
def test_there_is_one_place_where(what: str) -> None:
    pattern, places = ONE_WAY[what]
    found = {
        path.relative_to(ROOT).as_posix()
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if re.search(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert found == places


def test_no_module_of_a_hospital_opens_a_network_socket() -> None:
    """Agent and courier meet on a Unix socket; who talks to the network does so through a library, in its own room."""
    pattern = re.compile(
        r"AF_INET|TCPServer|UDPServer|HTTPServer|create_connection|create_server|urlopen|open_connection"
    )
    modules = list((ROOT / "client").rglob("*.py"))
    assert len(modules) > 50
    assert [path.name for path in modules if pattern.search(path.read_text(encoding="utf-8"))] == []
