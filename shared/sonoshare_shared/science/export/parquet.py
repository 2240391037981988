"""A verified release as Parquet shards, as `datasets.load_dataset` and the Hugging Face viewer read them.

    README.md                           dataset card: where the shards are, what they are, how to check them
    data/train-00000-of-00002.parquet   and so on, for each split that has pictures
    LICENSE.txt DATASHEET.md SHA256SUMS as in the release

Columns: ``image`` and ``mask`` (struct of the PNG file's bytes and its path in the release), ``label`` (class number;
names in the schema), ``scanner``, ``x y w h`` (null without a lesion), ``index``, and where the release says them
``case``, ``birads``, ``mm_per_pixel_x``, ``mm_per_pixel_y``.

Promises: the bytes in a shard are those of the release's files, so each is held against SHA256SUMS; no more rows than
the release has images. The same release and version of pyarrow give the same bytes. Memory holds one group of rows.
"""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from sonoshare_shared.durable import appearing, put
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.paths import read_regular
from sonoshare_shared.protocol.release.table import SPLITS, birads_of
from sonoshare_shared.science.export.pictures import MAX_DOCUMENT_BYTES, Picture, Source

SHARD_ROWS: Final = 5000
"""Pictures of one shard: at 256 pixels some 200 MB, a size that the Hugging Face viewer reads well."""
GROUP_ROWS: Final = 100
"""Pictures that are held in memory and written together: one row group, which a viewer reads as one page."""
COPIED: Final = (layout.LICENCE, layout.DATASHEET, layout.SHA256SUMS)

_CARD: Final = """\
---
pretty_name: "{title}"
license: other
license_name: {licence}
license_link: LICENSE.txt
tags: [medical, synthetic, ultrasound]
configs:
- config_name: default
  data_files:
{files}
---

# {release}

Synthetic breast-ultrasound images with class, lesion box and lesion mask. No image is a picture of a patient. What was
measured, and what was not: DATASHEET.md. What may be done with them: LICENSE.txt.

Exported from a release that its hospitals audited and signed. The shards are not signed themselves, but hold the very
files that are: the sha256 of `image.bytes` and `mask.bytes` stands in SHA256SUMS beside `image.path` and `mask.path`.

| | |
|---|---|
| manifest (sha256) | `{manifest}` |
| candidate (sha256) | `{candidate}` |
| seed | {seed} |
| images | {images} |
"""


def export_parquet(source: Source, destination: Path, *, shard_rows: int = SHARD_ROWS) -> list[str]:
    """Write the shards of a verified release; the folder appears whole or not at all.

    Args:
        source: the release.
        destination: absent, or an empty folder.
        shard_rows: most pictures in a shard.

    Returns:
        Paths of the shards in the folder.

    Raises:
        VerificationError: a file of the release changed meanwhile.
        InputError: there is something at the destination.
        OSError: it cannot be written.
    """
    schema = _schema(source)
    shards: dict[str, list[str]] = {}
    with appearing(destination) as building:
        (building / "data").mkdir()
        for split in SPLITS:
            rows = sum(source.split_of(image) == split for image in source.kept)
            count = -(-rows // shard_rows)
            pictures = source.pictures(split)
            for shard in range(count):
                path = f"data/{split}-{shard:05d}-of-{count:05d}.parquet"
                _write(building / path, schema, source, islice(pictures, shard_rows))
                shards.setdefault(split, []).append(path)
        for path in COPIED:
            put(building, path, read_regular(source.folder, path, MAX_DOCUMENT_BYTES))
        put(building, "README.md", _card(source, tuple(shards)))
    return [path for paths in shards.values() for path in paths]


def _write(path: Path, schema: pa.Schema, source: Source, pictures: Iterator[Picture]) -> None:
    # PNG bytes do not become smaller by a second compression.
    with pq.ParquetWriter(path, schema, compression="NONE", use_dictionary=["scanner"]) as writer:
        while rows := [_row(source, picture) for picture in islice(pictures, GROUP_ROWS)]:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def _row(source: Source, picture: Picture) -> dict[str, Any]:
    about = picture.about
    row: dict[str, Any] = {
        "image": {"bytes": picture.image, "path": layout.image_path(about.index)},
        "mask": {"bytes": picture.mask, "path": layout.mask_path(about.index)},
        "label": source.plan.task.classes.index(about.label),
        "scanner": about.scanner,
        **dict(zip("xywh", about.box or (None,) * 4, strict=True)),
        "index": about.index,
    }
    if source.candidate.has_cases:
        across, deep = about.mm_per_pixel or (None, None)
        known = {"case": about.case, "birads": birads_of(about.label) or None}
        row |= {**known, "mm_per_pixel_x": across, "mm_per_pixel_y": deep}
    return row


def _schema(source: Source) -> pa.Schema:
    """The columns, and beside them what `datasets` makes of each."""
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    kinds = {"image": picture, "mask": picture, "label": pa.int64(), "scanner": pa.string()}
    kinds |= {**dict.fromkeys("xywh", pa.float64()), "index": pa.int64()}
    if source.candidate.has_cases:
        kinds |= {"case": pa.int64(), "birads": pa.string()}
        kinds |= dict.fromkeys(("mm_per_pixel_x", "mm_per_pixel_y"), pa.float64())
    features: dict[str, Any] = {name: {"_type": "Value", "dtype": _dtype(kind)} for name, kind in kinds.items()}
    features |= {"image": {"_type": "Image"}, "mask": {"_type": "Image"}}
    features["label"] = {"_type": "ClassLabel", "names": list(source.plan.task.classes)}
    said = json.dumps({"info": {"features": features}})
    return pa.schema(list(kinds.items()), metadata={"huggingface": said})


def _dtype(kind: pa.DataType) -> str:
    return {"double": "float64"}.get(str(kind), str(kind))


def _card(source: Source, splits: tuple[str, ...]) -> bytes:
    manifest = source.manifest
    files = "\n".join(f"  - split: {split}\n    path: data/{split}-*.parquet" for split in splits)
    return _CARD.format(
        title=f"{manifest.release}: synthetic breast ultrasound ({manifest.task})",
        licence=manifest.licence,
        files=files,
        release=manifest.release,
        manifest=manifest.digest(),
        candidate=manifest.candidate_digest,
        seed=source.candidate.seed,
        images=len(source.kept),
    ).encode()
