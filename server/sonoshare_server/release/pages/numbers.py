"""Numbers on a page: each carries its exact value, so that a machine can compare the page with the JSON beside it."""

from typing import Any

from markupsafe import Markup, escape


def num(value: float, form: str = "%g", times: float = 1) -> Markup:
    """A number as people read it, with its exact value for machines.

    Args:
        value: as it stands in the JSON.
        form: how it is shown.
        times: shown as so many times the value (100 for per cent).
    """
    return Markup('<data value="{}">{}</data>').format(repr(value), form % (value * times))


def between(interval: tuple[float, float], form: str = "%.3f", times: float = 1) -> Markup:
    """An interval in words."""
    return Markup("{} to {}").format(num(interval[0], form, times), num(interval[1], form, times))


def figure_rows(figures: dict[str, Any], prefix: str = "") -> list[tuple[str, Markup]]:
    """Nested figures as rows of name and text, in the order in which they stand."""
    rows: list[tuple[str, Markup]] = []
    for name, value in figures.items():
        path = f"{prefix}{name}".replace("_", " ")
        parts = value if isinstance(value, list | tuple) else ()
        if isinstance(value, dict):
            rows.extend(figure_rows(value, f"{path} · "))
        elif parts and all(isinstance(part, dict) for part in parts):
            for number, part in enumerate(parts, 1):
                rows.extend(figure_rows(part, f"{path} {number} · "))
        else:
            rows.append((path, _text(value)))
    return rows


def _text(value: object) -> Markup:
    if isinstance(value, bool) or value is None:
        return escape({True: "yes", False: "no", None: "none"}[value])
    if isinstance(value, int | float):
        return num(value, "%.4g" if isinstance(value, float) else "%d")
    if isinstance(value, list | tuple):
        return Markup(", ").join(_text(item) for item in value)
    return escape(str(value))
