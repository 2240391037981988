"""``sonoshare evaluate``: what synthetic images are worth, and whether readers do better with one kind of picture."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.console import Console

from sonoshare_deploy.cli.device import device_option, told_device
from sonoshare_deploy.cli.order import InOrder
from sonoshare_deploy.cli.output import emit, json_option, progress_console, quiet_option
from sonoshare_deploy.cli.parameters import FiniteRange
from sonoshare_deploy.cli.progress import counted
from sonoshare_deploy.cli.readers_words import print_readers

if TYPE_CHECKING:
    from sonoshare_shared.science.evaluation.labelled import LabelledImages

GRID_PX = 64
Number = TypeVar("Number", int, float)
_STEPS = click.option(
    "--steps",
    type=click.IntRange(1, 1_000_000),
    help="Training steps on each set, instead of those of the rule (docs/utility.md).",
)
_SIZE = click.option("--size", type=click.IntRange(32, 256), default=GRID_PX, show_default=True, help="Side, pixels.")
_CLASSES = click.option(
    "--classes", default="benign,malignant", show_default=True, help="The negative and the positive class."
)


@click.group(cls=InOrder, verbs=("tstr", "shortcut", "scaling", "readers"))
def command() -> None:
    """Measure what synthetic images are worth."""


def _sets_options(function: Callable[..., None]) -> Callable[..., None]:
    """Options that name the three sets, and how they are read and trained on."""
    options = (
        click.option(
            "--synthetic",
            type=click.Path(path_type=Path),
            required=True,
            help="Folder of labelled synthetic images: a release, or any folder with labels.csv.",
        ),
        click.option(
            "--real",
            type=click.Path(path_type=Path),
            required=True,
            help="Labels of the real images to test on: a CSV, a folder with labels.csv, or BUS-BRA.",
        ),
        click.option(
            "--train",
            type=click.Path(path_type=Path),
            help="Labels of the real images to train on. Without it half of --real's patients train, the others test.",
        ),
        click.option("--seeds", type=click.IntRange(1, 20), default=3, show_default=True, help="Classifiers a figure."),
        _STEPS,
        _SIZE,
        _CLASSES,
        device_option,
    )
    for option in reversed(options):
        function = option(function)
    return function


def _read_sets(
    synthetic: Path, real: Path, train: Path | None, size: int, classes: str
) -> "tuple[LabelledImages, LabelledImages, LabelledImages]":
    """Synthetic, test and training images."""
    from sonoshare_shared.science.evaluation.tstr import half_of_patients  # noqa: PLC0415

    progress = progress_console()
    progress.print("reading pictures")
    made, test = _load(synthetic, size, classes, synthetic=True), _load(real, size, classes)
    if train is not None:
        progress.print("training patients: those of --train")
        return made, test, _load(train, size, classes)
    progress.print("training patients: half of --real's; the other half tests")
    chosen = half_of_patients(test.patients)
    return made, test.take(~chosen), test.take(chosen)


@command.command(short_help="Train on synthetic images, test on real ones.")
@_sets_options
@click.option(
    "--specificity",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    default=0.9,
    show_default=True,
    help="At which sensitivities are compared.",
)
@click.option(
    "--external",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Labels of other real images to test on, like --real; may be given several times.",
)
@click.option("--few", type=click.IntRange(1), help="Train on so many of the training patients, too, with and without.")
@quiet_option
@json_option
def tstr(
    *,
    synthetic: Path,
    real: Path,
    train: Path | None,
    seeds: int,
    steps: int | None,
    size: int,
    classes: str,
    device: str,
    specificity: float,
    external: tuple[Path, ...],
    few: int | None,
    as_json: bool,
) -> None:
    """Train on synthetic (and on real, on both, and on one after the other), test on real.

    Example: sonoshare evaluate tstr --synthetic r1 --real labels.csv
    """
    from sonoshare_shared.science.evaluation import tstr as measure  # noqa: PLC0415
    from sonoshare_shared.science.evaluation.arms import Training, planned_steps  # noqa: PLC0415

    where, said = told_device(device)
    others = _read_external(external, size, classes)
    made, test, known = _read_sets(synthetic, real, train, size, classes)
    training = Training(tuple(range(seeds)), steps, where)
    progress_console().print(f"training {seeds} classifiers an arm, {training.steps_for(len(made))} steps on synthetic")
    total, done = planned_steps(made, known, few, training), 0
    with counted("steps of training") as work:

        def told(steps: int) -> None:
            nonlocal done
            done += steps
            work(done, total)
            if done == total:
                work.stage("comparing")

        report = measure.tstr(
            made,
            test,
            known,
            training=replace(training, told=told),
            specificity=specificity,
            few=few,
            external=others,
        )
    fields = report.as_json() | {"device": said}
    emit(fields, as_json, lambda console: _print_tstr(console, fields))


def _read_external(paths: tuple[Path, ...], size: int, classes: str) -> "dict[str, LabelledImages]":
    """Other test sets by the name of their folder or file."""
    named = {path.stem if path.suffix == ".csv" else path.resolve().name: path for path in paths}
    if len(named) < len(paths):
        raise click.UsageError("--external: two sets of one name")
    return {name: _load(path, size, classes) for name, path in named.items()}


def _load(path: Path, size: int, classes: str, *, synthetic: bool = False) -> "LabelledImages":
    # Imported here: seconds to import, and other verbs do without.
    from sonoshare_shared.science.evaluation.labelled import load_labelled  # noqa: PLC0415
    from sonoshare_shared.science.labels import read_labels  # noqa: PLC0415

    names = tuple(name.strip() for name in classes.split(","))
    return load_labelled(read_labels(path), size, names, synthetic=synthetic)


def _print_tstr(console: Console, fields: dict[str, Any]) -> None:
    from sonoshare_shared.science.evaluation.arms import ARMS  # noqa: PLC0415

    for name in ARMS:
        if figure := fields[name]:
            area, at = _with_interval(figure, "auc"), _with_interval(fields["sensitivity"][name], "sensitivity")
            console.print(f"trained on {name:12} AUC {area}  sensitivity {at}", highlight=False)
    console.print(f"sensitivities are compared at a specificity of {fields['specificity']:g}", highlight=False)
    for name, figure in fields["minus_real"].items():
        console.print(
            f"{name} minus {figure['against']}: AUC {_with_interval(figure['auc'], 'difference')}", highlight=False
        )
    for name in ("frechet", "kernel_distance", "precision", "recall", "density", "coverage"):
        console.print(f"{name:21} {fields[name]:.3f}", highlight=False)
    for name, tested in fields["external"].items():
        for arm in ARMS:
            if figure := tested[arm]:
                console.print(f"{name}, trained on {arm:12} AUC {_with_interval(figure, 'auc')}", highlight=False)
    console.print(f"tested on {fields['test_patients']} patients; features: {fields['features']}", highlight=False)
    console.print("by scanner and class: --json", highlight=False)


def _with_interval(figure: dict[str, Any], name: str) -> str:
    low, high = figure["interval"]
    return f"{figure[name]:.3f} [{low:.3f}, {high:.3f}]"


@command.command(short_help="How much synthetic data is worth having.")
@_sets_options
@click.option("--sizes", default="100,300,1000,3000,10000", show_default=True, help="Numbers of synthetic images.")
@click.option("--shares", default="1,2,5,10,20", show_default=True, help="Shares of the positive class, %.")
@click.option(
    "--work",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder of finished classifiers; the same command goes on where it stopped.",
)
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="PNG; by default scaling.png in --work.")
@quiet_option
@json_option
def scaling(
    *,
    synthetic: Path,
    real: Path,
    train: Path | None,
    seeds: int,
    steps: int | None,
    size: int,
    classes: str,
    device: str,
    sizes: str,
    shares: str,
    work: Path,
    plot: Path | None,
    as_json: bool,
) -> None:
    """How much synthetic data is worth having: over its amount, and over how rare the positive class is.

    Example: sonoshare evaluate scaling --synthetic r1 --real real.csv --work W
    """
    from sonoshare_shared.science.evaluation import scaling as measure  # noqa: PLC0415
    from sonoshare_shared.science.evaluation.units import Units  # noqa: PLC0415

    where, said = told_device(device)
    amounts = _numbers(sizes, "--sizes", int)
    rarities = [number / 100 for number in _numbers(shares, "--shares", float)]
    made, test, known = _read_sets(synthetic, real, train, size, classes)
    measure.require_curves(test, known, sizes=amounts, shares=rarities, seeds=seeds)
    picture = plot or work / "scaling.png"
    picture.parent.mkdir(parents=True, exist_ok=True)  # not found missing after hours
    progress = progress_console()
    units = Units(work, measure.pinned(made, test, known, steps=steps), say=progress.print)
    scores = measure.score_scaling(
        made, test, known, units, sizes=amounts, shares=rarities, seeds=seeds, steps=steps, device=where
    )
    curves = measure.curves(scores, test.labels, test.patients)
    measure.draw_scaling(curves, picture)
    emit(curves.as_json() | {"plot": str(picture), "device": said}, as_json)


@command.command(short_help="Can synthetic pictures be told from real ones?")
@click.option("--synthetic", type=click.Path(path_type=Path), required=True, help="A release, or labelled images.")
@click.option("--real", type=click.Path(path_type=Path), required=True, help="Labels of real images.")
@click.option("--folds", type=click.IntRange(2, 20), default=5, show_default=True, help="Parts of the patients.")
@click.option("--seeds", type=click.IntRange(1, 20), default=1, show_default=True, help="Classifiers of each part.")
@_STEPS
@_SIZE
@_CLASSES
@device_option
@quiet_option
@json_option
def shortcut(
    *,
    synthetic: Path,
    real: Path,
    folds: int,
    seeds: int,
    steps: int | None,
    size: int,
    classes: str,
    device: str,
    as_json: bool,
) -> None:
    """Can a classifier tell synthetic pictures from real ones? AUC 0.5 is no, 1 always.

    On patients of a hospital the figure is not private: for its own eyes, unless its ledger is charged for it.

    Example: sonoshare evaluate shortcut --synthetic r1 --real labels.csv
    """
    from sonoshare_shared.science.evaluation import shortcut as measure  # noqa: PLC0415

    where, said = told_device(device)
    progress = progress_console()
    progress.print("reading pictures")
    made, known = _load(synthetic, size, classes, synthetic=True), _load(real, size, classes)
    progress.print(f"training {folds * seeds} classifiers")
    report = measure.shortcut(made, known, folds=folds, seeds=tuple(range(seeds)), steps=steps, device=where)
    progress.print("not private: on a hospital's patients this figure is for its own eyes only")
    emit(report.as_json() | {"device": said}, as_json)


def _numbers(text: str, option: str, kind: type[Number]) -> list[Number]:
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        what = "whole numbers" if kind is int else "numbers"
        raise click.UsageError(f"{option} takes {what} separated by commas") from error


@command.command(short_help="Compare treatments over readers and cases.")
@click.argument("ratings", type=click.Path(path_type=Path))
@json_option
def readers(*, ratings: Path, as_json: bool) -> None:
    """Compare treatments over readers and cases (columns reader,treatment,case,truth,rating).

    Example: sonoshare evaluate readers ratings.csv
    """
    from sonoshare_shared.science.evaluation.readers import compare_readers, read_ratings  # noqa: PLC0415

    fields = compare_readers(read_ratings(ratings)).as_json()
    emit(fields, as_json, lambda console: print_readers(console, fields))
