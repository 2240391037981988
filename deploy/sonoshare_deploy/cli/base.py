"""`sonoshare base`: train a base model on phantoms and public pictures, and show what a base file is.

Results go to stdout, progress to stderr. Torch is imported only when a command runs.
"""

from dataclasses import asdict
from pathlib import Path

import click

from sonoshare_deploy.cli.output import emit, json_option, progress_console
from sonoshare_deploy.cli.parameters import FiniteRange
from sonoshare_shared.errors import InputError

_PROFILES = click.Choice(["tiny", "small", "large"])


@click.group("base")
def command() -> None:
    """Train and inspect base models (simulated phantoms and public pictures, no hospital's patient)."""


@command.command("train")
@click.option("--profile", type=_PROFILES, default="small", show_default=True)
@click.option("--seconds", type=FiniteRange(min=1), help="Wall time to train, resumptions included.")
@click.option("--steps", type=click.IntRange(min=1), help="Steps to take instead, resumptions included.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--phantoms", type=click.IntRange(min=1), help="Size of the training set, rounded up to 500s.")
@click.option(
    "--data",
    type=click.Path(exists=True, path_type=Path),
    help="Public pictures to train on beside the phantoms: a folder or CSV as of labels.csv, classes benign, malignant,"
    " normal. Never a hospital's patients: nothing is charged here.",
)
@click.option("--batch-size", type=click.IntRange(min=1), help="Images per step.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="Base file to write.")
@click.option(
    "--work",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Phantoms, checkpoint and log; the same folder goes on where it stopped.",
)
@json_option
def train(
    *,
    profile: str,
    seconds: float | None,
    steps: int | None,
    seed: int,
    phantoms: int | None,
    data: Path | None,
    batch_size: int | None,
    threads: int,
    out: Path,
    work: Path,
    as_json: bool,
) -> None:
    """Train a base model, or go on training it; the base file is usable at every checkpoint."""
    import torch  # noqa: PLC0415 - takes seconds

    from sonoshare_shared.protocol.canonical import sha256_file  # noqa: PLC0415
    from sonoshare_shared.science.model.base_card import write_card  # noqa: PLC0415
    from sonoshare_shared.science.model.base_pictures import TrainSettings  # noqa: PLC0415
    from sonoshare_shared.science.model.pretrain import Progress, checkpoint_path, train_base  # noqa: PLC0415
    from sonoshare_shared.science.model.profiles import profile_named  # noqa: PLC0415
    from sonoshare_shared.science.model.public_images import read_public_images  # noqa: PLC0415

    if (seconds is None) == (steps is None):
        raise InputError("how long to train is not clear", remedy="give either --seconds or --steps")
    if out.exists() and not checkpoint_path(work, profile_named(profile)).exists():
        raise InputError(f"{out.name} exists and is not of this --work", remedy="give the name of a new file")
    torch.set_num_threads(threads)
    console = progress_console()
    chosen = {"seed": seed, "phantoms": phantoms, "batch_size": batch_size}
    settings = TrainSettings(**{name: value for name, value in chosen.items() if value is not None})

    def report(progress: Progress) -> None:
        loss = "" if progress.loss is None else f"  loss {progress.loss:.4f}"
        console.print(
            f"step {progress.step}  {progress.seconds:.0f} s{loss}"
            f"  held-out {progress.validation:.4f}  {progress.images_per_second:.0f} images/s"
        )

    public = None
    if data is not None:
        console.print("reading public pictures")
        public = read_public_images(data, profile_named(profile).size)
    out.parent.mkdir(parents=True, exist_ok=True)
    work.mkdir(parents=True, exist_ok=True)
    end = train_base(
        profile_named(profile),
        settings,
        out=out,
        work=work,
        data=public,
        seconds=seconds,
        steps=steps,
        report=report,
        simulated=lambda ready, wanted: console.print(f"phantoms {ready} of {wanted}"),
    )
    card = write_card(out)
    emit({"base": str(out), "card": str(card), "digest": sha256_file(out), "profile": profile, **asdict(end)}, as_json)


@command.command("import")
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--profile", type=_PROFILES, default="small", show_default=True)
@click.option(
    "--home",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Folder of a hospital's node or of the coordinator.",
)
@json_option
def import_(*, source: Path, profile: str, home: Path, as_json: bool) -> None:
    """Check a base file of the consortium's own and keep it under its digest, which a study pins."""
    from sonoshare_shared.science.model.base import IMPORTED, import_base, imported_base  # noqa: PLC0415

    digest = import_base(source, profile, home / IMPORTED)
    emit({"profile": profile, "digest": digest, "base": str(imported_base(home / IMPORTED, digest))}, as_json)


@command.command("info")
@click.option("--profile", type=_PROFILES, default="small", show_default=True)
@click.option(
    "--file",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A base file of your own; default is the one that ships.",
)
@json_option
def info(*, profile: str, path: Path | None, as_json: bool) -> None:
    """Check a base file and show its digest, size and origin."""
    from sonoshare_shared.science.model.adapter import AFFINE, FULL, LORA, prepare, trained_parameters  # noqa: PLC0415
    from sonoshare_shared.science.model.base import base_origin, base_path, load_base  # noqa: PLC0415

    model, digest = load_base(profile, path)
    sizes = {}
    for trained in (AFFINE, FULL, LORA):  # the last changes the model's layers
        prepare(model, trained)
        sizes[trained] = sum(parameter.numel() for parameter in trained_parameters(model, trained).values())
    emit(
        {
            "profile": profile,
            "image_size": model.profile.size,
            "digest": digest,
            "architecture": model.profile.digest,
            "parameters": sizes[FULL],
            "affine_parameters": sizes[AFFINE],
            "lora_parameters": sizes[LORA],
            "class_slots": model.profile.class_slots,
            "scanner_slots": model.profile.scanner_slots,
            "origin": base_origin(path or base_path(profile)),
        },
        as_json,
    )
