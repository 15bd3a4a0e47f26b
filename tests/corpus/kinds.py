"""A corpus of broken and strange images: what there is, and writing it into a folder.

Every file is made here, the same each time, from a line of code that says what is strange about it; the
repository holds none of them. Used by tests/corpus/test_corpus.py and by scripts/corpus.
"""

from __future__ import annotations

import json
from pathlib import Path

import kinds_gif
import kinds_jpeg
import kinds_other
import kinds_png
import kinds_raster
import kinds_webp
from kind import Kind

KINDS: tuple[Kind, ...] = (
    *kinds_jpeg.KINDS,
    *kinds_png.KINDS,
    *kinds_gif.KINDS,
    *kinds_webp.KINDS,
    *kinds_raster.KINDS,
    *kinds_other.KINDS,
)
QUESTION = "What is in the corner at the top left?"


def write_corpus(folder: Path) -> Path:
    """Write every file and ``corpus.jsonl``, whose records ask about one each; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        (folder / kind.name).write_bytes(kind.make())
    path = folder / "corpus.jsonl"
    rows = ({"id": kind.name, "image": kind.name, "conversation": QUESTION} for kind in KINDS)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path
