"""Whole inputs: files, pipes and standard input, from opening to the end."""

import asyncio
import bz2
import gzip
import json
import lzma
import os
import subprocess
import sys
import threading

import orjson
import pytest

from vqa_async.config import Columns
from vqa_async.errors import InputError
from vqa_async.models import Failure, Record
from vqa_async.sources import open_source

ROWS = [{"image": f"{name}.png", "conversation": "Why?"} for name in "abc"]
LINES = b"".join(orjson.dumps(row) + b"\n" for row in ROWS)
ARRAY = json.dumps(ROWS, indent=2).encode()


async def read(path, **options):
    async with open_source(path, **options) as source:
        return [result async for result in source]


async def read_bytes(folder, data, name="in.json", **options):
    (folder / name).write_bytes(data)
    return await read(folder / name, **options)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("in.jsonl", LINES),
        ("in.json", LINES),
        ("in.txt", LINES),
        ("in.json", ARRAY),
        ("in", b"\n  " + ARRAY),
        ("in.json", b"\xef\xbb\xbf" + ARRAY),
        ("in.jsonl", b"\xef\xbb\xbf" + LINES),
        ("in.json", "\n".join(json.dumps(row, indent=1) for row in ROWS).encode()),
        ("in.json", b"".join(map(orjson.dumps, ROWS))),
    ],
)
async def test_every_form_of_the_same_rows_gives_the_same_records(tmp_path, name, data):
    """Arrays, lines and single values are told apart by content; a byte order mark is skipped."""
    results = await read_bytes(tmp_path, data, name)
    assert [result.row for result in results] == ROWS
    assert [result.index for result in results] == [0, 1, 2]
    assert {result.folder for result in results} == {str(tmp_path)}
    assert [result.id for result in results] == [result.id for result in await read_bytes(tmp_path, LINES)]


@pytest.mark.parametrize("name", ["in.jsonl", "in.NDJSON"])
async def test_a_list_in_a_file_of_lines_is_a_row_of_the_wrong_kind(tmp_path, name):
    """The suffix says what a line must be, so the list is not taken for the whole input."""
    first, second = await read_bytes(tmp_path, b"[1]\n" + orjson.dumps(ROWS[0]), name)
    assert first.error.code == "not_an_object"
    assert isinstance(second, Record)


async def test_a_bad_first_line_does_not_change_the_format(tmp_path):
    """Lines are known by any of the first ones."""
    first, *rest = await read_bytes(tmp_path, b'{"image": \n' + LINES)
    assert first.error.message.startswith("in.json line 1: not JSON")
    assert len(rest) == 3


async def test_the_format_can_be_given(tmp_path):
    """What the user says counts more than the content."""
    results = await read_bytes(tmp_path, b"x\n" + LINES, "in.txt", format="jsonl")
    assert [isinstance(result, Failure) for result in results] == [True, False, False, False]
    results = await read_bytes(tmp_path, LINES, "in.jsonl", format="json")
    assert [result.row for result in results] == ROWS


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "in.json holds no records."),
        (b"\n \n", "in.json holds no records."),
        (b"[]", "in.json holds no records."),
        (b"\xef\xbb\xbf", "in.json holds no records."),
        (LINES.decode().encode("utf-16"), "in.json is UTF-16 text: save it as UTF-8."),
        (ARRAY.decode().encode("utf-16-be"), "in.json is UTF-16 text: save it as UTF-8."),
        (lzma.compress(LINES), "in.json is compressed with xz: unpack it first."),
        (bz2.compress(LINES), "in.json is compressed with bzip2: unpack it first."),
        (gzip.compress(b"\xff\xd8\xff\xe0", mtime=0), "in.json is an image"),
        (b"\xff\xd8\xff\xe0", "in.json is an image"),
        (b"image,conversation\na.png,Why?\n", "in.json is no JSON: it begins with 'image,conver'"),
        (b"\0\1\2", "in.json is no JSON"),
    ],
)
async def test_an_input_that_is_none_is_refused_in_a_sentence(tmp_path, data, said):
    """The message says what the file is and what to do about it."""
    with pytest.raises(InputError) as caught:
        await read_bytes(tmp_path, data)
    assert said in caught.value.message
    assert "\n" not in caught.value.message


def test_a_missing_input_is_refused_at_once(tmp_path):
    """Before anything is awaited."""
    with pytest.raises(InputError, match="there is no such file"):
        open_source(tmp_path / "in.jsonl")


async def test_an_input_that_vanished_is_refused(tmp_path):
    """The file system's reason becomes ours."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(LINES)
    source = open_source(path)
    path.unlink()
    with pytest.raises(InputError, match=r"in\.jsonl cannot be read: No such file"):
        await anext(aiter(source))


async def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    """A file that opens and then fails is no internal error."""
    (tmp_path / "in.jsonl").symlink_to("/proc/self/mem")
    with pytest.raises(InputError, match=r"in\.jsonl cannot be read: "):
        await read(tmp_path / "in.jsonl")


async def test_records_before_a_break_come_first(tmp_path):
    """A torn array is read up to the tear, then the error names file and item."""
    (tmp_path / "in.json").write_bytes(ARRAY[:-20])
    async with open_source(tmp_path / "in.json") as source:
        results = aiter(source)
        assert [(await anext(results)).row for _ in range(2)] == ROWS[:2]
        with pytest.raises(InputError, match=r"in\.json item 2 is not valid JSON: the file ends"):
            await anext(results)


async def test_the_share_that_was_read_grows_to_one(tmp_path):
    """Progress counts the bytes that became records, not those that were read ahead."""
    (tmp_path / "in.jsonl").write_bytes(LINES)
    async with open_source(tmp_path / "in.jsonl") as source:
        assert source.fraction() is None
        shares = [source.fraction() async for _ in source]
        assert repr(source).endswith("in.jsonl, 100% read>")
    assert shares == pytest.approx([1 / 3, 2 / 3, 1], abs=0.01)


async def test_leaving_early_closes_the_file(tmp_path):
    """Neither a descriptor nor a task is left when the block is left in the middle."""
    (tmp_path / "in.jsonl").write_bytes(LINES)
    before = set(os.listdir("/proc/self/fd"))
    async with open_source(tmp_path / "in.jsonl") as source:
        await anext(aiter(source))
        assert set(os.listdir("/proc/self/fd")) > before
    assert set(os.listdir("/proc/self/fd")) == before
    assert len(asyncio.all_tasks()) == 1


async def test_a_fifo_is_read_as_it_is_written(tmp_path):
    """A record arrives as soon as its line does, while the writer still holds the pipe open."""
    path = tmp_path / "in.jsonl"
    os.mkfifo(path)
    first_seen = threading.Event()

    def write():
        with path.open("wb", buffering=0) as pipe:
            pipe.write(orjson.dumps(ROWS[0]) + b"\n")
            first_seen.wait(5)
            pipe.write(orjson.dumps(ROWS[1]))

    writer = asyncio.create_task(asyncio.to_thread(write))
    async with open_source(path) as source:
        results = aiter(source)
        assert (await anext(results)).row == ROWS[0]
        assert source.fraction() is None
        first_seen.set()
        assert (await anext(results)).row == ROWS[1]
        assert await anext(results, None) is None
    await writer


async def test_a_fifo_that_nobody_writes_to_can_be_left(tmp_path):
    """Waiting for a silent pipe is cancelled at once."""
    path = tmp_path / "in.jsonl"
    os.mkfifo(path)
    waiting = asyncio.create_task(read(path))
    await asyncio.sleep(0.05)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    os.close(os.open(path, os.O_WRONLY))  # let the reading thread end


SCRIPT = """
import asyncio, sys
from vqa_async.sources import open_source
async def main():
    async with open_source("-") as source:
        async with asyncio.timeout({timeout}):
            async for result in source:
                print(result.index, result.row["image"], repr(result.folder), flush=True)
try:
    asyncio.run(main())
except TimeoutError:
    print("left")
"""


def run_stdin(timeout, **options):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(timeout=timeout)], stdout=subprocess.PIPE, text=True, **options
    )


@pytest.mark.slow
@pytest.mark.parametrize("data", [LINES, ARRAY])
def test_standard_input_is_read_by_its_content(data, tmp_path):
    """Lines or an array; relative paths are looked for in the working directory."""
    (tmp_path / "in").write_bytes(data)
    with (tmp_path / "in").open("rb") as file, run_stdin(30, stdin=file) as process:
        out, _ = process.communicate(timeout=30)
    assert out.splitlines() == ["0 a.png ''", "1 b.png ''", "2 c.png ''"]
    assert process.returncode == 0


@pytest.mark.slow
def test_a_silent_standard_input_does_not_hold_up_the_end(tmp_path):
    """The process ends although nothing was ever written to its input and the writer stays."""
    with run_stdin(0.05, stdin=subprocess.PIPE) as process:
        assert process.stdout.read() == "left\n"
        assert process.wait(10) == 0


async def test_columns_and_prompt_reach_the_rows(tmp_path):
    """The settings of the input are those of its reader."""
    columns = Columns(image_key="picture", conversation_key="chat")
    (record,) = await read_bytes(tmp_path, b'{"picture": "a.png"}', columns=columns, prompt="What?")
    assert record.messages[0].parts[1] == "What?"
