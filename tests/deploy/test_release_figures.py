"""A candidate is measured before it becomes a release, and its utility report holds what was measured."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.deploy.command import sonoshare
from tests.deploy.conftest import IMAGES
from tests.deploy.labelled_folders import SIDE, pictures

from sonoshare_server.release.facts import Measurement
from sonoshare_server.release.figures import read_measurements
from sonoshare_server.release.pages.utility_plots import utility_parts
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents.reports import UtilityFigure
from sonoshare_shared.science.labels import read_labels


@pytest.fixture(scope="module")
def said(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What `evaluate tstr --json` says of a candidate."""
    folder = tmp_path_factory.mktemp("measured")
    shutil.copytree(trained, folder / "coordinator")
    options = ["--home", folder / "coordinator", "--study", "study", "--name", "r1"]
    run = sonoshare("coordinator", "release", "draw", *options, "--json")
    assert run.returncode == 0, run.stderr
    candidate = json.loads(run.stdout.splitlines()[-1])["candidate"]
    assert len(read_labels(candidate)) == IMAGES
    sets = [("--real", pictures(folder / "real", 30)), ("--train", pictures(folder / "train", 12))]
    options = [part for pair in sets for part in pair]
    options += ["--external", pictures(folder / "elsewhere", 20, seed=6), "--few", "6"]
    usual = ["--size", SIDE, "--steps", 2, "--seeds", 1, "--json"]
    run = sonoshare("evaluate", "tstr", "--synthetic", candidate, *options, *usual)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_figures_of_every_kind_reach_the_utility_report(said: Any, tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    path.write_text(json.dumps(said))
    found = {measurement.name: measurement for measurement in read_measurements(path)}
    assert len(found) == len(read_measurements(path))
    assert found["AUC, trained on this release"] == Measurement(
        "AUC, trained on this release",
        said["synthetic"]["auc"],
        tuple(said["synthetic"]["interval"]),
        said["real"]["auc"],
        "trained on real images",
        "30 test patients",
    )
    few = found["AUC, trained on this release and 6 real patients"]
    assert (few.reference, few.reference_name) == (
        said["few_as_long"]["auc"],
        "trained on 6 real patients for as many steps",
    )
    elsewhere = found["external set elsewhere: AUC, trained on this release and real images"]
    assert (elsewhere.value, elsewhere.note) == (
        said["external"]["elsewhere"]["both"]["auc"],
        "20 images of 20 patients",
    )
    for name in ("Fréchet distance", "kernel distance", "precision", "recall", "density", "coverage"):
        for part in ("whole image", "lesion crop"):
            for where in ("", "class benign: ", "class malignant: ", "scanner unknown: "):
                assert f"{where}{name}, {part}" in found
    benign = said["subgroups"]["class"]["benign"]
    rightly = found["class benign: called rightly, trained on this release"]
    assert (rightly.value, rightly.reference) == (benign["synthetic"]["right"], benign["real"]["right"])
    assert found["Fréchet distance, lesion crop"].value == said["lesion_crop"]["frechet"]
    assert found["scanner unknown: AUC, trained on this release"].value == said["synthetic"]["auc"]
    parts = utility_parts([UtilityFigure.model_validate(vars(measurement)) for measurement in found.values()])
    drawn = "".join(str(plot.drawing) for part in parts for plot in part.plots)
    assert drawn.count('class="mark"') + sum(len(part.plain) for part in parts) == len(found)


def test_figures_of_before_there_were_external_sets_are_read(said: Any, tmp_path: Path) -> None:
    old = {name: said[name] for name in said if name not in {"few_patients", "external", "few", "real_as_long"}}
    old["minus_real"] = {"both": said["minus_real"]["both"] | {"against": "real"}}
    (tmp_path / "old.json").write_text(json.dumps(old))
    found = {measurement.name: measurement for measurement in read_measurements(tmp_path / "old.json")}
    assert found["AUC, trained on this release and real images"].reference == said["real"]["auc"]
    pretrained = found["AUC, trained on this release, then on real images"]
    assert pretrained.reference == said["real_longer"]["auc"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"test_patients": 3}'])
def test_what_holds_no_figures_is_refused_before_anything_is_drawn(text: str, trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    path.write_text(text)
    with pytest.raises(InputError, match="holds no figures"):
        read_measurements(path)
    options = ["--home", trained, "--study", "study", "--name", "r2", "--utility", path]
    run = sonoshare("coordinator", "release", "create", *options)
    assert run.returncode == 1
    remedy = "give the output of: sonoshare evaluate tstr --synthetic DIR --real CSV --json"
    assert run.errors == [f"error: figures.json holds no figures ({remedy})"]
