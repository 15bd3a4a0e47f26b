"""The door for inputs: any file is read into records and failures, or refused with an InputError.

The first byte of an input chooses the name and the format; the second says how the bytes are cut into chunks,
or that a file is read as a run reads it; the rest is the content.
"""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from json_mutation import mutated

from vqa_async.config import Columns
from vqa_async.errors import InputError, RecordError
from vqa_async.journal.codec import decode_meta, encode_failure, encode_success
from vqa_async.journal.json_text import from_json
from vqa_async.models import Completion, Failure, Record, Success, Usage
from vqa_async.sources import RowReader, open_source
from vqa_async.sources.formats import InputFormat, file_format
from vqa_async.sources.json_values import JsonValues
from vqa_async.sources.jsonl import JsonLines

WAYS: tuple[tuple[str, InputFormat], ...] = (
    ("in.jsonl", "auto"),
    ("in.json", "auto"),
    ("in.txt", "auto"),
    ("in.json", "jsonl"),
    ("in.jsonl", "json"),
)
AS_A_RUN = 255
"""The second byte of inputs that go through a file."""

_ROWS = (
    b'{"id":"a","image":["a.png","b.png"],"conversation":[{"from":"human","value":"<image>\\nWhat?<image>"}]}',
    b'{"id":7,"image":"a.png","conversation":[{"role":"user","content":[{"type":"text","text":"What?"},'
    b'{"type":"image_url","image_url":{"url":"http://a/b.png"}}]},{"role":"assistant","content":"This"}]}',
    b'{"image":null,"conversation":"What?"}',
    b'{"image":"data:image/png;base64,AAAA","conversation":[{"from":"system","value":"s"}],"n":1e3}',
    b'{"a":12345678901234567890123,"image":[]}',
    b'["\\ud800",NaN]',
)
SEEDS = [
    b"\0\0" + b"\n".join(_ROWS),
    b"\0\3" + b"\r\n\n".join((*_ROWS[:3], *_ROWS[:3])),
    b"\1\7[" + b" ,\n".join(_ROWS) + b"]\n",
    b"\1\xff[" + b",".join(_ROWS[:2]) + b"]",
    b"\2\1" + b"".join(_ROWS),
    b"\2\0\xef\xbb\xbf" + _ROWS[0],
    b"\3\2" + _ROWS[0] + b'\n[1]\nnull\n3\n"x"',
    b"\4\0[{},[],null,1," + b"[" * 300 + b"]" * 300 + b"]",
    b"\1\0\xff\xfe[\0",
]
TOKENS = [
    *(b"id image conversation from human gpt value role user system content type text image_url url".split()),
    *(b'"id":"x" "id":"x-2" "image":"a.png" "conversation":"What?" [{" "}] {} [] , : " null'.split()),
    *(b"<image> data: http:// file:// \\ud800 \\u0000 \xef\xbb\xbf \xff\xfe \x1f\x8b PAR1 1e999 NaN".split()),
    *(b"12345678901234567890123 -0 0.1e5 [[[[[[[[ ]]]]]]]] {\"a\":{\"a\": \xe2\x80\xa8 \xf0\x9f".split()),
    b"\n", b"\r\n", b" ", b"\0",
]  # fmt: skip

MOST_BYTES = 2048
"""Longest input worth trying."""


def mutate(data: bytes, rng: random.Random) -> bytes | None:
    """Another input, JSON or lines of it if this is; None where it is not."""
    lines = data[2:].split(b"\n")
    at = rng.randrange(len(lines))
    line = mutated(lines[at].strip(b" ,\r"), rng)
    whole = b"" if line is None else b"\n".join([*lines[:at], line, *lines[at + 1 :]])
    content = whole or mutated(data[2:], rng)
    return None if content is None else data[:2] + content


def check(data: bytes) -> None:
    """Hold the reader of inputs to its promise.

    Raises:
        AssertionError: it broke it; so does any other exception.
    """
    way, cutting, content = data[0] if data else 0, data[1] if len(data) > 1 else 0, data[2:]
    name, asked = WAYS[way % len(WAYS)]
    if cutting == AS_A_RUN:
        with tempfile.TemporaryDirectory(prefix="vqa-door-", dir=_quick_folder()) as folder:
            path = os.path.join(folder, name)
            Path(path).write_bytes(content)
            results, refused = asyncio.run(read_file(path, asked))
    else:
        results, refused = read_chunks(content, name, asked, cutting)
    check_results(results, refused, name)


async def read_file(path: str, asked: InputFormat) -> tuple[list[Record | Failure], InputError | None]:
    """What a run gets of a file, and the error that ended it if one did."""
    results: list[Record | Failure] = []
    try:
        async with open_source(path, prompt="What?", format=asked, clock=lambda: 0.0) as source:
            async for result in source:
                results.append(result)
                assert 0.0 <= (source.fraction() or 0.0) <= 1.0
    except InputError as error:
        return results, error
    return results, None


def read_chunks(
    content: bytes, name: str, asked: InputFormat, cutting: int
) -> tuple[list[Record | Failure], InputError | None]:
    """The same without a file: the content in chunks of ``cutting`` bytes."""
    results: list[Record | Failure] = []
    rows = RowReader(Columns(), prompt="What?", clock=lambda: 0.0)
    try:
        content = content.removeprefix(b"\xef\xbb\xbf")
        form = file_format(content, name, asked)
        parser = JsonLines(name, rows) if form == "jsonl" else JsonValues(name, rows, array=form == "array")
        for chunk in _chunks(content, cutting):
            for result in parser.feed(chunk):
                results.append(result)  # noqa: PERF402 - as above
        for result in parser.end():
            results.append(result)  # noqa: PERF402
        assert parser.count == len(results)
        assert form != "array" or content.rstrip(b" \t\r\n").endswith(b"]"), (
            "an array that is cut off is refused"
        )
    except InputError as error:
        return results, error
    return results, None if results else InputError(f"{name} holds no records.")


def _chunks(content: bytes, size: int) -> Iterator[bytes]:
    size = size or max(1, len(content))
    return (content[at : at + size] for at in range(0, len(content), size))


def check_results(results: list[Record | Failure], refused: InputError | None, name: str) -> None:
    """Each row has an id and a place of its own, and could be written to an output."""
    assert results or refused is not None, "an input without records is refused"
    ids = [result.id for result in results]
    assert all(ids)
    assert len(set(ids)) == len(ids)
    for number, result in enumerate(results):
        record = result.record if isinstance(result, Failure) else result
        assert record.index == number
        if isinstance(result, Failure):
            assert isinstance(result.error, RecordError)
            assert result.error.message.startswith((f"{name} line ", f"{name} item "))
            assert not result.error.retryable
            assert result.attempts == 0
        else:
            assert record.messages
        _check_written(record)
    if refused is not None:
        assert refused.message.startswith(name)


_OUR_NAMES = ("vqa", "qa_pairs", "error", "_meta")


def _check_written(record: Record) -> None:
    """Whatever becomes of a row, its line is one line of strict JSON under its id, with the row unchanged."""
    success = Success(record, Completion("x", "m", "stop", Usage()), (), "http://e/v1", 1, 0.0, 0.0, "00")
    failure = Failure(record, RecordError("no"), 0, 0.0)
    for line in (encode_success(success, "vqa"), encode_failure(failure)):
        assert line.count(b"\n") == 1
        meta = decode_meta(line[:-1])
        assert meta is not None
        assert (meta.id, meta.position) == (record.id, record.index)
        written = from_json(line)
        assert all(written[key] == value for key, value in record.row.items() if key not in _OUR_NAMES)


def _quick_folder() -> str | None:
    return "/dev/shm" if os.path.isdir("/dev/shm") else None
