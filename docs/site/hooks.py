"""What the site's configuration cannot say: a folder in the nav stands for all of its pages, in the order of names."""

from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put a folder's pages in its place in the nav."""
    config.nav = unfolded(config.nav, Path(config.docs_dir))
    return config


def unfolded(entry: Any, docs: Path) -> Any:
    """A nav, or a part of one, in which ``NAME: folder/`` has become a list of the folder's pages."""
    if isinstance(entry, list):
        return [unfolded(part, docs) for part in entry]
    if isinstance(entry, dict):
        return {name: unfolded(part, docs) for name, part in entry.items()}
    if isinstance(entry, str) and entry.endswith("/"):
        return [page.relative_to(docs).as_posix() for page in sorted((docs / entry).glob("*.md"))]
    return entry
