"""Exports and hints after the input has changed between runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vqa_async import open_engine
from vqa_async.cli.app import run_command
from vqa_async.testing import FakeTransport, reply

ASK = {"base_url": "http://test.invalid/v1", "model": "m", "api_key": ""}


def row(name: str) -> dict[str, Any]:
    return {"name": name, "conversation": [{"from": "human", "value": f"Question {name}"}]}


async def answer(folder: Path, names: str, failing: bool = False) -> None:
    """Answer rows of these names, from an input that is written anew each time, into one output."""
    (folder / "in.jsonl").write_text("".join(json.dumps(row(name)) + "\n" for name in names))
    answers = [reply(status=400, body=b'{"error":"no"}')] if failing else [reply()]
    async with open_engine(**ASK, transport=FakeTransport(answers)) as engine:
        await engine.run(str(folder / "in.jsonl"), str(folder / "out.jsonl"))


async def test_an_export_follows_the_order_that_the_input_has_now(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Reordered and extended between runs: the export is in the order of the last input."""
    await answer(tmp_path, "abcd")
    await answer(tmp_path, "dxbacy")
    assert run_command(["export", str(tmp_path / "out.jsonl"), "-o", str(tmp_path / "o.json")]) == 0
    names = [line["name"] for line in json.loads((tmp_path / "o.json").read_text())]
    assert names == list("dxbacy")
    assert "6 answers, in input order." in capfd.readouterr().err


async def test_answers_to_rows_that_left_the_input_come_last_and_are_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing that was paid for is dropped without a word."""
    await answer(tmp_path, "abcd")
    await answer(tmp_path, "db")
    run_command(["export", str(tmp_path / "out.jsonl"), "-o", str(tmp_path / "o.json")])
    names = [line["name"] for line in json.loads((tmp_path / "o.json").read_text())]
    assert names == list("dbac")
    assert "The last 2 of them are not in the last input" in capfd.readouterr().err


async def test_an_export_works_when_the_input_is_gone(tmp_path: Path) -> None:
    """Then the order is the one in which the records stood when they were asked."""
    await answer(tmp_path, "abcd")
    (tmp_path / "in.jsonl").unlink()
    assert run_command(["export", str(tmp_path / "out.jsonl"), "-o", str(tmp_path / "o.jsonl")]) == 0
    lines = (tmp_path / "o.jsonl").read_text().splitlines()
    assert [json.loads(line)["name"] for line in lines] == list("abcd")


async def test_status_counts_the_whole_input_and_names_the_limit_of_the_run(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial run with --limit is finished, and what it left out is still left, wherever one looks from."""
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row(name)) + "\n" for name in "abcde"))
    monkeypatch.chdir(tmp_path)
    async with open_engine(**ASK, transport=FakeTransport([reply()])) as engine:
        await engine.run("in.jsonl", "out.jsonl", limit=2)
    monkeypatch.chdir("/")
    assert run_command(["status", str(tmp_path / "out.jsonl"), "--json"]) == 0
    facts = json.loads(capfd.readouterr().out)
    assert (facts["done"], facts["left"]) == (2, 3)
    run_command(["status", str(tmp_path / "out.jsonl")])
    assert "3 (the last run took only the first 2)" in capfd.readouterr().out


async def test_integers_beyond_64_bit_pass_through_as_they_are(tmp_path: Path) -> None:
    """A row's own numbers are its own, whatever their length."""
    number = 123456789012345678901234567890
    item = {"n": number, "m": [18446744073709551616], **row("a")}
    (tmp_path / "in.jsonl").write_text(json.dumps(item) + "\n")
    async with open_engine(**ASK, transport=FakeTransport([reply()])) as engine:
        await engine.run(str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"))
    line = json.loads((tmp_path / "out.jsonl").read_text())
    assert (line["n"], line["m"]) == (number, [18446744073709551616])
