"""Parquet and Arrow: values of all types, images in all forms, damage, memory."""

from __future__ import annotations

import datetime
import decimal
import gzip
import json
import sys
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mixed_records import as_table, mixed_records, write_parquet
from reading import read, read_until_broken
from test_sources_memory import growth

from vqa_async.config import Columns
from vqa_async.errors import ConfigError, InputError
from vqa_async.models import Failure, ImageRef
from vqa_async.sources import StoredImages, image_bytes, open_source


def write(folder: Path, columns: dict[str, object], name: str = "in.parquet") -> Path:
    return write_parquet(folder / name, pa.table(columns))


async def test_values_of_all_types_are_plain_ones_in_the_rows(tmp_path: Path) -> None:
    """Each could be written as JSON; nulls are keys that are not there; bytes are referred to."""
    when = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    path = write(
        tmp_path,
        {
            "conversation": ["Why?"],
            "n": pa.array([5], pa.int8()),
            "f": [0.5],
            "b": [True],
            "none": pa.array([None], pa.string()),
            "when": [when],
            "day": [when.date()],
            "long": [datetime.timedelta(seconds=90)],
            "d": [decimal.Decimal("1.20")],
            "word": pa.array(["x"]).dictionary_encode(),
            "nested": [{"a": None, "list": [{"b": 1, "c": None}, {"b": None, "c": [2]}]}],
            "raw": [b"\0\1"],
        },
    )
    (record,) = await read(path)
    assert orjson.loads(orjson.dumps(record.row)) == record.row
    assert record.row == {
        "conversation": "Why?",
        "n": 5,
        "f": 0.5,
        "b": True,
        "when": "2026-01-02T03:04:05+00:00",
        "day": "2026-01-02",
        "long": 90.0,
        "d": "1.20",
        "word": "x",
        "nested": {"list": [{"b": 1}, {"c": [2]}]},
        "raw": "in.parquet#0/raw",
    }


async def test_images_are_bytes_structs_or_lists_of_them(tmp_path: Path) -> None:
    """What is asked by are the bytes, or the path where there are none; what is written is a reference."""
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    column = pa.array(
        [
            {"bytes": b"one", "path": "a b/ü.png"},
            {"bytes": b"two", "path": None},
            {"bytes": None, "path": "c.png"},
            None,
        ],
        struct,
    )
    path = write(tmp_path, {"im/age": column, "conversation": ["?"] * 4})
    found = await read(path, columns=Columns(image_key="im/age"))
    assert [record.images for record in found] == [
        (ImageRef("bytes", b"one"),),
        (ImageRef("bytes", b"two"),),
        (ImageRef("path", "c.png"),),
        (),
    ]
    references = [record.row.get("im/age") for record in found]
    assert references == [
        "in.parquet#0/im%2Fage/a%20b/%C3%BC.png",
        "in.parquet#1/im%2Fage",
        "c.png",
        None,
    ]
    assert image_bytes(references[0], str(tmp_path)) == b"one"
    assert image_bytes(references[1], str(tmp_path)) == b"two"
    path = write(tmp_path, {"image": [[b"x", b"y"], [b"z"], []], "conversation": ["?"] * 3}, "lists.parquet")
    found = await read(path)
    assert [[image.value for image in record.images] for record in found] == [[b"x", b"y"], [b"z"], []]
    assert found[0].row["image"] == ["lists.parquet#0/image/0", "lists.parquet#0/image/1"]


async def test_columns_of_json_text_are_what_they_say(tmp_path: Path) -> None:
    """For images, conversation and parameters; the same text elsewhere stays text."""
    turns = [{"role": "user", "content": [{"type": "text", "text": "Why?"}]}]
    path = write(
        tmp_path,
        {
            "image": ['["a.png"]'],
            "conversation": [json.dumps(turns)],
            "_params": ['{"seed": 1}'],
            "x": ["[1]"],
        },
    )
    (record,) = await read(path)
    assert record.row == {"image": ["a.png"], "conversation": turns, "_params": {"seed": 1}, "x": "[1]"}


async def test_a_row_that_is_no_record_fails_alone(tmp_path: Path) -> None:
    """With its file and number."""
    path = write(tmp_path, {"image": [b"", b"x"], "conversation": ["?", "?"]})
    first, second = await read(path)
    assert isinstance(first, Failure)
    assert first.error.message.startswith("in.parquet row 1: ")
    assert first.record.row["image"] == "in.parquet#0/image"
    assert second.index == 1


async def test_the_share_that_was_read_is_known(tmp_path: Path) -> None:
    """From the number of rows, over all files."""
    for name in ("a.parquet", "b.parquet"):
        write_parquet(tmp_path / name, as_table(mixed_records(300)))
    async with open_source(tmp_path) as source:
        shares = [source.fraction() async for _ in source]
    assert shares == sorted(shares)
    assert shares[0] < 0.5 < shares[-1] == 1.0


async def test_a_parquet_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    """Its contents stand at its end."""
    path = write_parquet(tmp_path / "in.parquet", as_table(mixed_records(100)))
    path.write_bytes(path.read_bytes()[:-10])
    results, said = await read_until_broken(path)
    assert results == []
    assert said.startswith("in.parquet cannot be read: ")
    assert "\n" not in said


async def test_damage_in_the_middle_comes_after_the_rows_before_it(tmp_path: Path) -> None:
    """The rows of the row groups before it are read."""
    path = write_parquet(tmp_path / "in.parquet", as_table(mixed_records(500)), row_group_size=100)
    metadata = pq.ParquetFile(path).metadata
    at = metadata.row_group(3).column(1).data_page_offset
    content = bytearray(path.read_bytes())
    content[at : at + 60] = b"\xff" * 60
    path.write_bytes(content)
    results, said = await read_until_broken(path)
    assert 100 <= len(results) <= 300
    assert "in.parquet cannot be read: " in said


async def test_an_arrow_stream_that_is_cut_off_gives_the_rows_before(tmp_path: Path) -> None:
    """Batch by batch."""
    table = as_table(mixed_records(300))
    with pa.ipc.new_stream(tmp_path / "in.arrow", table.schema) as out:
        out.write_table(table, max_chunksize=100)
    content = (tmp_path / "in.arrow").read_bytes()
    (tmp_path / "in.arrow").write_bytes(content[: len(content) * 5 // 6])
    results, said = await read_until_broken(tmp_path / "in.arrow")
    assert len(results) in (100, 200)
    assert said.startswith("in.arrow cannot be read: ")


async def test_packed_parquet_is_refused_with_the_reason(tmp_path: Path) -> None:
    """It is read from its end, which a stream comes to last."""
    path = write_parquet(tmp_path / "in.parquet", as_table(mixed_records(10)))
    (tmp_path / "in.parquet.gz").write_bytes(gzip.compress(path.read_bytes()))
    _, said = await read_until_broken(tmp_path / "in.parquet.gz")
    assert said.endswith("give the file itself, unpacked.")


async def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extra that installs it."""
    path = write_parquet(tmp_path / "in.parquet", as_table(mixed_records(10)))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install 'vqa-async\[parquet\]'"):
        await read(path)


async def test_leaving_early_closes_the_file(tmp_path: Path, no_leaks) -> None:
    """Neither a descriptor nor a task is left when the block is left in the middle."""
    path = write_parquet(tmp_path / "in.parquet", as_table(mixed_records(1000)))
    async with open_source(path) as source:
        await anext(aiter(source))
    no_leaks()


def test_a_saved_dataset_that_does_not_say_its_files_is_refused(tmp_path: Path) -> None:
    """What describes it may be damaged in any way."""
    from vqa_async.sources.saved_dataset import arrow_files

    for text in ("{", "[]", "{}", '{"_data_files": 3}', '{"_data_files": [3]}', '{"_data_files": [{}]}'):
        (tmp_path / "state.json").write_text(text)
        with pytest.raises(InputError, match=r"state\.json does not say"):
            arrow_files(str(tmp_path))


def test_images_are_found_again_in_any_order(tmp_path: Path) -> None:
    """Onwards by going on, backwards by beginning anew; what is not there is said."""
    table = pa.table({"image": [str(n).encode() for n in range(100)], "other": [b"x"] * 100})
    write_parquet(tmp_path / "in.parquet", table, row_group_size=10)
    with pa.ipc.new_file(tmp_path / "in.arrow", table.schema) as out:
        out.write_table(table, max_chunksize=10)
    with StoredImages(str(tmp_path)) as images:
        for name in ("in.parquet", "in.arrow"):
            for row in (5, 6, 50, 99, 98, 3, 3):
                assert images.get(f"{name}#{row}/image") == str(row).encode()
            assert images.get(f"{name}#7/other") == b"x"
            for wrong in ("100/image", "0/nothing", "x/image", "3"):
                with pytest.raises(InputError, match="there is no such image"):
                    images.get(f"{name}#{wrong}")
            assert images.get(f"{name}#4/image") == b"4"
        assert images.get("a.png") is None
        assert images.get("a#b.png") is None
        with pytest.raises(InputError, match="was not found"):
            images.get("gone.parquet#0/image")
        with pytest.raises(InputError, match="only read as a stream"):
            images.get("hf://org/name:train#0/image")


@pytest.mark.slow
async def test_a_row_group_of_any_size_is_streamed(tmp_path: Path) -> None:
    """60 MB in one row group pass through a few MB."""
    few, many = (tmp_path / name for name in ("few.parquet", "many.parquet"))
    for path, count in ((few, 1000), (many, 15_000)):
        table = pa.table(
            {"image": [n.to_bytes(4) * 1000 for n in range(count)], "conversation": ["?"] * count}
        )
        pq.write_table(table, path, row_group_size=count, compression="none", use_dictionary=False)
    assert growth(many)[2] < growth(few)[2] + 30
