"""Rows into Parquet that 'datasets' opens with its images as images. The only importer of pyarrow here.

The schema is fixed, since rows come one at a time: what a row has beside images and pairs is one JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from vqa_async.errors import ConfigError
from vqa_async.export.conversations import conversations, inline
from vqa_async.export.example import Example
from vqa_async.export.files import Add, Row
from vqa_async.export.options import ExportOptions
from vqa_async.export.origin import Origin
from vqa_async.export.pictures import Picture
from vqa_async.journal.json_text import to_json

_GROUP_ROWS = 200
_GROUP_BYTES = 32 << 20
"""A row group ends at either: what is held in memory, and what a viewer must read for one page."""
SHARD_BYTES = 400 << 20
"""The Hub's own size of shards is 300 to 500 MB."""

_PAIR = {"question": "string", "answer": "string"}
_TURN = {"role": "string", "content": "string"}


def parquet_rows(
    example: Example, pictures: Sequence[Picture] | None, options: ExportOptions, origin: Origin
) -> Iterator[Row]:
    """A row for each conversation of an example."""
    images = [
        _image(picture) if options.with_images == "embed" else picture.reference for picture in pictures or ()
    ]
    fields = {
        n: v for n, v in example.row.items() if n not in (origin.image_key, origin.conversation_key, "id")
    }
    as_rows = options.pairs_as == "rows"
    for said in conversations(example, system=options.system, as_rows=as_rows):
        turns = [("assistant" if n % 2 else "user", inline(parts)) for n, parts in enumerate(said.turns)]
        if said.system:
            turns.insert(0, ("system", said.system))
        row: Row = {
            "id": said.id,
            "images": images,
            "messages": [{"role": role, "content": _valid(text)} for role, text in turns],
            "qa_pairs": [{"question": _valid(p.question), "answer": _valid(p.answer)} for p in said.pairs],
            "vqa": _valid(example.text),
            "fields": to_json(fields).decode(),
        }
        if as_rows:
            row |= {"question": turns[-2][1], "answer": turns[-1][1]}
            if said.pairs:
                row |= row["qa_pairs"][0]
        row["id"] = _valid(said.id)
        yield row


def _image(picture: Picture) -> Row:
    name = picture.name if picture.data is not None else picture.reference
    return {"bytes": picture.data, "path": name}


def _valid(text: str) -> str:
    """A text that UTF-8 can hold: of half a surrogate pair only its escape remains."""
    return text.encode("utf-8", "backslashreplace").decode()


def schema(options: ExportOptions) -> Any:
    """The columns, with what 'datasets' wants to know about them."""
    pa = _pyarrow()
    embedded = options.with_images == "embed"
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())]) if embedded else pa.string()
    columns = [
        ("id", pa.string()),
        ("images", pa.list_(image)),
        ("messages", pa.list_(pa.struct([(name, pa.string()) for name in _TURN]))),
        ("qa_pairs", pa.list_(pa.struct([(name, pa.string()) for name in _PAIR]))),
        ("vqa", pa.string()),
        ("fields", pa.string()),
    ]
    text = {"dtype": "string", "_type": "Value"}
    features: dict[str, Any] = {name: text for name, _ in columns} | {
        "images": {"feature": {"_type": "Image"} if embedded else text, "_type": "List"},
        "messages": {"feature": dict.fromkeys(_TURN, text), "_type": "List"},
        "qa_pairs": {"feature": dict.fromkeys(_PAIR, text), "_type": "List"},
    }
    if options.pairs_as == "rows":
        columns += [("question", pa.string()), ("answer", pa.string())]
        features |= {"question": text, "answer": text}
    return pa.schema(columns, metadata={"huggingface": json.dumps({"info": {"features": features}})})


class _Groups:
    """Rows gathered into row groups of one file."""

    def __init__(self, file: BinaryIO, columns: Any) -> None:
        from pyarrow import parquet

        self._columns = columns
        self._writer = parquet.ParquetWriter(file, columns, compression="zstd")
        self._rows: list[Row] = []
        self._held = 0
        self.size = 0

    def add(self, row: Row) -> None:
        """The next row."""
        self._rows.append(row)
        size = _size(row)
        self._held += size
        self.size += size
        if len(self._rows) >= _GROUP_ROWS or self._held >= _GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """End the row group."""
        if self._rows:
            self._writer.write_table(_pyarrow().Table.from_pylist(self._rows, self._columns))
        self._rows, self._held = [], 0

    def close(self) -> None:
        """End the file."""
        self._writer.close()


def _size(row: Row) -> int:
    images = sum(len(image["bytes"] or b"") for image in row["images"] if isinstance(image, dict))
    return images + len(row["vqa"]) + len(row["fields"]) + 200


@contextmanager
def parquet_table(file: BinaryIO, options: ExportOptions) -> Iterator[Add]:
    """One Parquet file."""
    groups = _Groups(file, schema(options))
    try:
        yield groups.add
        groups.flush()
    finally:
        groups.close()


class ParquetShards:
    """The files of one split, ``data/train-00000-of-00002.parquet``. Use as a context.

    Args:
        folder: the data set's folder.
        split: name of the split.
        options: what the columns depend on.
    """

    def __init__(self, folder: Path, split: str, options: ExportOptions) -> None:
        self._folder = folder / "data"
        self._folder.mkdir(exist_ok=True)
        self._split = split
        self._columns = schema(options)
        self._files: list[Path] = []
        self._open: tuple[BinaryIO, _Groups] | None = None

    def __enter__(self) -> ParquetShards:
        return self  # no file yet: 'datasets' refuses to load a split without rows

    def add(self, row: Row) -> None:
        """The next row."""
        if self._open is not None and self._open[1].size >= SHARD_BYTES:
            self._end()
        groups = self._begin() if self._open is None else self._open[1]
        groups.add(row)

    def __exit__(self, *exc: object) -> None:
        if self._open is not None:
            self._end(whole=exc[0] is None)
        for number, path in enumerate(self._files):
            path.rename(self._folder / f"{self._split}-{number:05}-of-{len(self._files):05}.parquet")

    def _begin(self) -> _Groups:
        path = self._folder / f"{self._split}-{len(self._files):05}.parquet"
        self._files.append(path)
        file = path.open("wb")
        self._open = file, _Groups(file, self._columns)
        return self._open[1]

    def _end(self, *, whole: bool = True) -> None:
        assert self._open is not None
        (file, groups), self._open = self._open, None
        with file:
            try:
                if whole:
                    groups.flush()
            finally:
                groups.close()


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError:
        raise ConfigError(
            "Parquet needs the library pyarrow: pip install 'vqa-async[parquet]', or choose another --format."
        ) from None
    return pyarrow
