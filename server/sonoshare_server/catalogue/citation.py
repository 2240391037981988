"""How a release is cited: BibTeX, and the Citation File Format 1.2.0 (citation-file-format.github.io).

Texts come from outside. In BibTeX what has a meaning to TeX is written so that it has none; a CFF file is YAML, whose
strings may be written as those of JSON are.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from sonoshare_shared.protocol.release import layout

_TEX: Final = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "#$%&_"},
}


def title_of(summary: Mapping[str, Any]) -> str:
    """What a release is called where it is cited."""
    return f"{summary['release']}: synthetic breast ultrasound"


def bibtex(summary: Mapping[str, Any], consortium: str, server: str) -> str:
    """An entry for a list of references.

    Args:
        summary: what the catalogue says of the release, its state included.
        consortium: who made it.
        server: address of the catalogue.
    """
    fields = {
        # Two braces: a consortium is not a person with a first and a last name.
        "author": f"{{{_tex(consortium)}}}",
        "title": f"{{{_tex(title_of(summary))}}}",
        "year": summary["created"][:4],
        "month": str(int(summary["created"][5:7])),
        "version": _tex(f"{summary['sequence']}"),
        "howpublished": f"\\url{{{server}/releases/{summary['release']}}}",
        "note": _tex(_note(summary)),
    }
    return f"@misc{{{summary['release']},\n{_entries(fields)}}}\n"


def cff(summary: Mapping[str, Any], consortium: str, server: str) -> str:
    """A ``CITATION.cff``; arguments as of ``bibtex``."""
    page = f"{server}/releases/{summary['release']}"
    fields: dict[str, Any] = {
        "cff-version": "1.2.0",
        "message": f"If you use these images, cite them. {_note(summary)}",
        "type": "dataset",
        "title": title_of(summary),
        "version": str(summary["sequence"]),
        "date-released": summary["created"][:10],
        "authors": [{"name": consortium}],
        "url": page,
        "license-url": f"{server}/api/v1/releases/{summary['release']}/files/{layout.LICENCE}",
        "identifiers": [
            {
                "type": "other",
                "value": f"sha256:{summary['manifest_digest']}",
                "description": "sha256 of the signed manifest, which lists every file with its digest",
            }
        ],
        "keywords": ["breast ultrasound", "synthetic data", "differential privacy", summary["task"]],
    }
    return "".join(f"{name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in fields.items())


def _note(summary: Mapping[str, Any]) -> str:
    privacy = summary["privacy"]
    revoked = "REVOKED. " if summary["state"] == "revoked" else ""
    return (
        f"{revoked}Synthetic images, no picture of a patient; ({privacy['epsilon']:.3f}, {privacy['delta']:.1e})-"
        f"differential privacy for a patient with all images. Manifest sha256 {summary['manifest_digest']}."
    )


def _entries(fields: Mapping[str, str]) -> str:
    return "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items())


def _tex(text: str) -> str:
    plain = "".join(character if character.isprintable() else " " for character in text)
    return re.sub(r"[\\{}~^#$%&_]", lambda found: _TEX[found.group()], plain)
