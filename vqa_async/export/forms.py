"""The export forms: what each keeps of an example, how it is written, what it does with images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, TypeAlias, cast

from vqa_async.errors import ConfigError
from vqa_async.export.conversations import Conversation, conversations
from vqa_async.export.example import Example
from vqa_async.export.files import Add, Row, csv_table, json_array, json_lines
from vqa_async.export.options import ExportOptions, FormatName, ImageMode
from vqa_async.export.origin import Origin
from vqa_async.export.parquet import ParquetShards, parquet_rows, parquet_table
from vqa_async.export.pictures import Picture
from vqa_async.export.rows import guide_rows, input_rows, table_rows, whole_rows
from vqa_async.export.shards import TarShards, shard_rows
from vqa_async.export.trainers import llava, openai, sharegpt, swift

Rows: TypeAlias = Callable[[Example, Sequence[Picture] | None, ExportOptions, Origin], Iterator[Row]]


@dataclass(frozen=True, slots=True)
class Layout:
    """What a writer must know.

    Attributes:
        options: of the export.
        suffix: of the file to write.
        columns: of a table, in order.
    """

    options: ExportOptions
    suffix: str = ""
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExportFormat:
    """One form.

    Attributes:
        rows: what it keeps of an example.
        write: opens a file for its rows; None where it makes a folder.
        shards: opens the files of one split in a folder.
        images: what it can do with images, the default first: "" refers to them.
        refers: whether references are written so that trainers find them, instead of as in the input.
        absolute: whether they are absolute by default.
        keeps_rows: whether rows have their own fields, so that failed ones can be among them.
        needs_columns: whether all columns must be known before the first row.
    """

    rows: Rows
    write: Callable[[BinaryIO, Layout], AbstractContextManager[Add]] | None = None
    shards: Callable[[Path, str, Layout], AbstractContextManager[Add]] | None = None
    images: tuple[ImageMode, ...] = ("", "copy", "link")
    refers: bool = True
    absolute: bool = False
    keeps_rows: bool = False
    needs_columns: bool = False

    def settled(self, options: ExportOptions, name: str) -> ExportOptions:
        """``options`` with what this form does by default.

        Raises:
            ConfigError: it cannot do what they say.
        """
        if options.with_images and options.with_images not in self.images:
            can = ", ".join(filter(None, self.images))
            raise ConfigError(f"The form {name} cannot {options.with_images} images: it can {can}.")
        if options.failures and not self.keeps_rows:
            known = ", ".join(name for name, form in FORMATS.items() if form.keeps_rows)
            raise ConfigError(f"Failures have no answer to put into the form {name}: choose {known}.")
        return replace(
            options,
            with_images=options.with_images or self.images[0],
            image_paths=options.image_paths or ("absolute" if self.absolute else "relative"),
        )

    def for_failures(self) -> ExportFormat:
        """The same form for failed rows alone."""
        return replace(self, rows=input_rows)


def _said(row: Callable[[Conversation, Sequence[Picture]], Row]) -> Rows:
    """Rows of a trainer's form."""

    def rows(
        example: Example, pictures: Sequence[Picture] | None, options: ExportOptions, _: Origin
    ) -> Iterator[Row]:
        as_rows = options.pairs_as == "rows"
        for said in conversations(example, system=options.system, as_rows=as_rows):
            yield row(said, pictures or ())

    return rows


def _array(file: BinaryIO, _: Layout) -> AbstractContextManager[Add]:
    return json_array(file)


def _lines(file: BinaryIO, _: Layout) -> AbstractContextManager[Add]:
    return json_lines(file)


def _either(file: BinaryIO, layout: Layout) -> AbstractContextManager[Add]:
    return json_lines(file) if layout.suffix == ".jsonl" else json_array(file)


def _csv(file: BinaryIO, layout: Layout) -> AbstractContextManager[Add]:
    return csv_table(file, layout.columns)


def _parquet(file: BinaryIO, layout: Layout) -> AbstractContextManager[Add]:
    return parquet_table(file, layout.options)


@contextmanager
def _parquet_shards(folder: Path, split: str, layout: Layout) -> Iterator[Add]:
    with ParquetShards(folder, split or "train", layout.options) as shards:
        yield shards.add


@contextmanager
def _tar_shards(folder: Path, split: str, _: Layout) -> Iterator[Add]:
    with TarShards(folder, split or "shard") as shards:
        yield shards.add


_ANY: tuple[ImageMode, ...] = ("", "copy", "link", "embed")

FORMATS = {
    "json": ExportFormat(guide_rows, _array, images=_ANY, refers=False, keeps_rows=True),
    "jsonl": ExportFormat(whole_rows, _lines, images=_ANY, refers=False, keeps_rows=True),
    "csv": ExportFormat(table_rows, _csv, images=_ANY, refers=False, keeps_rows=True, needs_columns=True),
    "parquet": ExportFormat(parquet_rows, _parquet, images=_ANY),
    "hf": ExportFormat(parquet_rows, shards=_parquet_shards, images=("embed",)),
    "sharegpt": ExportFormat(_said(sharegpt), _either),
    "llava": ExportFormat(_said(llava), _either),
    "swift": ExportFormat(_said(swift), _lines, images=_ANY, absolute=True),
    "openai": ExportFormat(_said(openai), _lines, images=("embed",)),
    "webdataset": ExportFormat(shard_rows, shards=_tar_shards, images=("embed",)),
}


def format_name(path: Path, name: str = "") -> FormatName:
    """The form called ``name``, or the one that the suffix of ``path`` stands for.

    Raises:
        ConfigError: neither names a known form.
    """
    chosen = name or path.suffix.lower().removeprefix(".")
    if chosen not in FORMATS:
        known = ", ".join(FORMATS)
        what = f"There is no export format {chosen!r}" if chosen else f"The name {path} has no suffix"
        raise ConfigError(f"{what} (known formats: {known}). Give one with --format.")
    return cast(FormatName, chosen)


def format_for(path: Path, name: str = "") -> ExportFormat:
    """What ``format_name`` names."""
    return FORMATS[format_name(path, name)]
