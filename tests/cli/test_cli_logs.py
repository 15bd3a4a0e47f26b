"""Log lines: a run's id in each, requests at level debug, and no key in any of them."""

from __future__ import annotations

import io
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from command_line import vqa_async as command
from rich.console import Console

from vqa_async import Config, ConfigError, arun, open_engine
from vqa_async.cli.logging import logged, louder
from vqa_async.config import Observability
from vqa_async.events import RunStopping
from vqa_async.logbook import elided, masked_headers
from vqa_async.logs import JsonLines, TextLines, named_run, run_id
from vqa_async.metrics import PrometheusObserver
from vqa_async.testing import FakeTransport, reply

KEY = "sk-canary-logs-0123456789"
ASK: dict[str, Any] = {"base_url": "http://a.invalid/v1", "model": "m"}


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def planted(tmp_path: Path, red_image: str) -> list[str]:
    """An input with an image and a URL that holds secrets, and flags that hold more."""
    rows = [
        {"image": red_image, "conversation": "Colour?"},
        {"image": f"https://user:{KEY}@images.invalid/a.png?sig={KEY}", "conversation": "Colour?"},
        {"image": "gone.png", "conversation": "Colour?"},
    ]
    (tmp_path / "in.json").write_text(json.dumps(rows))
    extra = {"metadata": {"api_key": "wordonlysecret", "note": f"{KEY}-note"}}
    names = ["--model", "looks-1", "--api-key-env", "MY_KEY", "--max-attempts", "1"]
    secrets = ["--header", f"X-Gateway: {KEY}-gateway", "--extra-body", json.dumps(extra)]
    return ["in.json", "-o", "out.jsonl", *names, *secrets]


@pytest.mark.slow
def test_a_debug_log_shows_requests_and_no_key(endpoint: str, red_image: str, tmp_path: Path) -> None:
    """Images elided, headers masked, the reply's start; the key is in nothing that was written or said."""
    arguments = [*planted(tmp_path, red_image), "--base-url", endpoint]
    told = ["--log-level", "debug", "--log-format", "json", "--log-file", "run.log", "--json"]
    done = command("run", *arguments, *told, cwd=tmp_path, env={"MY_KEY": KEY})
    assert done.returncode == 1, done.stderr
    text = (tmp_path / "run.log").read_text()
    for shown in (text, done.stdout, done.stderr):
        assert "wordonlysecret" not in shown
        assert shown.count(KEY) == 0
    assert "base64" not in text
    lines = lines_of(tmp_path / "run.log")
    summary = json.loads(done.stdout)
    assert {line["run"] for line in lines} == {summary["run_id"]} != {""}
    assert json.loads((tmp_path / "out.run.json").read_text())["run_id"] == summary["run_id"]
    assert all({"ts", "level", "logger", "run", "message"} <= line.keys() for line in lines)
    request = next(line for line in lines if line["message"] == "request" and "<image " in json.dumps(line))
    size = os.path.getsize(red_image)
    assert f"<image {size:,} bytes image/png>" in json.dumps(request["body"])
    assert request["headers"]["Authorization"] == "***"
    assert request["headers"]["X-Gateway"] == "***"
    answer = next(line for line in lines if line["message"] == "reply" and "/chat/" in line["url"])
    assert "choices" in answer["start"]
    messages = {line["message"] for line in lines}
    assert {"run started", "record answered", "record failed"} <= messages


@pytest.mark.slow
def test_text_lines_go_to_standard_error(endpoint: str, red_image: str, tmp_path: Path) -> None:
    """-v is info: events, but no request; a second run has another id."""
    arguments = [*planted(tmp_path, red_image)[3:], "--base-url", endpoint]
    done = command("run", "in.json", *arguments, "-v", "-o", "out.jsonl", cwd=tmp_path, env={"MY_KEY": KEY})
    assert "INFO" in done.stderr
    assert "run started output=" in done.stderr
    assert "WARNING" in done.stderr
    assert "DEBUG" not in done.stderr
    assert KEY not in done.stderr
    first = json.loads((tmp_path / "out.run.json").read_text())["run_id"]
    again = command(
        "run", "in.json", *arguments, "-vv", "--quiet", "-o", "other.jsonl", cwd=tmp_path, env={"MY_KEY": KEY}
    )
    assert "DEBUG" in again.stderr
    assert first not in again.stderr


def test_a_log_file_that_cannot_be_opened_is_one_sentence(tmp_path: Path) -> None:
    """Before anything is sent."""
    (tmp_path / "in.json").write_text('[{"conversation": "a?"}]')
    done = command(
        "run", "in.json", "-o", "out.jsonl", "--model", "m", "--log-file", "no/such/run.log", cwd=tmp_path
    )
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "vqa-async: The log file no/such/run.log cannot be opened: No such file or directory. "
        "Check --log-file."
    )


async def test_a_guest_hears_its_own_logger(caplog: pytest.LogCaptureFixture) -> None:
    """At level debug: events and requests, the key masked; in a stream each line has the id of its run."""
    transport = FakeTransport([reply(status=500, body=b'{"error": "x"}'), reply(f"echo {KEY}")])
    with caplog.at_level(logging.DEBUG, "vqa_async"):
        async with open_engine(**ASK, api_key=KEY, transport=transport, backoff_base=0.0) as engine:
            results = [result async for result in engine.stream([{"conversation": "a?"}])]
            assert run_id() == ""
            engine.stop()
    assert results[0].ok
    texts = [TextLines().format(record) for record in caplog.records]
    assert not [text for text in texts if KEY in text]
    runs = {getattr(r, "run", "") for r in caplog.records if r.getMessage() in ("request", "record answered")}
    assert len(runs) == 1
    assert runs != {""}
    assert any("attempt failed" in text and "error=" in text for text in texts)
    assert any("[removed]" in text for text in texts)


async def test_nothing_is_made_where_nobody_listens() -> None:
    """Without a logger at that level, the transport is the one that was given, and nobody observes."""
    transport = FakeTransport([reply()])
    async with open_engine(**ASK, api_key="", transport=transport) as engine:
        assert engine._transport is transport
        assert engine._observers == ()


async def test_log_options_are_refused_in_a_program() -> None:
    """It has a logging of its own; an option that did nothing would be a trap."""
    with pytest.raises(ConfigError, match="a program sets up the logger 'vqa_async'"):
        async with open_engine(**ASK, api_key="", log_level="debug"):
            pass


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"log_level": "loud"}, "log_level"),
        ({"log_format": "xml"}, "log_format"),
        ({"metrics_port": 70000}, "metrics_port"),
        ({"metrics_host": ""}, "metrics_host"),
    ],
)
async def test_options_that_cannot_work_are_named(options: dict[str, Any], word: str) -> None:
    """Before anything is opened."""
    with pytest.raises(ConfigError, match=word):
        async with open_engine(**ASK, api_key="", **options):
            pass


def test_a_line_is_one_line_with_its_facts_and_its_error() -> None:
    """Line breaks and controls of somebody's text stay inside; errors keep their traceback."""
    record = logging.LogRecord("vqa_async", logging.ERROR, "f", 1, "a\n%s", ("b\x1b[2J",), None)
    record.facts = {"n": 1, "text": "x\ny", "run": "not mine"}
    try:
        raise ValueError("broken")
    except ValueError as error:
        record.exc_info = (type(error), error, error.__traceback__)
    text = TextLines().format(record)
    assert "\n" not in text
    assert "\x1b" not in text
    assert "ValueError: broken" in text
    line = json.loads(JsonLines().format(record))
    assert (line["n"], line["run"], line["level"]) == (1, "", "error")
    assert "ValueError: broken" in line["exception"]


def test_what_is_shown_of_a_request() -> None:
    """Images by size, long texts by their start, secrets by name; parameters of the usual names stay."""
    body = {
        "max_tokens": 5,
        "stop": ["a", "b"],
        "password": "abc",
        "messages": [{"content": "x" * 3000}],
        "url": "data:image/jpeg;base64,QUJD",
        "link": "http://u:p@h/a?q=1",
        "plain": "http://h/a",
    }
    shown = elided(body)
    assert shown["max_tokens"] == 5
    assert shown["stop"] == ["a", "b"]
    assert shown["password"] == "***"
    assert shown["url"] == "<image 3 bytes image/jpeg>"
    assert (shown["link"], shown["plain"]) == ("http://h/a?...", "http://h/a")
    assert shown["messages"][0]["content"].endswith("(3,000 characters)")
    assert masked_headers({"Content-Type": "a/b", "Cookie": "x"}) == {"Content-Type": "a/b", "Cookie": "***"}


def test_a_run_within_a_run_has_its_name() -> None:
    """The stages of a command are one run to whoever reads its log."""
    with named_run() as outer, named_run() as inner:
        assert outer == inner == run_id()
    assert run_id() == ""


def test_a_log_that_cannot_be_written_is_said_once_and_ends_nothing(tmp_path: Path) -> None:
    """A full disk costs the log, not the run's logger."""
    console = Console(file=io.StringIO(), width=200)
    with logged(Config.of(log_file="/dev/full"), console) as config:
        assert config.observability == Observability()
        for n in range(3):
            logging.getLogger("vqa_async").info("line %d", n)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == "Note: the log /dev/full cannot be written.\n"


def test_lines_on_the_console_are_as_they_are(tmp_path: Path) -> None:
    """Brackets are no markup, nothing is wrapped, and a closed terminal ends nothing."""
    console = Console(file=io.StringIO(), width=20)
    with logged(Config.of(log_level="warning"), console):
        logging.getLogger("vqa_async.dataflow").warning("a [red]line[/] that is longer than the terminal")
        logging.getLogger("vqa_async").info("not this")
        assert isinstance(console.file, io.StringIO)
        text = console.file.getvalue()
        console.file.close()
        logging.getLogger("vqa_async").warning("nobody hears this")
    assert text.count("\n") == 1
    assert "a [red]line[/] that is longer" in text
    assert logging.getLogger("vqa_async").level == logging.NOTSET


@pytest.mark.parametrize(("verbose", "level"), [(0, None), (1, "info"), (2, "debug")])
def test_v_is_short_for_a_level(verbose: int, level: str | None) -> None:
    """A level that is named wins."""
    assert louder(Observability(), verbose).log_level == level
    assert louder(Observability(log_level="error"), verbose).log_level == "error"


async def test_a_stage_of_a_run_is_watched_by_the_same_observers(red_image: str, tmp_path: Path) -> None:
    """Generation and verification count in one registry, under one run id."""
    (tmp_path / "in.json").write_text(json.dumps([{"image": red_image, "conversation": "a?"}]))
    observer = PrometheusObserver()
    summary = await arun(
        str(tmp_path / "in.json"),
        str(tmp_path / "out.jsonl"),
        **ASK,
        api_key="",
        verify=True,
        metrics_port=0,
        observer=observer,
        transport=FakeTransport([reply()]),
    )
    assert observer.registry.get_sample_value("vqa_records_total", {"outcome": "succeeded"}) == 2
    assert summary.verification is not None
    assert summary.run_id == summary.verification.run_id != ""
    found = {json.loads(path.read_text())["run_id"] for path in tmp_path.glob("*.run.json")}
    assert found == {summary.run_id}


async def test_a_resumed_run_has_another_id_and_the_same_settings(tmp_path: Path) -> None:
    """Settings are compared without it."""
    (tmp_path / "in.json").write_text('[{"conversation": "a?"}]')
    ids = []
    for _ in range(2):
        async with open_engine(**ASK, api_key="", transport=FakeTransport([reply()])) as engine:
            ids.append((await engine.run(str(tmp_path / "in.json"), str(tmp_path / "out.jsonl"))).run_id)
    assert len(set(ids)) == 2


async def test_replies_that_are_no_json(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """A page of a proxy is shown by its start; a lowered limit and a stop are said once."""
    (tmp_path / "in.json").write_text('[{"conversation": "a?"}]')
    transport = FakeTransport([reply(status=502, body=b"<html>bad gateway</html>"), reply()])
    extra = {"top_p": 0.5, "note": f"{KEY} plain-words"}
    with caplog.at_level(logging.DEBUG, "vqa_async"):
        async with open_engine(
            base_url="https://a.invalid/v1",
            model="m",
            api_key="",
            transport=transport,
            backoff_base=0.0,
            extra_body=extra,
            insecure=True,
        ) as engine:
            await engine.run(str(tmp_path / "in.json"), str(tmp_path / "out.jsonl"))
            engine.notify(RunStopping(f"because of {KEY}", 0))
            logging.getLogger("vqa_async").setLevel(logging.INFO)
            await engine.generate({"conversation": "b?"})
    texts = [TextLines().format(record) for record in caplog.records]
    assert sum("TLS certificates are not verified" in text for text in texts) == 1
    assert any("<html>bad gateway</html>" in text for text in texts)
    assert sum("] request " in text for text in texts) == 2
    assert not [text for text in texts if KEY in text]
    assert any("plain-words" in text for text in texts)
    assert any("run stopping reason=" in text for text in texts)
