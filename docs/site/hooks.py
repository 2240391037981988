"""What the site's configuration cannot say.

A folder in the nav stands for all of its pages, in the order of names; decisions stand there by their numbers. Two
things that a screen reader stumbles over are mended: headings of tables without a word, and the search without a name.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put a folder's pages in its place in the nav."""
    config.nav = unfolded(config.nav, Path(config.docs_dir))
    return config


def on_page_content(html: str, **_: Any) -> str:
    """A corner of a table that says nothing is no heading."""
    return html.replace("<th></th>", "<td></td>")


def on_post_page(output: str, **_: Any) -> str:
    """Name the theme's search, which is a dialog."""
    return re.sub(r'role="dialog"(?! aria-label)', 'role="dialog" aria-label="Search"', output)


def on_post_template(output_content: str, **_: Any) -> str:
    """The same for what is no page of ours."""
    return on_post_page(output_content)


def unfolded(entry: Any, docs: Path) -> Any:
    """A nav, or a part of one, in which ``NAME: folder/`` has become a list of the folder's pages."""
    if isinstance(entry, list):
        return [unfolded(part, docs) for part in entry]
    if isinstance(entry, dict):
        return {name: unfolded(part, docs) for name, part in entry.items()}
    if isinstance(entry, str) and entry.endswith("/"):
        return [titled(page, docs) for page in sorted((docs / entry).glob("*.md"))]
    return entry


def titled(page: Path, docs: Path) -> str | dict[str, str]:
    """A page's place in the nav; a decision's begins with its number, whether or not its heading does."""
    place = page.relative_to(docs).as_posix()
    number = re.match(r"\d{4}", page.name)
    if number is None:
        return place
    heading = page.read_text(encoding="utf-8").splitlines()[0]
    return {f"{number[0]} {re.sub(r'^# +([0-9]{4}[:.]? +)?', '', heading)}": place}
