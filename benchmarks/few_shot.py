"""What some tens of patients are worth for a question that the base was not trained on: as an adapter, or as votes.

    python -m benchmarks.few_shot --work DIR [--busbra DIR] [--folds 1] [--patients 40,100] [--seeds 1] [--json]
        [--questions diagnosis,hard-diagnosis,birads,histology] [--device auto] [--report]
        [--ways adapter,votes,votes_eps1,own,own_phantoms,own_votes] [--classifier-steps N]

BUS-BRA, official patient-disjoint folds, 64 px. Questions:

- ``diagnosis``: the shipped task, malignant against benign.
- ``hard-diagnosis``: the same where the radiologist did not give BI-RADS 5: cancers that do not look like one at once.
  It is the nearest to early diagnosis that BUS-BRA has.
- ``birads``: the shipped task (BI-RADS 2, 3, 4, 5); judged as 4 or 5 against 2 or 3. Its phantoms differ by class.
- ``histology``: cyst against fibroadenoma. Benign phantoms stand for both, so they say nothing (the floor is chance),
  and whatever a classifier learns beyond that came from the patients.

The tasks ``early-diagnosis`` (benign against in situ) and ``prognosis`` (axillary nodes) are not run: BUS-BRA has a
handful of cancers in situ and says nothing of nodes. What it has is counted and printed (``not_carried``).

For each fold and number of patients, that many patients of the *other* folds are drawn, the classes taking turns. What
is learned from them, by ``--ways``:

- ``adapter``: public use, no privacy is claimed (no clipping, no noise; `_utility_adapters.plain_adapter`); 600
  phantoms of the task are refined by it (time 250, 5 steps);
- ``votes``: each patient votes for a kind of phantoms (a ballot of ten kinds a class from 3000 phantoms, made here),
  counts are exact: public use; 600 phantoms are drawn by them at the sharpness that commands propose, as simulated;
- ``votes_eps1``: the same with the real mechanism's noise at epsilon 1;
- ``own``: the patients' own pictures are the training set; ``own_phantoms`` and ``own_votes`` add the 600 of the floor
  or of exact votes. Nothing is private there: it is what a hospital can do alone.

The small CNN is trained by the rule of the report and scores the fold; ``phantoms`` are those of the task as they are,
the same that adapters refine. Scores become ranks within their fold and are pooled; intervals and differences are over
resampled test patients and do not contain the variance of training.

Prints one JSON object as the last line of stdout: by question ``test`` (patients, images, positive images) and by arm
``{auc, interval, difference}``, for adapters (and ``phantoms``: the base, untuned) also ``denoising``, the mean
held-out loss. Every unit is kept in ``--work``; the same command goes on where it stopped; ``--report`` only reads.
"""

import argparse
import csv
import hashlib
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import torch

from benchmarks._few_shot_work import PHANTOM_SEED, QUESTIONS, WAYS, Arm, FewShot, Question, Settings
from sonoshare_shared.science.device import chosen_device, device_words
from sonoshare_shared.science.evaluation.classifier import RECIPE
from sonoshare_shared.science.evaluation.labelled import load_labelled
from sonoshare_shared.science.evaluation.units import Units
from sonoshare_shared.science.label_table import LabelTable
from sonoshare_shared.science.labels import read_labels
from sonoshare_shared.science.model.base import load_base
from sonoshare_shared.science.model.profiles import profile_named
from sonoshare_shared.science.phantom import simulate

BUSBRA: Final = Path(__file__).resolve().parents[2] / "shared" / "data" / "busbra"
WORK: Final = Path(__file__).resolve().parents[1] / "work" / "few-shot"


def labelled_by(question: Question, busbra: Path) -> LabelTable:
    """BUS-BRA with the labels of a question; pictures that it does not ask about are left out."""
    with (busbra / "bus_data.csv").open(newline="") as file:
        cells = {
            f"{row['ID']}.png": question.cells.get(row[question.column])
            for row in csv.DictReader(file)
            if all(row[column] in values for column, values in question.only.items())
        }
    table = read_labels(busbra)
    asked = ((row, cells.get(row.image.name)) for row in table)
    return LabelTable(table.folder, tuple(replace(row, label=label) for row, label in asked if label))


def not_carried(busbra: Path) -> dict[str, object]:
    """What BUS-BRA has for the tasks that it cannot test, counted."""
    with (busbra / "bus_data.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    in_situ = [row for row in rows if "in situ" in row["Histology"]]
    return {
        "early-diagnosis": {"in_situ_patients": len({row["Case"] for row in in_situ}), "images": len(in_situ)},
        "prognosis": {"columns": sorted(rows[0])},
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--busbra", type=Path, default=BUSBRA, help="folder of BUS-BRA")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of finished units")
    parser.add_argument("--folds", default="1")
    parser.add_argument("--patients", default="40,100")
    parser.add_argument("--questions", default=",".join(QUESTIONS))
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--classifier-steps", type=int, help="of the small CNN, instead of those of the rule")
    parser.add_argument("--device", default="auto", help="auto|cpu|cuda[:N], of classifiers")
    parser.add_argument("--report", action="store_true", help="only read what is there")
    parser.add_argument("--json", action="store_true", help="the result is JSON in any case")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not (arguments.busbra / "bus_data.csv").is_file():
        print(f"BUS-BRA is not at {arguments.busbra}", file=sys.stderr)
        print(json.dumps({"skipped": "BUS-BRA is not here"}))
        return
    folds, sizes = ([int(part) for part in text.split(",")] for text in (arguments.folds, arguments.patients))
    ways = arguments.ways.split(",")
    if set(ways) - set(WAYS) or min(sizes) < 1:
        parser.error(f"ways are some of {', '.join(WAYS)}, patients are one or more")
    arms = [Arm(way, size) for way in ways for size in sizes]
    settings = Settings(classifier_steps=arguments.classifier_steps)
    profile = settings.training.profile
    probe = simulate(2, seed=PHANTOM_SEED, size=profile_named(profile).size)
    pinned = {
        "settings": asdict(settings),
        "classifier": asdict(RECIPE),
        "ways": {way: voting and asdict(voting) for way, voting in WAYS.items()},
        "base": load_base(profile)[1],
        "phantoms": hashlib.sha256(probe.images.tobytes()).hexdigest(),
    }
    units = Units(
        arguments.work,
        pinned,
        compute=not arguments.report,
        say=lambda name: print(name, file=sys.stderr, flush=True),
    )
    device = chosen_device(arguments.device)
    result: dict[str, object] = {"folds": folds, "seeds": arguments.seeds, "device": device_words(device)}
    result["not_carried"] = not_carried(arguments.busbra)
    for name in arguments.questions.split(","):
        question = QUESTIONS[name]
        real = load_labelled(
            labelled_by(question, arguments.busbra), profile_named(profile).size, question.task.classes
        )
        result[name] = FewShot(question, real, units, settings, name, device).figures(folds, arms, arguments.seeds)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
