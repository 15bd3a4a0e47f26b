"""The input as chunks: the same however often they are read, with nothing between them lost."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from vqa_async.config import Config
from vqa_async.distributed import reading as reading_module
from vqa_async.distributed.reading import Chunk, Reading, packed_chunks
from vqa_async.errors import InputError
from vqa_async.keytable import RecordTable
from vqa_async.models import Failure
from vqa_async.sources import open_source


def written(folder: Path, count: int = 10) -> Path:
    path = folder / "in.jsonl"
    rows = [json.dumps({"id": f"r{n}", "conversation": f"What is {n}?"}) for n in range(count)]
    path.write_text("\n".join(rows) + "\n")
    return path


def read(input: Path | str, folder: Path, *, chunk: int = 4, limit: int | None = None, **known: bytes) -> Any:
    table = RecordTable()
    for id, state in known.items():
        table.set(id, state)
    reading = Reading(str(input), "auto", limit, Config(), table, str(folder), chunk)
    copy: Reading = pickle.loads(pickle.dumps(reading))
    chunks: list[Chunk] = [pickle.loads(packed) for packed in packed_chunks(copy)]
    return chunks


def test_chunks_hold_all_records_in_order(tmp_path: Path) -> None:
    """As many as are wanted in each; the last one says so."""
    chunks = read(written(tmp_path), tmp_path)
    assert [[item.id for item in chunk.items] for chunk in chunks] == [
        ["r0", "r1", "r2", "r3"], ["r4", "r5", "r6", "r7"], ["r8", "r9"],
    ]  # fmt: skip
    assert [chunk.number for chunk in chunks] == [0, 1, 2]
    assert [chunk.is_last for chunk in chunks] == [False, False, True]
    assert [chunk.error for chunk in chunks] == [None] * 3


async def test_ids_and_positions_are_those_of_a_plain_run(tmp_path: Path) -> None:
    """Repeats are numbered over the whole input, not within a chunk."""
    path = tmp_path / "in.jsonl"
    path.write_text('{"conversation": "Same?"}\n' * 9 + "[1]\n")
    plain = [item async for item in open_source(path)]
    # In a thread of its own: the reader of a task of Ray has no event loop, and makes one.
    import asyncio

    chunks = await asyncio.to_thread(read, path, tmp_path)
    found = [item for chunk in chunks for item in chunk.items]
    assert [item.id for item in found] == [item.id for item in plain]
    assert isinstance(found[-1], Failure)


def test_what_is_finished_is_passed_over_and_counted(tmp_path: Path) -> None:
    """Answered, and failed for good; what may pass is tried again."""
    chunks = read(written(tmp_path), tmp_path, r0=b"s", r1=b"f", r2=b"r")
    assert [item.id for item in chunks[0].items] == ["r2", "r3", "r4", "r5"]
    assert (chunks[0].skipped, chunks[0].skipped_failed) == (2, 1)


def test_somebody_hears_of_what_is_only_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk goes out now and then, though it holds nothing."""
    monkeypatch.setattr(reading_module, "_MOST_SKIPPED", 3)
    chunks = read(written(tmp_path, 6), tmp_path, **{f"r{n}": b"s" for n in range(6)})
    assert [(chunk.skipped, len(chunk.items)) for chunk in chunks] == [(3, 0), (3, 0), (0, 0)]


def test_a_chunk_with_large_images_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bytes count where images stand in the input itself."""
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    monkeypatch.setattr(reading_module, "_MOST_BYTES", 1000)
    rows = [{"image": {"bytes": b"\xff\xd8\xff" + bytes(600)}, "conversation": f"{n}?"} for n in range(4)]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "in.parquet")
    chunks = read(tmp_path / "in.parquet", tmp_path)
    assert [len(chunk.items) for chunk in chunks] == [2, 2, 0]


def test_an_input_that_cannot_be_read_ends_with_its_error(tmp_path: Path) -> None:
    """As a value, for Ray would try again what raises; what came before it is there."""
    (tmp_path / "in.json").write_text('[{"id": "r0", "conversation": "?"}, {"id"')
    last = read(tmp_path / "in.json", tmp_path)[-1]
    assert isinstance(last.error, InputError)
    assert last.is_last
    missing = read(tmp_path / "nothing.jsonl", tmp_path)
    assert isinstance(missing[0].error, InputError)
    assert missing[0].is_last


def test_names_are_relative_to_where_the_driver_is(tmp_path: Path) -> None:
    """And the process that reads is left where it was."""
    written(tmp_path, 2)
    before = os.getcwd()
    assert len(read("in.jsonl", tmp_path)[0].items) == 2
    assert os.getcwd() == before


def test_the_limit_counts_over_all_chunks(tmp_path: Path) -> None:
    """So many rows of the input, not of each chunk."""
    assert sum(len(chunk.items) for chunk in read(written(tmp_path), tmp_path, limit=5)) == 5
