"""Whether a base gives its public pictures back: copies are found, their absence is said, and the card tells it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from tests.deploy.labelled_folders import pictures

from sonoshare_deploy.base_check import copies_among
from sonoshare_deploy.cli.base import command
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.canonical import sha256_file
from sonoshare_shared.science.model import phantom_cache
from sonoshare_shared.science.model.base import base_path
from sonoshare_shared.science.model.base_card import check_path, write_card
from sonoshare_shared.science.phantom import simulate


def invoked(*words: object) -> Any:
    return CliRunner().invoke(command, [*map(str, words), "--json"])


def test_edited_copies_among_drawn_pictures_are_found_and_held_out_ones_are_not() -> None:
    images = simulate(90, seed=11, size=32).images
    trained, held_out, others = images[:20], images[20:40], images[40:]
    copies = np.clip(trained[:8, :, ::-1] ** 1.2, 0, 1)
    found = copies_among("0" * 64, np.concatenate([others, copies]), trained, held_out)
    assert found.gives_back
    assert found.trained.flagged == 8
    assert found.held_out.flagged == 0
    assert {first for first, _, _ in found.nearest} == set(range(8))
    assert all(drawn == 50 + first for first, drawn, _ in found.nearest)
    assert found.words[0].startswith("**Yes.**")
    none = copies_among("0" * 64, others, trained, None)
    assert not none.gives_back
    assert none.trained.flagged == 0
    assert none.held_out is None


def test_one_flag_where_held_out_pictures_are_flagged_as_often_is_no_proof() -> None:
    images = simulate(80, seed=11, size=32).images
    trained, held_out, others = images[:10], images[10:20], images[20:]
    drawn = np.concatenate([others, trained[:3], held_out[:3]])
    found = copies_among("0" * 64, drawn, trained, held_out)
    assert (found.trained.flagged, found.held_out.flagged) == (3, 3)
    assert not found.gives_back
    assert copies_among("0" * 64, drawn, trained, None).gives_back


def test_a_base_is_checked_against_the_pictures_it_names_and_its_card_tells_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phantom_cache, "_SHARD", 10)
    folder, other, out = (
        pictures(tmp_path / "public"),
        pictures(tmp_path / "other", n=8, seed=6),
        tmp_path / "own.safetensors",
    )
    (folder / "LICENSE.txt").write_text("\nCC BY 4.0 | with thanks\n")
    usual = ("train", "--profile", "tiny", "--batch-size", 4, "--phantoms", 10, "--steps", 1, "--work", tmp_path / "w")
    made = invoked(*usual, "--data", f"{folder}:2.5", "--out", out)
    assert made.exit_code == 0, made.output
    card = out.with_suffix(".card.md")
    assert "CC BY 4.0 / with thanks | 6 | 6 | 2.5" in card.read_text()
    assert "Not checked" in card.read_text()
    check = ("check", out, "--profile", "tiny", "--images", 32, "--steps", 2)
    result = invoked(*check, "--data", folder, "--held-out", other)
    assert result.exit_code == 0, result.output
    fields = json.loads(result.stdout.splitlines()[-1])
    assert fields["base"] == sha256_file(out)
    assert (fields["trained"]["pictures"], fields["held_out"]["pictures"]) == (6, 8)
    assert "Not that the copy detector can see" in card.read_text()
    with pytest.raises(InputError, match="6 of 6 held-out pictures are among those"):
        raise invoked(*check, "--data", folder, "--held-out", folder).exception
    kept = check_path(out)
    kept.write_text(kept.read_text().replace(fields["base"], "0" * 64))
    assert "Not checked" in write_card(out).read_text(), "what was found of another file says nothing of this one"
    second = tmp_path / "second.safetensors"
    begun = invoked(*usual[:-1], tmp_path / "w2", "--data", other, "--start", out, "--out", second)
    assert begun.exit_code == 0, begun.output
    text = second.with_suffix(".card.md").read_text()
    assert "CC BY 4.0 / with thanks" in text, "what the first base has learned the second has learned too"
    assert fields["base"] in text
    alone = invoked("check", second, "--profile", "tiny", "--images", 32, "--steps", 2, "--data", other)
    assert "not the public pictures" in str(alone.exception)
    for wrong in ((other,), (folder, other)):
        with pytest.raises(InputError, match="not the public pictures"):
            raise invoked(*check, *(word for path in wrong for word in ("--data", path))).exception
    assert isinstance(invoked("check", base_path("tiny"), "--profile", "tiny", "--data", folder).exception, InputError)
