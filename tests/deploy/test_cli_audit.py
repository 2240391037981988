"""``sonoshare audit`` on folders: verdicts, errors before any charge, and what --json holds."""

import csv
import json
import stat
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from tests.log_parts import Keys, lines

from sonoshare_client.intake.ingest import ingest
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.log_copy import LogCopy
from sonoshare_client.own_eyes.overview import ledger_overview
from sonoshare_client.own_eyes.told_apart import told_apart
from sonoshare_client.own_eyes.vault_view import vault_view
from sonoshare_client.own_eyes.view import write_view
from sonoshare_client.vault.store import Vault
from sonoshare_deploy.cli.audit import command
from sonoshare_deploy.cli.hospital_look import look
from sonoshare_shared.errors import InputError, LedgerError
from sonoshare_shared.protocol.log_index import ledger_head_entry
from sonoshare_shared.science.imaging import save_png
from sonoshare_shared.science.phantom import simulate

TRAINED, HELD_OUT, SYNTHETIC = 60, 40, 40


def write_list(path: Path, patients: list[str] | list[Any], folder: str) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "patient", "label"])
        writer.writerows([f"{folder}/{name}.png", name, "benign"] for name in patients)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """real/*.png with train.csv and held.csv; clean/ and leaking/ synthetic folders."""
    root = tmp_path_factory.mktemp("audit")
    for name in ("real", "clean/images", "clean/masks", "leaking"):
        (root / name).mkdir(parents=True)
    images = simulate(TRAINED + HELD_OUT + SYNTHETIC, seed=31, size=64).images
    names = [f"p{i:03d}" for i in range(TRAINED + HELD_OUT)]
    for name, image in zip(names, images, strict=False):
        save_png(root / "real" / f"{name}.png", image)
    write_list(root / "train.csv", names[:TRAINED], "real")
    write_list(root / "held.csv", names[TRAINED:], "real")
    write_list(root / "few.csv", names[:8], "real")
    for i, image in enumerate(images[-SYNTHETIC:]):
        save_png(root / "clean/images" / f"s{i}.png", image)
        save_png(root / "clean/masks" / f"s{i}.png", image > 0.5)
        copied = images[i][:, ::-1] if i < 25 else image
        save_png(root / "leaking" / f"s{i}.png", np.ascontiguousarray(copied))
    return root


def run(world: Path, folder: str, *options: str, train: str = "train.csv", held_out: str = "held.csv") -> Result:
    arguments = [str(world / folder), "--train", str(world / train), "--held-out", str(world / held_out), *options]
    return CliRunner().invoke(command, arguments, standalone_mode=False)


def result_of(done: Result) -> Any:
    assert done.exception is None, done.exception
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_case_64_copies_in_a_folder_fail(world: Path) -> None:
    done = run(world, "leaking", "--epsilon-audit", "3", "--json")
    assert done.return_value == 1
    result = result_of(done)
    assert result["verdict"] == "FAIL"
    assert result["copies"]["patients_flagged"] >= 15
    assert result["copies"]["images"] == []


def test_clean_images_pass_and_every_promised_field_is_there(world: Path) -> None:
    options = ("--epsilon-audit", "3", "--alpha", "0.01", "--json", "--explain")
    done = run(world, "clean", *options)
    result = result_of(done)
    assert result["verdict"] in {"PASS", "INCONCLUSIVE"}
    assert done.return_value == (0 if result["verdict"] == "PASS" else 1)
    assert {"verdict", "copies", "membership", "smallest_detectable_leak", "reasons"} <= set(result)
    assert {"patients_flagged", "rate", "interval", "images"} <= set(result["copies"])
    assert {"auc", "interval", "tpr_at_1_fpr", "tpr_interval"} <= set(result["membership"])
    assert result["epsilon"] == 3.0
    assert result["explain"][0]["fail"] <= 0.01
    assert any("loss attack" in note for note in result["notes"])


def test_case_65_too_few_patients_are_inconclusive_and_say_why(world: Path) -> None:
    result = result_of(run(world, "clean", "--json", train="few.csv"))
    assert result["verdict"] == "INCONCLUSIVE"
    assert result["epsilon"] == 0.0
    assert "raise epsilon" in result["reasons"][0]
    assert result["copies"]["patients_flagged"] is None


def test_only_a_pass_ends_with_exit_status_0(world: Path) -> None:
    """``CliRunner`` gives what ``main`` exits with."""
    assert run(world, "clean", train="few.csv").return_value == 1  # inconclusive


def charged(home: NodeHome) -> list[Any]:
    entries = ledger_overview(home, lambda: datetime.now(UTC)).entries
    return [charge.kind for charge in entries if charge.kind != "opened"]


def test_what_cannot_be_audited_is_an_error_and_charges_nothing(world: Path, tmp_path: Path) -> None:
    home = NodeHome.create(tmp_path / "node", "north")
    (world / "empty").mkdir(exist_ok=True)
    (world / "broken").mkdir(exist_ok=True)
    (world / "broken" / "a.png").write_bytes(b"not a picture")
    cases = [
        ("empty", {}, "holds no picture"),
        ("absent", {}, "is not a folder"),
        ("broken", {}, "a.png"),
        ("clean", {"held_out": "train.csv"}, "a patient is in both lists"),
        ("clean", {"train": "absent.csv"}, "does not exist"),
    ]
    for folder, lists, words in cases:
        done = run(world, folder, "--home", str(home.path), **lists)
        assert isinstance(done.exception, InputError)
        assert words in str(done.exception)
    assert charged(home) == []


def test_one_picture_under_two_names_is_noticed(world: Path) -> None:
    write_list(world / "alias.csv", ["p000"], "real")
    text = (world / "alias.csv").read_text(encoding="utf-8").replace(",p000,", ",other,")
    (world / "alias.csv").write_text(text, encoding="utf-8")
    done = run(world, "clean", held_out="alias.csv")
    assert isinstance(done.exception, InputError)
    assert "a picture is in both lists" in str(done.exception)


def test_a_hospitals_ledger_is_charged(world: Path, tmp_path: Path) -> None:
    home = NodeHome.create(tmp_path / "node", "north")
    result = result_of(run(world, "clean", "--epsilon-audit", "2", "--home", str(home.path), "--json"))
    assert result["epsilon"] == 2.0
    assert charged(home) == ["reserved", "committed"]


def test_a_ledger_that_is_older_than_the_nodes_own_log_shows_is_not_charged(world: Path, tmp_path: Path) -> None:
    home, keys = NodeHome.create(tmp_path / "node", "a"), Keys()
    head = ledger_head_entry(*keys.ledger_head("a", entries=7, key=home.identity()))
    LogCopy.open(home.state_path).extend(keys.part(lines(head)), keys.coordinator.public)
    result = run(world, "clean", "--home", str(home.path))
    assert isinstance(result.exception, LedgerError)
    assert "witnessed head" in str(result.exception)
    assert len(ledger_overview(home, lambda: datetime.now(UTC)).entries) == 1


def test_own_eyes_take_no_other_files_place_and_charge_nothing(world: Path, tmp_path: Path) -> None:
    home = NodeHome.create(tmp_path / "node", "north")
    (tmp_path / "pairs.csv").write_text("precious")
    done = run(world, "clean", "--home", str(home.path), "--own-eyes", str(tmp_path / "pairs.csv"))
    assert isinstance(done.exception, InputError)
    assert (tmp_path / "pairs.csv").read_text() == "precious"
    assert charged(home) == []


def test_own_eyes_are_a_file_not_a_figure(world: Path, tmp_path: Path) -> None:
    done = run(world, "leaking", "--epsilon-audit", "3", "--own-eyes", str(tmp_path / "pairs.csv"), "--json")
    assert "p000" not in done.stdout
    with (tmp_path / "pairs.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == TRAINED
    assert sum(float(row["score"]) > 0.95 for row in rows) == 25


def test_own_eyes_can_be_a_folder_with_pictures_and_one_page(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "eyes"
    done = run(world, "leaking", "--epsilon-audit", "3", "--own-eyes", str(out), "--json")
    assert "p000" not in done.stdout
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    assert sorted(path.name for path in out.iterdir()) == ["pairs.png", "report.html", "roc.png", "scores.png"]
    page = (out / "report.html").read_text()
    assert "25 of 60 trained patients" in page
    assert page.count("data:image/png;base64,") == 3
    assert "<script" not in page
    assert "http" not in page
    again = run(world, "leaking", "--epsilon-audit", "3", "--own-eyes", str(out))
    assert isinstance(again.exception, InputError)


@pytest.mark.parametrize("place", ["folder", "folder.csv"])
def test_a_place_that_is_taken_is_refused_before_anything_is_charged_or_computed(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    home = NodeHome.create(tmp_path / "node", "north")
    taken = tmp_path / place
    taken.mkdir()
    (taken / "kept.txt").write_text("kept")
    done = run(world, "clean", "--home", str(home.path), "--own-eyes", str(taken))
    assert isinstance(done.exception, InputError)
    assert charged(home) == []
    monkeypatch.setattr("sonoshare_client.own_eyes.vault_view.vault_view", lambda *_: pytest.fail("computed first"))
    looked = CliRunner().invoke(look, [str(world / "leaking"), "--home", str(home.path), "--out", str(taken)])
    assert isinstance(looked.exception, InputError)
    assert (taken / "kept.txt").read_text() == "kept"


def test_a_hospital_looks_at_a_release_beside_its_vault(world: Path, tmp_path: Path) -> None:
    rows = ["image,patient,label", *(f"real/p{i:03d}.png,p{i:03d},benign" for i in range(12))]
    (world / "labels.csv").write_text("\n".join(rows) + "\n")
    home = NodeHome.create(tmp_path / "node", "north")
    ingest(home, world, world / "labels.csv")
    arguments = [str(world / "leaking"), "--home", str(home.path), "--out", str(tmp_path / "look"), "--json"]
    files = result_of(CliRunner().invoke(look, arguments, standalone_mode=False))["files"]
    assert files == ["pairs.png", "report.html", "roc.png", "scores.png"]
    page = (tmp_path / "look" / "report.html").read_text()
    trained = int(page.split(" of ", 1)[1].split(" trained", 1)[0])
    assert f"{trained} of {trained} trained patients" in page  # all of them were copied
    assert charged(home) == []
    assert "Told apart" not in page  # it takes minutes: on request
    with Vault(home) as vault:
        found = told_apart(vault, world / "leaking", folds=2, steps=1)
        beside = replace(vault_view(vault, world / "leaking", "leaking"), told_apart=found)
    assert (found.images, found.patients, found.folds) == (12, 12, 2)
    write_view(tmp_path / "again", beside)
    assert "12 images on each side, 12 patients in 2 parts" in (tmp_path / "again" / "report.html").read_text()
    assert charged(home) == []
