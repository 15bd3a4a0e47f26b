"""The frame on a terminal, a notebook's cell, and a run from Python that is shown."""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.text import Text

import vqa_async
from vqa_async.events import Event
from vqa_async.journal import survey
from vqa_async.journal.lock import locked, publish, published
from vqa_async.journal.paths import JournalPaths
from vqa_async.logs import named_run
from vqa_async.server import running_server
from vqa_async.watch import display
from vqa_async.watch.frame import Frame
from vqa_async.watch.notebook import notebook_cell
from vqa_async.watch.observed import observed
from vqa_async.watch.saying import say


def terminal(width: int = 40) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, height=20, color_system=None)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def line(text: str) -> Text:
    return Text(text, no_wrap=True, end="")


def test_a_frame_is_drawn_over_the_last_one_and_only_if_it_differs() -> None:
    """Nothing is blank in between; the same frame costs nothing; at the end it is gone."""
    console = terminal()
    with Frame(console) as frame:
        frame.draw([line("one"), line("two")])
        before = len(written(console))
        frame.draw([line("one"), line("two")])
        assert len(written(console)) == before
        frame.draw([line("one"), line("three")])
        assert written(console)[before:] == "\r\x1b[2Aone\x1b[0K\nthree\x1b[0K\n"
    assert written(console).endswith("\r\x1b[2K" + "\x1b[1A\x1b[2K" * 2 + "\x1b[?25h")


def test_what_is_said_stands_above_the_frame() -> None:
    """The frame is taken away before, and put back below."""
    console = terminal()
    with Frame(console) as frame:
        frame.draw([line("frame")])
        before = len(written(console))
        say(console, "Note.")
        assert written(console)[before:] == "\r\x1b[2K\x1b[1A\x1b[2KNote.\nframe\x1b[0K\n"


def test_a_terminal_that_got_narrower_has_broken_the_lines() -> None:
    """As many rows are erased as the old frame takes now."""
    console = terminal(40)
    with Frame(console) as frame:
        frame.draw([line("x" * 30)])
        before = len(written(console))
        console.width = 10
        frame.draw([line("y")])
        assert written(console)[before:].count("\x1b[1A") == 3


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a notebook's cell has shown, one after the other."""
    shown: list[str] = []
    handle = SimpleNamespace(update=shown.append)
    module = SimpleNamespace(HTML=str, display=lambda first, display_id: shown.append(first) or handle)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(display=module))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return shown


def test_a_notebook_gets_one_cell_that_is_replaced(cell: list[str]) -> None:
    """Shown, updated, and emptied at the end."""
    with notebook_cell() as show:
        show([line("a < b")])
    assert cell[0] == cell[2] == ""
    assert "a &lt; b" in cell[1]


async def test_a_notebook_shows_the_panel_while_a_run_goes_on(rows: Path, cell: list[str]) -> None:
    """And nothing of it is left when the run is over."""
    console = Console(file=io.StringIO(), force_jupyter=True)
    shown = display.Display(console, quiet=False)
    async with (
        running_server(latency=0.05, decode=False) as server,
        vqa_async.open_engine(
            base_url=server.base_url, model="looks-1", api_key_env="", max_workers=4, observer=shown
        ) as engine,
        shown.watching(engine),
    ):
        assert (await engine.run(str(rows), str(rows.with_name("out.jsonl")))).ok
    assert "Records" in cell[1]
    assert cell[-1] == ""


async def test_events_of_a_run_are_json_lines(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With progress now and then, in the form that the README tells; a failed attempt is among them."""
    monkeypatch.setattr(display, "PLAIN_EVERY_S", 0.05)
    console = Console(file=io.StringIO(), width=40)
    shown = display.Display(console, quiet=False, form="json")
    named = contextlib.ExitStack()
    named.enter_context(named_run())  # as the command does
    async with (
        running_server(latency=0.05, decode=False, error_rate=("503=0.2",), seed=3) as server,
        vqa_async.open_engine(
            **{"base_url": server.base_url, "model": "looks-1", "api_key_env": "", "max_workers": 4},
            backoff_base=0.01,
            observer=shown,
        ) as engine,
        shown.watching(engine),
    ):
        await engine.run(str(rows), str(rows.with_name("out.jsonl")))
    named.close()
    events = [json.loads(one) for one in written(console).splitlines()]
    assert {"run_started", "progress", "attempt_failed"} <= {one["event"] for one in events}
    assert len({one["run_id"] for one in events}) == 1
    assert re.fullmatch(r"[0-9a-f]{12}", events[0]["run_id"])
    attempt = next(one for one in events if one["event"] == "attempt_failed")
    assert (attempt["code"], attempt["retryable"]) == ("server_error", True)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"id": f"r{n}", "conversation": "Well?"}) + "\n" for n in range(40)))
    return path


@pytest.mark.parametrize("progress", [True, False])
async def test_a_run_from_python_is_shown_on_request(
    rows: Path, progress: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guest prints nothing unless it is asked to; then a line now and then on stderr."""
    monkeypatch.setattr(display, "PLAIN_EVERY_S", 0.05)
    monkeypatch.setattr(display, "PUBLISH_EVERY_S", 0.05)
    events: list[Event] = []
    observer = SimpleNamespace(on_event=events.append)
    async with running_server(latency=0.05, decode=False) as server:
        summary = await vqa_async.arun(
            str(rows),
            str(rows.with_name("out.jsonl")),
            base_url=server.base_url,
            model="looks-1",
            api_key_env="",
            max_workers=4,
            observer=observer,
            progress=progress,
        )
    assert summary.ok
    assert len(events) >= 41
    out, err = capsys.readouterr()
    assert out == ""
    assert (" left=" in err and err.startswith("progress ")) if progress else err == ""


# --- seen from another process --------------------------------------------------------------------------


def test_what_a_run_publishes_is_read_while_it_holds_the_lock(tmp_path: Path) -> None:
    """Afterwards it is out of date, and nothing."""
    lock, output = tmp_path / "o.lock", tmp_path / "o"
    assert published(lock) == {}
    with locked(lock, output):
        assert published(lock) == {}
        publish(lock, {"done": 3})
        assert published(lock)["done"] == 3
        lock.write_text("12\n{half")
        assert published(lock) == {}
        publish(lock, {"done": 3})
    assert published(lock) == {}


async def test_a_run_that_publishes_nothing_is_seen_by_its_answers(rows: Path) -> None:
    """Rates and time left from the times in the file; what only the run knows is left out."""
    output = rows.with_name("out.jsonl")
    async with running_server(decode=False) as server:
        await vqa_async.arun(
            str(rows), str(output), base_url=server.base_url, model="looks-1", api_key_env=""
        )
    found = survey(JournalPaths.of(output))
    assert len(found.finished_at) == found.since_start == 40
    now = found.run["started_at"] + 20.0
    s = observed(found, 60, now=now, title="out.jsonl")
    assert (s.done, s.left, s.in_flight) == (40, 60, None)
    assert s.speed.overall == pytest.approx(2.0)
    assert s.time_left is not None
    assert s.time_left.low_s < 30
    assert s.endpoints[0].answered == 40
    assert observed(found, None, now=now, title="").left is None
    del found.run["started_at"]
    assert observed(found, 60, now=now, title="").time_left is None
