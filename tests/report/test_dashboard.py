"""The live page of a run: what it shows, to whom, and that nothing of it is left behind."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from chromium import CHROMIUM, browser
from report_outputs import ASK, answered, failed, picture

from vqa_async import open_engine
from vqa_async.cli.app import _bare
from vqa_async.dashboard import Dashboard
from vqa_async.dashboard.view import View, _left
from vqa_async.dashboard.watcher import Watcher
from vqa_async.errors import ConfigError, RateLimited
from vqa_async.events import Notice, RecordFinished, RunStarted, RunStatistics, RunStopping
from vqa_async.models import AttemptFailed
from vqa_async.server import running_server


async def get(url: str, **headers: str) -> tuple[int, dict[str, str], str]:
    """Status, headers and text of a reply."""
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as reply:
        return reply.status, dict(reply.headers), await reply.text()


async def state(board: Dashboard) -> dict[str, Any]:
    """What the page is told."""
    return json.loads((await get(f"{board.url}state.json"))[2])  # type: ignore[no-any-return]


def rows(folder: Path, count: int) -> Path:
    """An input with an image, a broken record, and questions without images."""
    picture(folder / "red.png")
    first = [
        {"id": "i", "image": ["red.png"], "conversation": ASK},
        {"id": "bad", "image": ["no.png"], "conversation": "?"},
    ]
    rest = [{"id": f"r{n}", "conversation": "What comes after?"} for n in range(count - 2)]
    path = folder / "in.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in first + rest))
    return path


async def test_a_run_is_shown_and_taken_up_again(tmp_path: Path, no_leaks: Callable[[], None]) -> None:
    """Counts, plots, the latest answers; after a resume also what was answered before; nothing stays."""
    source, output = rows(tmp_path, 12), str(tmp_path / "out.jsonl")
    for before in (0, 11):
        async with running_server() as server, Dashboard() as board:
            options = {"base_url": server.base_url, "model": "looks-1", "max_workers": 2}
            assert (await state(board))["state"] == "starting"
            async with open_engine(observer=board, **options) as engine, board.watching(engine):
                await engine.run(str(source), output)
                board._view._made_at = -1e9  # instead of waiting until it is looked at anew
                told = await state(board)
            assert told["state"] == "running"
            assert told["output"] == output
            if not before:
                assert '<b>11</b><span title="in this run">' in told["figures"]
                assert "1 file_not_found" in told["figures"]
                assert told["latest"].count('<article class="answer">') == 6
                assert "text alone" in told["latest"]
            else:
                assert '<b>0</b><span title="11 before">' in told["figures"]
                assert "No answer yet." in told["latest"]
            board._asked_at = -1e9  # nobody looks on, so the end waits for nobody
    no_leaks()


async def test_images_of_answers_stand_in_its_state(tmp_path: Path) -> None:
    """As data, each made once; what cannot be shown is a word in its place."""
    name = picture(tmp_path / "red.png")
    from dataclasses import replace

    from vqa_async.models import ImageRef, Message

    async with Dashboard() as board:
        for n, ref in enumerate((str(tmp_path / name), "gone.png")):
            success = answered(n, {"id": f"r{n}"}, [("<i>q</i>", "a", ("length",))])
            message = Message("user", (ImageRef("path", ref), "?"))
            board.on_event(
                RecordFinished(replace(success, record=replace(success.record, messages=(message,))))
            )
        latest = (await state(board))["latest"]
        assert latest.count('src="data:image/jpeg;base64,') == 1
        assert "no image to show" in latest
        assert "&lt;i&gt;q&lt;/i&gt;" in latest
        assert '<span class="chip warn">length</span>' in latest
        board._asked_at = -1e9


async def test_every_event_is_told(tmp_path: Path) -> None:
    """Failures with their sentence, notices, retries, and why a run ends early; texts escaped."""
    async with Dashboard() as board:
        board.on_event(RunStarted(str(tmp_path / "o.jsonl"), 3))
        board.on_event(RecordFinished(failed(0, {"id": "<b>"})))
        board.on_event(AttemptFailed("x", RateLimited("Too many.", status=429), 1, 0.1))
        board.on_event(Notice("A <i>notice</i>\0"))
        board.on_event(RunStopping("Interrupted by SIGINT", 4))
        told = await state(board)
        assert told["state"] == "stopping"
        assert told["said"] == "Interrupted by SIGINT – waiting for what is in flight."
        assert "&lt;b&gt;" in told["latest"]
        assert "was not found" in told["latest"]
        assert "A &lt;i&gt;notice&lt;/i&gt;\\u0000" in told["latest"]
        assert board._watcher.figures.repeated == 1
        board._asked_at = -1e9


async def test_only_who_has_the_address_sees_it() -> None:
    """Without the secret there is nothing, by another name than ours nobody; nothing is kept or framed."""
    async with Dashboard() as board:
        port, token = board._doorman.port, board._doorman.token
        assert len(token) >= 32
        root = f"http://127.0.0.1:{port}"
        wrong = [f"{root}/", f"{root}/{token[:-1]}/", f"{root}/{token}x/state.json", f"{root}/%F0%9F%98%80/"]
        for url in [*wrong, f"{root}/{token}", f"{root}/state.json", f"{root}/{token}/../state.json"]:
            assert (await get(url))[0] == 404, url
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}", "[::", ""):
            assert (await get(board.url, Host=host))[0] == 421, host
        status, headers, text = await get(board.url, Host=f"localhost:{port}")
        assert status == 200
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert token not in text
        assert "connect-src &#39;self&#39;;" in text
        async with aiohttp.ClientSession() as session, session.post(board.url) as reply:
            assert reply.status == 405


async def test_it_listens_on_the_loopback_alone() -> None:
    """Whatever the machine's other addresses are."""
    async with Dashboard() as board:
        assert board._runner is not None
        assert [address[0] for address in board._runner.addresses] == ["127.0.0.1"]


async def test_a_port_that_cannot_be_had_is_refused_in_a_sentence(no_leaks: Callable[[], None]) -> None:
    """Before anything is sent."""
    async with Dashboard() as board:
        with pytest.raises(ConfigError, match=r"port \d+: address already in use\. Give another port"):
            async with Dashboard(board._doorman.port):
                pass
    with pytest.raises(ConfigError, match="is no port"):
        async with Dashboard(70_000):
            pass
    no_leaks()


async def test_the_end_waits_for_a_page_that_looks_on() -> None:
    """So that it shows the last figures; once it has them, or after a while, the end comes."""
    async with asyncio.timeout(5):
        async with Dashboard() as board:
            await state(board)
            leaving = asyncio.get_running_loop().create_future()

            async def look() -> None:
                while not (await state(board))["over"]:
                    await asyncio.sleep(0)
                leaving.set_result(True)

            task = asyncio.create_task(look())
        await task
        assert leaving.result()


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (["run", "in", "--dashboard"], ["run", "in", "--dashboard=0"]),
        (["run", "--dashboard", "in"], ["run", "--dashboard=0", "in"]),
        (["run", "--dashboard", "8080", "in"], ["run", "--dashboard", "8080", "in"]),
        (["run", "--dashboard=8080", "in"], ["run", "--dashboard=8080", "in"]),
        (["run", "--dashboard", "-o", "x"], ["run", "--dashboard=0", "-o", "x"]),
        (["run", "--dashboard", "--", "80"], ["run", "--dashboard=0", "--", "80"]),
    ],
)
def test_the_port_may_be_left_out(given: list[str], taken: list[str]) -> None:
    """A number behind the flag is its value, all else is not."""
    assert _bare(given) == taken


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium")
async def test_a_browser_looks_on_to_the_end(tmp_path: Path) -> None:
    """The address is said on stderr, stdout has the results alone; the page follows the run to its end."""
    source = rows(tmp_path, 40)
    async with running_server(latency=0.1) as server, browser(tmp_path / "browser") as tab:
        run = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "vqa_async", "run", str(source), "-o", "out.jsonl", "--dashboard"),
            *("--base-url", server.base_url, "--model", "looks-1", "--max-workers", "2", "-q"),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert run.stdout is not None
        assert run.stderr is not None
        said = (await run.stderr.readline()).decode()
        found = re.fullmatch(r"Dashboard: (http://127\.0\.0\.1:\d+/[\w-]{32,}/)\n", said)
        assert found, said
        await tab.go(found[1])
        await tab.wait("document.querySelector('.answer')")
        await tab.wait("document.getElementById('state').textContent === 'over'")
        assert "39" in await tab.run("document.querySelector('.tile b').textContent")
        assert await tab.run("document.querySelector('.failure b').textContent") == "file_not_found"
        out, _ = await run.communicate()
        assert run.returncode == 1
        assert [Path(line).name for line in out.decode().splitlines()] == ["out.jsonl", "out.failures.jsonl"]
        assert {url.removesuffix("state.json") for url in tab.requests()} == {found[1]}
        assert tab.complaints() == []


def test_what_is_left_is_said_with_what_is_known() -> None:
    """Nothing before the input was looked at; about so many while it is read; how long, given a rate."""
    assert _left(RunStatistics(), 3.0) == []
    (about,) = _left(RunStatistics(succeeded=10, expected=110), 2.0)
    assert (about.value, about.note) == ("~100", "about 50 s to go")
    (exact,) = _left(RunStatistics(succeeded=10, expected=10, expected_is_exact=True), 2.0)
    assert (exact.value, exact.note) == ("0", "all asked")


async def test_parts_are_made_once_a_second_and_rates_over_ten() -> None:
    """However many look; another engine, which counts from the start again, has a rate of its own."""
    view = View(Watcher())
    first = await view.parts(RunStatistics(succeeded=0), 100.0, is_over=False)
    assert await view.parts(RunStatistics(succeeded=50), 100.5, is_over=False) is first
    for second in range(1, 14):
        told = await view.parts(RunStatistics(succeeded=second * 10), 100.0 + second, is_over=False)
    assert "<b>10/s</b>" in told["figures"]
    told = await view.parts(RunStatistics(succeeded=4, elapsed_s=2.0), 114.0, is_over=False)
    assert "<b>2/s</b>" in told["figures"]
    assert (await view.parts(RunStatistics(), 114.1, is_over=True))["state"] == "over"
