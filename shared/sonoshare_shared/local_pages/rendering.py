"""Templates of local pages: every text is escaped, and a name that a page forgot is an error.

Words of others pass through the filter ``printable`` too: escaping leaves marks that turn the direction of a line.
Commands that a template names pass through ``told``, so that they can be pasted where the reader is; what is
``printable`` may name some, and is told as well.

The templates of the base come first; a console adds its own package's.
"""

from collections.abc import Callable
from typing import Any, Final

import jinja2
from starlette.responses import HTMLResponse

from sonoshare_shared.printable import printable

_SUFFIX: Final = ".html.j2"
_BASE: Final = jinja2.PackageLoader("sonoshare_shared.local_pages", "templates")


def environment(package: str | None = None, told: Callable[[str], str] = str) -> jinja2.Environment:
    """Templates of the base, and of ``package``'s folder ``templates``.

    Args:
        package: of a console.
        told: makes the commands that a text names pasteable; the layers below the command line leave them.
    """
    own = [] if package is None else [jinja2.PackageLoader(package, "templates")]
    made = jinja2.Environment(
        loader=jinja2.ChoiceLoader([_BASE, *own]),
        autoescape=jinja2.select_autoescape((_SUFFIX.removeprefix("."),)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["printable"] = lambda text: told(printable(str(text)))
    made.filters["told"] = told
    return made


def rendered(templates: jinja2.Environment, name: str, status: int = 200, **values: Any) -> HTMLResponse:
    """One of the templates, filled in."""
    return HTMLResponse(templates.get_template(f"{name}{_SUFFIX}").render(**values), status)


_BARE: Final = environment()


def refusal_page(title: str, status: int, words: str) -> HTMLResponse:
    """A page for whoever has no session, or sent what is not taken; it shows nothing of the node."""
    return rendered(_BARE, "refusal", status, title=title, words=words)


def left_page(title: str) -> HTMLResponse:
    """What whoever leaves sees last."""
    return rendered(_BARE, "left", title=title)


def fault_page(title: str) -> HTMLResponse:
    """What is shown where a page has a fault; the fault's own words are shown to nobody."""
    return refusal_page(title, 500, "The page has a fault; its kind and place are in the terminal.")


def entered_page(title: str, root: str) -> HTMLResponse:
    """What the one-time link opens.

    Not a redirect: a browser that came from another program's page would follow it without the new cookie.
    """
    return rendered(_BARE, "entered", title=title, root=root)
