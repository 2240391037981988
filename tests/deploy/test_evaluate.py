import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from sonoshare_deploy.cli.evaluate import command
from sonoshare_shared.science.imaging import save_png
from sonoshare_shared.science.labels import LABELS_FILE
from sonoshare_shared.science.phantom import simulate


def folder_of_phantoms(folder: Path, n: int, seed: int) -> Path:
    folder.mkdir()
    batch = simulate(n, seed=seed, size=32)
    with (folder / LABELS_FILE).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "patient", "label"])
        for i, image in enumerate(batch.images):
            save_png(folder / f"{i}.png", image)
            writer.writerow([f"{i}.png", f"{seed}-{i // 2}", ("benign", "malignant")[batch.labels[i]]])
    return folder


@pytest.mark.parametrize("apart", [True, False])
def test_tstr_prints_one_json_object(tmp_path: Path, *, apart: bool) -> None:
    synthetic = folder_of_phantoms(tmp_path / "synthetic", 40, 1)
    real = folder_of_phantoms(tmp_path / "real", 40, 2)
    arguments = ["tstr", "--synthetic", str(synthetic), "--real", str(real / LABELS_FILE)]
    if apart:
        arguments += ["--train", str(folder_of_phantoms(tmp_path / "train", 20, 3))]
    result = CliRunner().invoke(
        command, [*arguments, "--seeds", "1", "--steps", "5", "--size", "32", "--json"], catch_exceptions=False
    )
    assert result.exit_code == 0
    fields = json.loads(result.stdout.splitlines()[-1])
    for name in ("synthetic", "real", "both"):
        assert 0.0 <= fields[name]["interval"][0] <= fields[name]["auc"] <= fields[name]["interval"][1] <= 1.0
    assert {"frechet", "kernel_distance", "precision", "recall", "density", "coverage"} <= set(fields)
    assert (fields["test_patients"] == 20) == apart


def test_tstr_tests_on_sets_of_other_places_and_with_few_patients(tmp_path: Path) -> None:
    folders = [folder_of_phantoms(tmp_path / name, 20, seed) for seed, name in enumerate(("made", "own", "train"), 1)]
    near, far = folder_of_phantoms(tmp_path / "near", 20, 4), folder_of_phantoms(tmp_path / "far", 12, 5)
    sets = zip(("--synthetic", "--real", "--train"), folders, strict=True)
    options: list[object] = [part for pair in sets for part in pair]
    options += ["--external", near, "--external", far / LABELS_FILE, "--few", 5, "--device", "cpu"]
    usual = ["--seeds", 1, "--steps", 1, "--size", 32]
    result = CliRunner().invoke(command, ["tstr", *map(str, [*options, *usual, "--json"])], catch_exceptions=False)
    fields = json.loads(result.stdout.splitlines()[-1])
    assert {name: each["patients"] for name, each in fields["external"].items()} == {"near": 10, "labels": 6}
    for each in (fields, *fields["external"].values()):
        assert all(each[arm] is not None for arm in ("few", "few_both", "few_as_long", "both", "real_as_long"))
    assert fields["device"].startswith("cpu")
    again = [*options, "--external", tmp_path / "other" / LABELS_FILE, *usual]
    assert CliRunner().invoke(command, ["tstr", *map(str, again)]).exit_code == 2  # two sets of one name


def test_shortcut_prints_one_json_object_and_says_for_whom(tmp_path: Path) -> None:
    made, real = folder_of_phantoms(tmp_path / "made", 20, 1), folder_of_phantoms(tmp_path / "real", 20, 2)
    options = ["--synthetic", made, "--real", real, "--folds", 2, "--steps", 1, "--size", 32]
    result = CliRunner().invoke(command, ["shortcut", *map(str, options), "--json"], catch_exceptions=False)
    fields = json.loads(result.stdout.splitlines()[-1])
    assert set(fields) == {"auc", "interval", "images", "patients", "folds", "seeds", "device"}
    assert (fields["images"], fields["patients"], fields["folds"]) == (20, 10, 2)
    assert "own eyes" in result.stderr


def test_scaling_prints_curves_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    synthetic = folder_of_phantoms(tmp_path / "synthetic", 12, 1)
    real = folder_of_phantoms(tmp_path / "real", 40, 2)
    arguments = ["scaling", "--synthetic", str(synthetic), "--real", str(real), "--work", str(tmp_path / "work")]
    arguments += ["--sizes", "6,12", "--shares", "20", "--steps", "1", "--size", "32", "--json"]
    arguments += ["--plot", str(tmp_path / "new" / "curves.png")]
    first = CliRunner().invoke(command, arguments, catch_exceptions=False)
    fields = json.loads(first.stdout.splitlines()[-1])
    assert [point["n"] for point in fields["n_synthetic"]] == [6, 12]
    assert [point["share"] for point in fields["imbalance"]] == [0.2]
    assert len(fields["slope"]["by_seed"]) == 3
    assert Path(fields["plot"]).is_file()
    again = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert json.loads(again.stdout.splitlines()[-1]) == fields
    assert "synthetic-6" in first.stderr
    assert "synthetic-6" not in again.stderr


@pytest.mark.parametrize(
    ("sizes", "said"), [("nan", "takes whole numbers"), ("10,x", "takes whole numbers"), ("1e3", "takes whole numbers")]
)
def test_sizes_that_are_no_numbers_are_a_usage_error(tmp_path: Path, sizes: str, said: str) -> None:
    arguments = ["--synthetic", str(tmp_path), "--real", str(tmp_path), "--work", str(tmp_path / "w")]
    result = CliRunner().invoke(command, ["scaling", *arguments, "--sizes", sizes])
    assert result.exit_code == 2
    assert said in result.output


def test_readers_prints_the_fields(tmp_path: Path) -> None:
    lines = ["reader,treatment,case,truth,rating"]
    lines += [
        f"{reader},{treatment},{case},{case % 2},{case % 2 + ((case * 7 + reader * 3 + len(treatment) * 5) % 11) / 6}"
        for reader in range(3)
        for treatment in ("old", "newer")
        for case in range(20)
    ]
    (tmp_path / "ratings.csv").write_text("\n".join(lines))
    result = CliRunner().invoke(command, ["readers", str(tmp_path / "ratings.csv"), "--json"], catch_exceptions=False)
    fields = json.loads(result.stdout)
    assert set(fields["treatments"]) == {"old", "newer"}
    assert {"estimate", "se", "df", "interval", "p"} == set(fields["difference"])
    assert {"F", "df1", "df2", "components"} <= set(fields)
