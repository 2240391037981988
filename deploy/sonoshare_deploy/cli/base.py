"""`sonoshare base`: train a base model on phantoms and public pictures, check it, show it, and let it travel.

Results go to stdout, progress to stderr. Torch is imported only when a command runs.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sonoshare_deploy.cli.device import device_option, told_device
from sonoshare_deploy.cli.order import InOrder
from sonoshare_deploy.cli.output import emit, json_option, progress_console, quiet_option
from sonoshare_deploy.cli.parameters import PROFILE, FiniteRange
from sonoshare_shared.errors import InputError

if TYPE_CHECKING:
    from sonoshare_shared.protocol.documents.plan import Precision
    from sonoshare_shared.science.model.base_run import Progress, Start
    from sonoshare_shared.science.model.public_images import PublicImages
    from sonoshare_shared.science.model.recipe import TrainSettings

BASE_SOURCE = click.Path(exists=True, path_type=Path)
"""A base file, a folder of its parts, or their index."""


@dataclass(frozen=True)
class PublicData:
    """Where public pictures lie, and how much they count."""

    path: Path
    weight: float | None


class _PublicData(click.ParamType[PublicData]):
    """``DIR`` or ``DIR:WEIGHT``."""

    name = "dir[:weight]"

    def convert(self, value: str | PublicData, param: click.Parameter | None, ctx: click.Context | None) -> PublicData:
        """The folder and its weight; a usage error where there is no such folder, or no such weight."""
        if isinstance(value, PublicData):
            return value
        if Path(value).exists():
            return PublicData(Path(value), None)
        path, _, weight = value.rpartition(":")
        if not path or not Path(path).exists():
            self.fail(f"'{value}' does not exist.", param, ctx)
        return PublicData(Path(path), FiniteRange(0, min_open=True).convert(weight, param, ctx))


@click.group("base", cls=InOrder, verbs=("train", "check", "info", "export", "import"))
def command() -> None:
    """Train, check and carry base models (simulated phantoms and public pictures, no hospital's patient)."""


@command.command("train", short_help="Train a base model, or go on training it.")
@click.option("--profile", type=PROFILE, default="small", show_default=True, help="Size of the model.")
@click.option("--seconds", type=FiniteRange(min=1), help="Stop after this wall time, earlier calls included.")
@click.option("--steps", type=click.IntRange(min=1), help="Stop after these steps, earlier calls included.")
@click.option("--this-time", type=FiniteRange(min=1), help="Stop after this wall time of training in this call.")
@click.option("--length", type=click.IntRange(min=1), help="Steps of the whole run, over which the rate falls.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of what is drawn.")
@click.option("--phantoms", type=click.IntRange(min=1), help="Simulated pictures; on a CPU rounded up to 500s.")
@click.option(
    "--data",
    type=_PublicData(),
    multiple=True,
    help="Public pictures to train on beside the phantoms: a folder or CSV as of labels.csv, classes benign, malignant,"
    " normal; repeatable. Never a hospital's patients: nothing is charged here.",
)
@click.option("--public-share", type=FiniteRange(0, 1, max_open=True), help="Of each batch. Default: 0.4.")
@click.option("--start", type=BASE_SOURCE, help="Begin a new run with the weights of a base (file or parts).")
@click.option("--batch-size", type=click.IntRange(min=1), help="Images per step.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Of a CPU.")
@device_option
@click.option("--precision", type=click.Choice(["float32", "tf32", "bfloat16"]), help="Default: bfloat16 on a GPU.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="Base file to write.")
@click.option(
    "--work",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Phantoms, checkpoints and log; the same folder goes on where it stopped.",
)
@quiet_option
@json_option
def train(
    *,
    profile: str,
    seconds: float | None,
    steps: int | None,
    this_time: float | None,
    data: tuple[PublicData, ...],
    start: Path | None,
    threads: int,
    device: str,
    precision: "Precision | None",
    out: Path,
    work: Path,
    as_json: bool,
    **changed: Any,
) -> None:
    """Train a base model, or go on training it; the base file is usable at every checkpoint.

    Example: sonoshare base train --profile tiny --out tiny.safetensors --work W
    """
    import torch  # noqa: PLC0415 - takes seconds

    from sonoshare_shared.protocol.canonical import sha256_file  # noqa: PLC0415
    from sonoshare_shared.science.device import CPU  # noqa: PLC0415
    from sonoshare_shared.science.model.base_card import write_card  # noqa: PLC0415
    from sonoshare_shared.science.model.pretrain import HowLong, checkpoints_of, train_base  # noqa: PLC0415
    from sonoshare_shared.science.model.profiles import profile_named  # noqa: PLC0415

    chosen = profile_named(profile)
    settings = _settings(profile, changed)
    if settings.length is None and seconds is None and steps is None and this_time is None:
        raise InputError("how long to train is not clear", remedy="give --seconds, --steps or --this-time")
    if out.exists() and not checkpoints_of(work, chosen).exists():
        raise InputError(f"{out.name} exists and is not of this --work", remedy="give the name of a new file")
    torch.set_num_threads(threads)
    console, (where, said) = progress_console(), told_device(device)
    arithmetic: Precision = precision or ("float32" if where == CPU else "bfloat16")
    sources = _read_sources(data, chosen.size)
    out.parent.mkdir(parents=True, exist_ok=True)
    work.mkdir(parents=True, exist_ok=True)
    end = train_base(
        chosen,
        settings,
        out=out,
        work=work,
        until=HowLong(seconds, steps, this_time),
        data=sources,
        start=None if start is None else _read_start(profile, start),
        device=where,
        precision=arithmetic,
        jobs=threads,
        report=_report,
        simulated=lambda ready, wanted: console.print(f"phantoms {ready} of {wanted}"),
    )
    emit(
        {
            "base": str(out),
            "card": str(write_card(out)),
            "digest": sha256_file(out),
            "profile": profile,
            "device": said,
            "precision": arithmetic,
            "device_memory_mib": _peak_mib(on_gpu=where != CPU),
            **asdict(end),
        },
        as_json,
    )


def _settings(profile: str, changed: dict[str, Any]) -> "TrainSettings":
    """The profile's recipe with what was given on the command line."""
    from sonoshare_shared.science.model.recipe import recipe  # noqa: PLC0415

    return replace(recipe(profile), **{name: value for name, value in changed.items() if value is not None}).checked()


def _read_sources(data: tuple[PublicData, ...], size: int) -> "list[PublicImages]":
    from sonoshare_shared.science.model.public_images import read_public_images  # noqa: PLC0415

    sources = []
    for each in data:
        progress_console().print(f"reading public pictures of {each.path.name}")
        sources.append(read_public_images(each.path, size, each.weight))
    return sources


def _read_start(profile: str, source: Path) -> "Start":
    from sonoshare_shared.science.model.base import NOT_STATED, base_origin, load_base  # noqa: PLC0415
    from sonoshare_shared.science.model.base_run import Start  # noqa: PLC0415
    from sonoshare_shared.science.model.base_travel import whole_base  # noqa: PLC0415

    with whole_base(source) as path:
        model, digest = load_base(profile, path)
        data = base_origin(path).get("data", NOT_STATED)
    return Start(model.state_dict(), digest, data)


def _report(progress: "Progress") -> None:
    loss = "" if progress.loss is None else f"  loss {progress.loss:.4f}"
    progress_console().print(
        f"step {progress.step}  {progress.seconds:.0f} s{loss}"
        f"  held-out {progress.validation:.4f}  {progress.images_per_second:.0f} images/s"
    )


def _peak_mib(*, on_gpu: bool) -> int | None:
    """Most memory of a GPU that tensors took, MiB; None on a CPU, where it is the process's own affair."""
    import torch  # noqa: PLC0415

    return round(torch.cuda.max_memory_allocated() / 2**20) if on_gpu else None


@command.command("check", short_help="Look for copies of a base's public pictures.")
@click.argument("source", type=BASE_SOURCE)
@click.option("--profile", type=PROFILE, default="small", show_default=True, help="Size of the model.")
@click.option("--data", type=BASE_SOURCE, multiple=True, required=True, help="Public pictures it was trained on.")
@click.option("--held-out", type=BASE_SOURCE, help="Public pictures that it was not trained on, for comparison.")
@click.option("--images", type=click.IntRange(min=32), default=1000, show_default=True, help="To draw from noise.")
@click.option("--steps", type=click.IntRange(min=1), default=24, show_default=True, help="Of the sampler.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of what is drawn.")
@device_option
@quiet_option
@json_option
def check(
    *,
    source: Path,
    profile: str,
    data: tuple[Path, ...],
    held_out: Path | None,
    images: int,
    steps: int,
    seed: int,
    device: str,
    as_json: bool,
) -> int:
    """Look among pictures that a base draws from noise for copies of the public pictures it was trained on.

    Exit 1 where there are more than the detector's false flags. The result goes into the card beside the file.

    Example: sonoshare base check base.safetensors --data FOLDER
    """
    from sonoshare_deploy.base_check import check_base, keep_check  # noqa: PLC0415
    from sonoshare_shared.science.model.base_travel import whole_base  # noqa: PLC0415

    where, said = told_device(device)
    with whole_base(source) as path, progress_console().status("drawing and comparing"):
        result = check_base(path, profile, data, held_out, count=images, steps=steps, seed=seed, device=where)
    if source.is_file():
        keep_check(source, result)
    emit(asdict(result) | {"device": said}, as_json)
    return int(result.gives_back)


@command.command("export", short_help="Write a base file as parts with an index.")
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--profile", type=PROFILE, default="small", show_default=True, help="Size of the model.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to make.")
@json_option
def export(*, source: Path, profile: str, out: Path, as_json: bool) -> None:
    """Write a base file as parts of at most 16 MiB with their index and the model card.

    Example: sonoshare base export base.safetensors --out PARTS
    """
    from sonoshare_shared.science.model.base_travel import export_base  # noqa: PLC0415

    index = export_base(source, profile, out)
    emit({"digest": index.sha256, "parts": [part.name for part in index.parts], "folder": str(out)}, as_json)


@command.command("import", short_help="Check a base file or its parts, and keep it.")
@click.argument("source", type=BASE_SOURCE)
@click.option("--profile", type=PROFILE, default="small", show_default=True, help="Size of the model.")
@click.option(
    "--home",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Folder of a hospital's node or of the coordinator.",
)
@json_option
def import_(*, source: Path, profile: str, home: Path, as_json: bool) -> None:
    """Check a base of the consortium's own (file or parts) and keep it under its digest, which a study pins.

    Example: sonoshare base import base.safetensors --home C
    """
    from sonoshare_shared.role_folders import require_role_folder  # noqa: PLC0415
    from sonoshare_shared.science.model.base import IMPORTED, import_base, imported_base  # noqa: PLC0415
    from sonoshare_shared.science.model.base_travel import whole_base  # noqa: PLC0415

    require_role_folder(home)
    with whole_base(source) as path:
        digest = import_base(path, profile, home / IMPORTED)
    emit({"profile": profile, "digest": digest, "base": str(imported_base(home / IMPORTED, digest))}, as_json)


@command.command("info")
@click.option("--profile", type=PROFILE, default="small", show_default=True, help="Size of the model.")
@click.option("--file", "source", type=BASE_SOURCE, help="A base of your own (file or parts); default: what ships.")
@json_option
def info(*, profile: str, source: Path | None, as_json: bool) -> None:
    """Check a base file and show its digest, size and origin.

    Example: sonoshare base info --profile small
    """
    from sonoshare_shared.science.model.adapter import (  # noqa: PLC0415
        AFFINE,
        FULL,
        LORA,
        OUTER,
        prepare,
        trained_parameters,
    )
    from sonoshare_shared.science.model.base import base_origin, base_path, load_base  # noqa: PLC0415
    from sonoshare_shared.science.model.base_travel import whole_base  # noqa: PLC0415

    with whole_base(source or base_path(profile)) as path:
        model, digest = load_base(profile, path)
        origin = base_origin(path)
    sizes = {}
    for trained in (AFFINE, OUTER, FULL, LORA):  # the last changes the model's layers
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
            "outer_parameters": sizes[OUTER],
            "lora_parameters": sizes[LORA],
            "class_slots": model.profile.class_slots,
            "scanner_slots": model.profile.scanner_slots,
            "origin": origin,
        },
        as_json,
    )
