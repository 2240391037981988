"""``sonoshare evaluate``: what synthetic images are worth, and whether readers do better with one kind of picture."""

from pathlib import Path

import click
from rich.console import Console

from sonoshare_deploy.cli.output import emit, json_option, progress_console

GRID_PX = 64


@click.group()
def command() -> None:
    """Measure what synthetic images are worth."""


@command.command()
@click.option(
    "--synthetic",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of labelled synthetic images: a release, or any folder with labels.csv.",
)
@click.option(
    "--real",
    type=click.Path(path_type=Path),
    required=True,
    help="Labels of the real images to test on: a CSV, a folder with labels.csv, or BUS-BRA.",
)
@click.option(
    "--train",
    type=click.Path(path_type=Path),
    help="Labels of the real images to train on. Without it half of --real's patients train, the other half test.",
)
@click.option("--seeds", type=click.IntRange(1, 20), default=3, show_default=True, help="Classifiers per figure.")
@click.option("--steps", type=click.IntRange(1, 20000), default=400, show_default=True, help="Training steps of each.")
@click.option("--size", type=click.IntRange(32, 256), default=GRID_PX, show_default=True, help="Side in pixels.")
@click.option("--classes", default="benign,malignant", show_default=True, help="The negative and the positive class.")
@json_option
def tstr(
    *,
    synthetic: Path,
    real: Path,
    train: Path | None,
    seeds: int,
    steps: int,
    size: int,
    classes: str,
    as_json: bool,
) -> None:
    """Train on synthetic (and on real, and on both), test on real."""
    # Imported here: seconds to import, and other verbs do without.
    from sonoshare_shared.evaluation import tstr as measure  # noqa: PLC0415
    from sonoshare_shared.evaluation.labelled import load_labelled  # noqa: PLC0415
    from sonoshare_shared.labels import read_labels  # noqa: PLC0415

    names = tuple(name.strip() for name in classes.split(","))
    progress = progress_console()
    progress.print("reading pictures")
    made = load_labelled(read_labels(synthetic), size, names)
    test = load_labelled(read_labels(real), size, names)
    if train is not None:
        known = load_labelled(read_labels(train), size, names)
        progress.print("training patients: those of --train")
    else:
        chosen = measure.half_of_patients(test.patients)
        known, test = test.take(chosen), test.take(~chosen)
        progress.print("training patients: half of --real's; the other half tests")
    progress.print(f"training {3 * seeds} classifiers of {steps} steps")
    report = measure.tstr(made, test, known, seeds=tuple(range(seeds)), steps=steps)
    emit(report.as_json(), as_json, lambda console: _print_tstr(console, report.as_json()))


def _print_tstr(console: Console, fields: dict[str, object]) -> None:
    for name in ("synthetic", "real", "both"):
        figure = fields[name]
        if isinstance(figure, dict):
            low, high = figure["interval"]
            console.print(f"trained on {name:10} AUC {figure['auc']:.3f}  [{low:.3f}, {high:.3f}]", highlight=False)
    for name in ("frechet", "kernel_distance", "precision", "recall", "density", "coverage"):
        console.print(f"{name:21} {fields[name]:.3f}", highlight=False)
    console.print(f"tested on {fields['test_patients']} patients; features: {fields['features']}", highlight=False)


@command.command()
@click.argument("ratings", type=click.Path(path_type=Path))
@json_option
def readers(*, ratings: Path, as_json: bool) -> None:
    """Compare treatments over readers and cases (columns reader,treatment,case,truth,rating)."""
    from sonoshare_shared.evaluation.readers import compare_readers, read_ratings  # noqa: PLC0415

    emit(compare_readers(read_ratings(ratings)).as_json(), as_json)
