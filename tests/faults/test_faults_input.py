"""Inputs that people really have: D of the fault matrix, through whole runs."""

from __future__ import annotations

import asyncio
import json
import lzma
import os
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from command_line import serving, vqa_async, write_records
from wire import asked

from vqa_async import RunSummary, open_engine
from vqa_async.errors import ConfigError, InputError
from vqa_async.testing import FakeTransport, reply
from vqa_async.transport import Request, Response

ASK: dict[str, Any] = {"base_url": "http://test.invalid/v1", "model": "m", "api_key": ""}


def echo(request: Request) -> Response:
    return reply(f"answer to {asked(b''.join(request.body))}")


async def run(folder: Path, data: bytes, name: str = "in.jsonl", **options: Any) -> RunSummary:
    """A run over ``data``, into out.jsonl beside it."""
    (folder / name).write_bytes(data)
    async with open_engine(**ASK, transport=FakeTransport(echo), **options) as engine:
        return await engine.run(str(folder / name), str(folder / "out.jsonl"))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] if path.exists() else []


def good(n: int) -> bytes:
    return json.dumps({"id": f"r{n}", "conversation": f"question {n}"}).encode()


# --- D1, D2: text files ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + b"\n".join(map(good, range(4))),
        b"\r\n".join(map(good, range(4))) + b"\r\n",
        b"\n\n \r\n".join(map(good, range(4))) + b"\n\n",
        b"\xef\xbb\xbf[" + b",\r\n".join(map(good, range(4))) + b"]\r\n",
    ],
    ids=["byte order mark", "CRLF", "blank lines", "array with a byte order mark"],
)
async def test_text_files_of_every_system_hold_the_same_records(tmp_path: Path, data: bytes) -> None:
    """A byte order mark, CRLF, blank lines, no last newline: the same four records, the same four answers."""
    summary = await run(tmp_path, data, "in.json" if b"[" in data else "in.jsonl")
    assert summary.ok
    assert sorted(line["vqa"] for line in lines(tmp_path / "out.jsonl")) == [
        f"answer to question {n}" for n in range(4)
    ]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
async def test_utf_16_is_refused_in_a_sentence(tmp_path: Path, encoding: str) -> None:
    """UTF-16, as Windows saves it: refused before anything is sent, with what to do."""
    with pytest.raises(InputError, match="UTF-") as caught:
        await run(tmp_path, good(1).decode().encode(encoding))
    assert "save it as UTF-8" in str(caught.value)
    assert not (tmp_path / "out.jsonl").exists() or (tmp_path / "out.jsonl").read_bytes() == b""


# --- D3, D4, D5, D9: bad rows ----------------------------------------------------------------------------

BAD: dict[str, bytes] = {
    "NaN": b'{"conversation": "x", "a": NaN}',
    "Infinity": b'{"conversation": "x", "a": -Infinity}',
    "1e999": b'{"conversation": "x", "a": 1e999}',
    "100,000 levels": b'{"a": ' + b"[" * 100_000,
    "100,000 closed levels": b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "300 levels": b'{"conversation": "x", "a": ' + b"[" * 300 + b"]" * 300 + b"}",
    "not UTF-8": b'{"conversation": "\xff\xfe"}',
    "half a surrogate pair": b'{"conversation": "\\ud800"}',
    "NUL": b'{"conversation": "a\0b"}',
    "not closed": b'{"conversation": "x"',
    "two in a line": b'{"conversation": "x"} {"conversation": "y"}',
    "text": b"hello",
    "number": b"42",
    "list": b'[{"conversation": "x"}]',
    "null": b"null",
    "no conversation": b'{"image": []}',
    "conversation null": b'{"conversation": null}',
    "conversation of numbers": b'{"conversation": [1, 2]}',
    "conversation empty": b'{"conversation": []}',
    "turn without text": b'{"conversation": [{"from": "human"}]}',
    "turn of nobody": b'{"conversation": [{"from": "nobody", "value": "x"}]}',
    "text of a number": b'{"conversation": [{"from": "human", "value": 7}]}',
    "image an object": b'{"image": {"path": "a"}, "conversation": "x"}',
    "image of images": b'{"image": [["a.png"]], "conversation": "x"}',
    "image null in a list": b'{"image": [null], "conversation": "x"}',
    "image true": b'{"image": true, "conversation": "x"}',
    "id a list": b'{"id": ["x"], "conversation": "x"}',
    "id a fraction": b'{"id": 1.5, "conversation": "x"}',
}


async def test_each_bad_row_is_one_failure_with_its_line(tmp_path: Path) -> None:
    """Rows that are no JSON, no records, too deep, of the wrong types: each one failure that names its line;
    the good rows between them are answered; nothing is sent for the bad ones."""
    rows: list[bytes] = []
    for n, bad in enumerate(BAD.values()):
        rows += [good(n), bad]
    transport = FakeTransport(echo)
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(rows))
    async with open_engine(**ASK, transport=transport) as engine:
        summary = await engine.run(str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"))
    assert (summary.state, summary.statistics.succeeded) == ("finished", len(BAD))
    assert len(transport.requests) == len(BAD)
    failed = {line["_meta"]["index"]: line["error"] for line in lines(tmp_path / "out.failures.jsonl")}
    assert sorted(failed) == [2 * n + 1 for n in range(len(BAD))]
    for n, name in enumerate(BAD):
        error = failed[2 * n + 1]
        assert re.search(rf"\bline {2 * n + 2}\b|\brecord {2 * n + 1}\b", error["message"]), (name, error)
        assert (error["attempts"], error["retryable"]) == (0, False), name
        assert error["message"].isprintable(), name


async def test_one_bad_line_among_many_costs_only_itself(tmp_path: Path) -> None:
    """One bad line among 3,000: one failure, with its number, the others answered."""
    rows = [good(n) for n in range(3_000)]
    rows[2_344] = b'{"conversation": '
    summary = await run(tmp_path, b"\n".join(rows), max_workers=100, fsync="never")
    assert (summary.statistics.succeeded, summary.statistics.failed) == (2_999, 1)
    [failed] = lines(tmp_path / "out.failures.jsonl")
    assert "line 2345" in failed["error"]["message"]


# --- D6: large arrays ------------------------------------------------------------------------------------


async def test_first_record_of_a_large_array_is_sent_at_once(tmp_path: Path) -> None:
    """A JSON array of 60 MB: read as it goes, so the first request leaves long before its end is read."""
    item = json.dumps({"conversation": "question", "padding": "x" * 600}).encode()
    (tmp_path / "in.json").write_bytes(b"[" + b",\n".join([item] * 90_000) + b"]")
    began = time.monotonic()
    first = asyncio.Event()

    def answer(request: Request) -> Response:
        first.set()
        return reply("yes")

    async with open_engine(**ASK, transport=FakeTransport(answer)) as engine:
        run = asyncio.create_task(engine.run(str(tmp_path / "in.json"), str(tmp_path / "out.jsonl")))
        async with asyncio.timeout(2):
            await first.wait()
        took_s = time.monotonic() - began
        engine.stop()
        await run
    assert took_s < 1


# --- D8: the same twice ----------------------------------------------------------------------------------


async def test_repeats_are_kept_and_an_id_for_two_contents_is_refused(tmp_path: Path) -> None:
    """The same row twice is two records; an id that stands for two different rows is a failure for the
    second, and the first keeps it; in the next run too."""
    rows = [
        {"conversation": "twice"},
        {"conversation": "twice"},
        {"id": "a", "conversation": "one"},
        {"id": "a", "conversation": "other"},
    ]
    data = b"\n".join(json.dumps(row).encode() for row in rows)
    for _ in range(2):
        summary = await run(tmp_path, data)
        answers = [line["vqa"] for line in lines(tmp_path / "out.jsonl")]
        assert sorted(answers) == ["answer to one", "answer to twice", "answer to twice"]
        [failed] = lines(tmp_path / "out.failures.jsonl")
        assert failed["conversation"] == "other"
    assert summary.statistics.skipped == 4


# --- D10: texts of the world -----------------------------------------------------------------------------

NAUGHTY = [
    "",
    " ",
    "undefined",
    "null",
    "NaN",
    "1;DROP TABLE users",
    "<script>alert(1)</script>",
    "${jndi:ldap://x}",
    "%s%s%s%n",
    "../../../etc/passwd",
    "\u2028\u2029\u0085\x1c\x1d\x1e",
    "\ufeff\u200b\u2060",
    "\u202e\u2066reversed",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1fa\U0001f1f8",
    "\u0628\u0633\u0645 \u0627\u0644\u0644\u0647 \u05e2\u05d1\u05e8",
    "Z\u0351\u036b\u0343\u036a\u0302a\u0300l\u0320g\u0316o\u0317",
    "\x1b[2J\x07\x08\x7f",
    "\ufdd0\uffff\U0010ffff",
    "\\\"'`\r\n\t",
    "\u7530\u4e2d\u3055\u3093 \u548c\u88fd\u6f22\u8a9e",
    "\u1d70\u02b0\u1d49 q\u1d58\u2071ck",
    "<image",
    "{{7*7}}{% raw %}",
]


async def test_texts_of_every_kind_come_back_as_they_were(tmp_path: Path) -> None:
    """Emojis, right-to-left, line separators, controls, injections, in fields, questions and answers: equal
    after a run, one physical line each, and found again by the next run."""
    rows = [{"note": text, text: n, "conversation": f"Read: {text}"} for n, text in enumerate(NAUGHTY)]
    data = b"\n".join(json.dumps(row).encode() for row in rows)
    assert (await run(tmp_path, data)).ok
    raw = (tmp_path / "out.jsonl").read_bytes()
    assert raw.count(b"\n") == len(NAUGHTY)
    found = {line["_meta"]["index"]: line for line in lines(tmp_path / "out.jsonl")}
    for n, text in enumerate(NAUGHTY):
        assert found[n]["note"] == text
        assert found[n][text] == n
        assert found[n]["vqa"] == f"answer to Read: {text}"
    again = await run(tmp_path, data)
    assert again.statistics.skipped == len(NAUGHTY)


# --- D11: JSON that is nearly JSON -----------------------------------------------------------------------

SUITE_YES = [
    b'{"a":"b","a":"c"}',
    b'{"a":-0,"b":1E22,"c":-1.5e-2}',
    b'{"":0,"\\u0000":"\\u0000"}',
    b'{"a":"\\ud83d\\ude00\\u00e9\\/"}',
    b' \t{"a":[ ]} ',
    b'{"a":"\x7f"}',
    b'{"a":[[[[]]]]}',
    '{"\u20ac\U0001d11e":"\u2028"}'.encode(),
]
SUITE_NO = [
    b'{"a":01}',
    b'{"a":+1}',
    b'{"a":.5}',
    b'{"a":1.}',
    b'{"a":0x1}',
    b"{'a':1}",
    b"{a:1}",
    b'{"a":1,}',
    b'{"a" 1}',
    b'{"a":tru}',
    b'{"a":"\t"}',
    b'{"a":"\\x41"}',
    b'{"a":"\\uD8"}',
    b'{"a":1}}',
    b'{"a":[1,,2]}',
    b'{"a":/*c*/1}',
    b'{"a":1}#c',
    b"\xef\xbb\xbf{",
    b'{"a":\xc0\xaf}',
    b'{"a":"\xed\xa0\x80"}',
    b"[",
    b"{",
    b'"',
    b"\\u000a",
    "\u2060{}".encode(),
    b'{"a":Infinity}',
    b'{"a":1eE2}',
    b'{"a":"' + b"\\",
]


async def test_what_is_json_is_a_row_and_what_is_not_is_a_failure(tmp_path: Path) -> None:
    """Lines as in JSONTestSuite: those that are JSON are records, those that are not are failures, none is a
    crash."""
    summary = await run(tmp_path, good(0) + b"\n" + b"\n".join(SUITE_YES), prompt="What?")
    assert summary.statistics.succeeded == 1 + len(SUITE_YES), lines(tmp_path / "out.failures.jsonl")
    (tmp_path / "no").mkdir()
    summary = await run(tmp_path / "no", good(0) + b"\n" + b"\n".join(SUITE_NO), prompt="What?")
    assert (summary.statistics.succeeded, summary.statistics.failed) == (1, len(SUITE_NO))


# --- D12, D13, D14: files that move and settings that change ---------------------------------------------


async def test_input_that_is_deleted_or_replaced_in_the_middle_is_read_to_its_end(tmp_path: Path) -> None:
    """The input is deleted, or another file takes its name, while it is read: the run finishes the one that
    it has opened."""
    data = b"\n".join(
        json.dumps({"conversation": f"question {n}", "pad": "x" * 900}).encode() for n in range(3000)
    )
    (tmp_path / "in.jsonl").write_bytes(data)
    seen = 0

    def answer(request: Request) -> Response:
        nonlocal seen
        seen += 1
        if seen == 5:
            (tmp_path / "other").write_bytes(good(1))
            (tmp_path / "other").replace(tmp_path / "in.jsonl")
        return echo(request)

    async with open_engine(**ASK, transport=FakeTransport(answer), max_workers=4) as engine:
        summary = await engine.run(str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"))
    assert summary.ok
    assert summary.statistics.succeeded == 3000


async def test_input_that_shrinks_in_the_middle_ends_in_a_sentence(tmp_path: Path) -> None:
    """The input is cut off while it is read: what was read is answered, and no more than the torn line
    fails."""
    data = b"\n".join(
        json.dumps({"conversation": f"question {n}", "pad": "x" * 900}).encode() for n in range(3000)
    )
    (tmp_path / "in.jsonl").write_bytes(data)
    seen = 0

    def answer(request: Request) -> Response:
        nonlocal seen
        seen += 1
        if seen == 5:
            os.truncate(tmp_path / "in.jsonl", len(data) - 400_000)
        return echo(request)

    async with open_engine(**ASK, transport=FakeTransport(answer), max_workers=4) as engine:
        summary = await engine.run(str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"))
    assert summary.statistics.failed <= 1
    assert 2000 < summary.statistics.succeeded < 3000


async def test_inputs_that_are_none_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    """An empty file, one that is packed, a folder without images, the output itself: refused in one sentence,
    no request, the output as it was."""
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "packed.jsonl").write_bytes(lzma.compress(good(1)))
    (tmp_path / "folder").mkdir()
    (tmp_path / "out.jsonl").write_bytes(good(1) + b"\n")
    transport = FakeTransport(echo)
    for name in ("empty.jsonl", "packed.jsonl", "folder", "./out.jsonl"):
        async with open_engine(**ASK, transport=transport) as engine:
            output = tmp_path / ("out.jsonl" if "out" in name else "new.jsonl")
            with pytest.raises(ConfigError) as caught:
                await engine.run(str(tmp_path / name), str(output))
        assert "\n" not in str(caught.value)
    assert transport.requests == []
    assert (tmp_path / "out.jsonl").read_bytes() == good(1) + b"\n"


async def test_input_that_was_reordered_thinned_and_extended_asks_only_what_is_new(tmp_path: Path) -> None:
    """Between two runs rows are moved, taken out and added: only the added ones are asked."""
    first = [json.dumps({"conversation": f"question {n}"}).encode() for n in range(20)]
    assert (await run(tmp_path, b"\n".join(first))).ok
    second = [*reversed(first[5:]), json.dumps({"conversation": "question 99"}).encode()]
    summary = await run(tmp_path, b"\n".join(second))
    assert (summary.statistics.succeeded, summary.statistics.skipped) == (1, 15)
    answers = Counter(line["vqa"] for line in lines(tmp_path / "out.jsonl"))
    assert len(answers) == answers.total() == 21


@pytest.mark.slow
def test_other_settings_for_the_same_output_are_refused_by_the_command(tmp_path: Path) -> None:
    """Another model or temperature for an output that has answers: exit 2, the difference named, nothing
    sent."""
    write_records(tmp_path / "in.jsonl", 3)
    with serving("--no-decode") as url:
        command = ("run", "in.jsonl", "-o", "out.jsonl", "--base-url", url, "--model")
        assert vqa_async(*command, "looks-1", "--limit", "2", cwd=tmp_path).returncode == 0
        before = (tmp_path / "out.jsonl").read_bytes()
        done = vqa_async(*command, "looks-1", "--temperature", "0.7", cwd=tmp_path)
        assert done.returncode == 2
        assert "temperature" in done.stderr
        assert "--allow-changed-settings" in done.stderr
        assert (tmp_path / "out.jsonl").read_bytes() == before
