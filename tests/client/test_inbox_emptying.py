"""What came by network is removed once the vault has it with a class, and not before."""

from pathlib import Path

from tests.client.crafted import make_node, save, ultrasound

from sonoshare_client.intake.ingest import ingest
from sonoshare_client.node.home import NodeHome
from sonoshare_client.sources.inbox import Inbox

MIB = 1 << 20


def received(home: NodeHome, folder: Path, seed: int, accession: str) -> Path:
    picture = ultrasound(seed)
    picture.AccessionNumber, picture.PatientID = accession, f"P-{accession}"
    data = save(picture, folder / f"{seed}.dcm").read_bytes()
    return Inbox(home.inbox_path, 64 * MIB, "receive").put(data)


def test_a_file_of_the_inbox_stays_until_it_has_a_class_and_a_folder_of_ones_own_stays_whole(tmp_path: Path) -> None:
    home = make_node(tmp_path / "node")
    labelled, waiting = received(home, tmp_path, 1, "A-1"), received(home, tmp_path, 2, "A-2")
    junk = Inbox(home.inbox_path, MIB, "receive").put(b"no picture at all")
    first = ingest(home, home.inbox_path)
    assert (first.accepted, first.waiting) == (2, 2)
    assert labelled.exists() and waiting.exists() and junk.exists(), "labels may still come"  # noqa: PT018
    labels = tmp_path / "labels.csv"
    labels.write_text("accession,patient,label\nA-1,P-A-1,benign\n")
    second = ingest(home, home.inbox_path, labels)
    assert second.classified == 1
    assert not labelled.exists()
    assert waiting.exists()
    assert junk.exists()

    own = tmp_path / "own"
    for path in (waiting,):
        (own / path.name).parent.mkdir()
        (own / path.name).write_bytes(path.read_bytes())
    labels.write_text("accession,patient,label\nA-2,P-A-2,malignant\n")
    assert ingest(home, own, labels).classified == 1
    assert (own / waiting.name).exists()
    assert ingest(home, home.inbox_path, labels).duplicates == 1
    assert not waiting.exists()
