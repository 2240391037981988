"""A consortium on paper: hours, memory, disk and network by the measured laws, and which limit is met first.

Nothing here is measured. A quantity is a law at a size that was not tried, times how often it comes; a wall is a
quantity beside the most that there may be of it. The largest ratio is the first wall.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from benchmarks._scale_laws import Law
from sonoshare_client.intake.twins import GRID_PX
from sonoshare_client.node.log_copy import MAX_LOG_BYTES

GIB: Final = 1 << 30
HOUR: Final = 3600.0
DAY_HOURS: Final = 24.0
WEEK_HOURS: Final = 7 * DAY_HOURS
YEAR_HOURS: Final = 365.25 * DAY_HOURS
HOSPITAL_MEMORY: Final = 64.0 * GIB
FLOAT_BYTES: Final = 4


@dataclass(frozen=True)
class Asked:
    """The consortium on paper. All but the first three are assumptions that a plan settles.

    Attributes:
        hospitals: of one size.
        images: of all hospitals together.
        researchers: who each fetch one release a year.
        patients_images: images of a patient.
        batch: patients expected in a step.
        draws: of each of them.
        steps: of a study, at each hospital.
        rounds: of a study.
        synthetic: images of a release.
        sampler_steps: of an image.
        studies: a year.
        years: that the consortium lives.
        flower_seconds: of the server, a hospital and round, beside what is measured here (``benchmarks.round``).
        picture_bytes: of a sealed picture on the disk.
    """

    hospitals: int
    images: int
    researchers: int
    patients_images: float = 2.0
    batch: int = 256
    draws: int = 4
    steps: int = 1000
    rounds: int = 50
    synthetic: int = 10_000
    sampler_steps: int = 10
    studies: int = 10
    years: int = 5
    flower_seconds: float = 0.34
    picture_bytes: float = 300e3


@dataclass(frozen=True)
class Wall:
    """Something that there is a most of.

    Attributes:
        what: in words, with its unit.
        needed: how much of it.
        most: how much there may be.
        then: what to add when it is met.
    """

    what: str
    needed: float
    most: float
    then: str

    def said(self) -> dict[str, Any]:
        """For the JSON line."""
        ratio = self.needed / self.most
        return {"what": self.what, "needed": _short(self.needed), "most": _short(self.most), "ratio": _short(ratio),
                "then": self.then}  # fmt: skip


def plan(asked: Asked, laws: Mapping[str, Law]) -> dict[str, Any]:
    """Hours, bytes and walls of a consortium on paper."""
    each = asked.images / asked.hospitals
    hospital = _hospital(asked, laws, each)
    coordinator = _coordinator(asked, laws)
    catalogue = _catalogue(asked, laws)
    walls = sorted(_walls(hospital, coordinator, catalogue), key=lambda wall: -wall.needed / wall.most)
    shown = {"hospital": hospital, "coordinator": coordinator, "catalogue": catalogue}
    return {
        "assumed": asdict(asked),
        "images_of_a_hospital": _short(each),
        **{name: {key: _short(value) for key, value in of.items()} for name, of in shown.items()},
        "walls": [wall.said() for wall in walls],
    }


def _hospital(asked: Asked, laws: Mapping[str, Law], each: float) -> dict[str, float]:
    step = laws["training_step"].at(patients=asked.batch, draws=asked.draws)
    return {
        "first_intake_comparison_hours": laws["twins"].at(images=each) / HOUR,
        "first_intake_comparison_gib": each * GRID_PX**2 * FLOAT_BYTES / GIB,
        "opening_vault_hours": laws["vault_seconds"].at(images=each) / HOUR,
        "patients_in_memory_gib": laws["vault_bytes"].at(images=each) / GIB,
        "training_hours_a_study": step * asked.steps / HOUR,
        "copy_search_hours_a_release": laws["copy_search"].at(synthetic=asked.synthetic, images=each) / HOUR,
        "agent_seconds_a_round": laws["round_agent"].at(hospitals=asked.hospitals),
        "received_mib_a_round": laws["round_bytes"].at(hospitals=asked.hospitals) / asked.hospitals / 2**20,
        "ledger_open_seconds": laws["ledger_open"].at(charges=asked.years * asked.studies * (asked.rounds + 3)),
        "vault_disk_gib": each * asked.picture_bytes / GIB,
    }


def _coordinator(asked: Asked, laws: Mapping[str, Law]) -> dict[str, float]:
    grown = laws["log_bytes"].at(hospitals=asked.hospitals) * asked.rounds * asked.studies * asked.years
    own = laws["round_server"].at(hospitals=asked.hospitals)
    entries = (asked.hospitals + 2) * asked.rounds * asked.studies * asked.years
    return {
        "own_seconds_a_round": own,
        "with_flower_seconds_a_round": own + asked.flower_seconds * asked.hospitals,
        "sent_gib_a_round": laws["round_bytes"].at(hospitals=asked.hospitals) / GIB,
        "log_entries": float(entries),
        "log_bytes": grown,
        "log_open_seconds": laws["log_open"].at(entries=entries),
        "log_append_and_head_ms": 1000 * laws["log_append"].at(entries=entries),
        "drawing_hours_a_release": laws["drawing"].at(images=asked.synthetic) * asked.sampler_steps / 10 / HOUR,
    }


def _catalogue(asked: Asked, laws: Mapping[str, Law]) -> dict[str, float]:
    releases, size = asked.studies * asked.years, laws["download_bytes"].at(images=asked.synthetic)
    return {
        "releases": float(releases),
        "list_page_ms": 1000 * laws["list_page"].at(releases=releases),
        "word_search_ms": 1000 * laws["list_words"].at(releases=releases),
        "release_gib": size / GIB,
        "disk_gib": releases * size / GIB,
        "sent_tib_a_year": asked.researchers * size / GIB / 1024,
        "download_hours_a_year": asked.researchers * laws["download"].at(images=asked.synthetic) / HOUR,
    }


def _walls(
    hospital: Mapping[str, float], coordinator: Mapping[str, float], catalogue: Mapping[str, float]
) -> list[Wall]:
    return [
        Wall("bytes of the transparency log that a hospital holds", coordinator["log_bytes"], MAX_LOG_BYTES,
             "a hospital refuses more than MAX_LOG_BYTES, which guards its disk: raise it in a new version; a log that"
             " is begun anew each few years is not built"),
        Wall("processor hours to compare a first intake", hospital["first_intake_comparison_hours"], DAY_HOURS,
             "a GPU (ingest --device cuda) or more cores; for a million pictures at one hospital a search with an"
             " index"),
        Wall("memory of that comparison, GiB", hospital["first_intake_comparison_gib"], HOSPITAL_MEMORY / GIB,
             "a machine with more memory, or comparison in blocks"),
        Wall("memory of a hospital's opened patients, GiB", hospital["patients_in_memory_gib"], HOSPITAL_MEMORY / GIB,
             "a machine with more memory"),
        Wall("processor hours to train one study", hospital["training_hours_a_study"], WEEK_HOURS,
             "a GPU, then several (hospital start --gpus all); or a smaller batch"),
        Wall("processor hours of one search for copies", hospital["copy_search_hours_a_release"], DAY_HOURS,
             "a GPU, more cores, or a smaller release"),
        Wall("server seconds of a round, Flower included", coordinator["with_flower_seconds_a_round"], HOUR,
             "more processors for the SuperLink; then hospitals in groups, each with a coordinator"),
        Wall("processor hours to draw one release", coordinator["drawing_hours_a_release"], DAY_HOURS,
             "a GPU, or workers on several machines (release draw)"),
        Wall("processor hours to serve downloads in a year, both ends", catalogue["download_hours_a_year"], YEAR_HOURS,
             "PostgreSQL, an object store that serves the files, several catalogue workers"),
    ]  # fmt: skip


def _short(value: float) -> float:
    return float(f"{value:.3g}")
