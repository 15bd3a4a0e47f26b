"""The doors for Python: options, what a guest may not do, and use inside another service."""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

import vqa_async
from vqa_async import Config, ConfigError, Success, open_engine
from vqa_async.config import Endpoint, option_classes, option_groups
from vqa_async.server import RunningServer, running_server
from vqa_async.testing import FakeTransport, reply

ROW = {"conversation": [{"from": "human", "value": "What?"}]}


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running_server() as running:
        yield running


# --- options -------------------------------------------------------------------------------------------


def test_an_unknown_option_names_the_nearest() -> None:
    """A misspelt option is refused with the one that was meant."""
    with pytest.raises(ConfigError, match="Did you mean 'max_workers'"):
        Config.of(max_worker=3)


def test_no_two_groups_share_an_option() -> None:
    """Flags, TOML keys and keywords are flat, so names must be unique."""
    names = [f for group in option_classes().values() for f in group.__dataclass_fields__]
    assert len(names) == len(set(names)) == len(option_groups())


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"max_workers": 0}, "max_workers"),
        ({"max_workers": "many"}, "'auto'"),
        ({"max_attempts": "many"}, "wrong type"),
        ({"start_workers": 0}, "start_workers"),
        ({"hedge": "95"}, "p95"),
        ({"rpm": -1}, "rpm"),
        ({"max_cost": -1}, "max_cost"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"jpeg_quality": 100}, "jpeg_quality"),
        ({"timeout": 0}, "timeout"),
        ({"drain_timeout": -1}, "drain_timeout"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"backoff_max": float("nan")}, "backoff_max"),
        ({"fsync_interval": 0}, "fsync_interval"),
        ({"output_key": "image"}, "output_key"),
        ({"image_key": ""}, "image_key"),
        ({"base_url": ()}, "base URL"),
        ({"base_url": "localhost:8000"}, "http://"),
        ({"base_url": "http://h:99999/v1"}, "port"),
        ({"base_url": "http://h/v1?key=abc"}, "'?'"),
        ({"header": "no colon"}, "Name: value"),
        ({"header": "X: a\nY: b"}, "line break"),
        ({"extra_body": "{"}, "not JSON"),
        ({"extra_body": "[]"}, "JSON object"),
        ({"extra_body": {"stream": True}}, "stream"),
    ],
)
def test_a_value_that_cannot_work_is_refused(options: dict[str, object], word: str) -> None:
    """Each option checks itself when it is made, and says which it is."""
    with pytest.raises(ConfigError, match=word):
        Config.of(**options)


@pytest.mark.parametrize(
    "url",
    [
        "http://h:8000/v1",
        "http://h:8000/v1/",
        "http://h:8000/v1/chat/completions",
        " http://h:8000/v1/chat/completions/ ",
    ],
)
def test_a_base_url_may_be_given_in_any_usual_form(url: str) -> None:
    """With or without /chat/completions, it is the same endpoint."""
    assert Endpoint(base_url=url).base_url == ("http://h:8000/v1",)


def test_credentials_in_a_url_are_refused_and_not_shown() -> None:
    """A password in an address would end up in logs and result lines."""
    with pytest.raises(ConfigError) as refused:
        Endpoint(base_url="http://user:hunter2@h/v1")
    assert "hunter2" not in str(refused.value)


def test_the_key_is_looked_for_in_order() -> None:
    """DF_API_KEY, then OPENAI_API_KEY; a variable that is named must be set; a broken key is not echoed."""
    environ = {"DF_API_KEY": "first", "OPENAI_API_KEY": "second", "BAD": "two words"}
    assert Endpoint().api_key(environ) == "first"
    assert Endpoint().api_key({"OPENAI_API_KEY": "second"}) == "second"
    assert Endpoint().api_key({}) == ""
    with pytest.raises(ConfigError, match="MISSING"):
        Endpoint(api_key_env="MISSING").api_key(environ)
    with pytest.raises(ConfigError) as refused:
        Endpoint(api_key_env="BAD").api_key(environ)
    assert "two words" not in str(refused.value)


@pytest.mark.parametrize("key", ["sk-canary-1 2", "sk-canary-1\nX-Evil: 2", "sk-canary-1\x01", "sk-canäry-1"])
async def test_a_key_that_is_no_header_is_refused_and_not_shown(key: str) -> None:
    """Before anything is asked; blanks around it, as a file has them, are no part of it."""
    with pytest.raises(ConfigError, match="given as api_key") as caught:
        async with open_engine(base_url="http://127.0.0.1:1/v1", model="m", api_key=key):
            pass
    assert "canary" not in str(caught.value)
    transport = FakeTransport([reply("Yes.")])
    async with open_engine(model="m", api_key="sk-canary-1\n", transport=transport) as engine:
        assert (await engine.generate(ROW)).ok
    assert transport.requests[0].headers["Authorization"] == "Bearer sk-canary-1"


async def test_own_headers_stand_in_place_of_ours_in_any_case() -> None:
    """A gateway that wants another Authorization gets that alone."""
    transport = FakeTransport([reply("Yes.")])
    header = ("authorization: Basic abc", "content-type: application/json; charset=utf-8")
    async with open_engine(model="m", api_key="sk-1", header=header, transport=transport) as engine:
        assert (await engine.generate(ROW)).ok
    sent = transport.requests[0].headers
    assert {name: sent[name] for name in sent if name.lower() in ("authorization", "content-type")} == {
        "authorization": "Basic abc",
        "content-type": "application/json; charset=utf-8",
    }


async def test_a_model_must_be_named() -> None:
    """Without a model nothing is sent."""
    with pytest.raises(ConfigError, match="--model"):
        async with open_engine(base_url="http://127.0.0.1:9/v1"):
            pass


async def test_config_and_options_are_not_mixed() -> None:
    """One way to give options at a time."""
    with pytest.raises(ConfigError, match="not both"):
        async with open_engine(Config.of(model="m"), model="n"):
            pass


async def test_more_workers_than_descriptors_are_fitted(caplog: pytest.LogCaptureFixture) -> None:
    """max_workers is lowered to what the process may open, with one warning."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        with caplog.at_level(logging.WARNING, "vqa_async"):
            async with open_engine(model="m", max_workers=5000, transport=FakeTransport([reply()])) as engine:
                assert engine.config.limits.max_workers == 136
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "ulimit -n" in caplog.text


# --- synchronous callers -------------------------------------------------------------------------------


def test_run_works_without_a_loop_and_inside_one(tmp_path: Path) -> None:
    """Scripts call it; so do notebooks, whose loop is running already."""
    (tmp_path / "in.jsonl").write_text(json.dumps(ROW) + "\n")

    async def notebook(base_url: str) -> vqa_async.RunSummary:
        return vqa_async.run(
            str(tmp_path / "in.jsonl"), str(tmp_path / "b.jsonl"), base_url=base_url, model="looks-1"
        )

    code = "import asyncio, sys; from tests.doors.serve_for import main; asyncio.run(main())"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        base_url = process.stdout.readline().strip()
        try:
            options = {"base_url": base_url, "model": "looks-1"}
            first = vqa_async.run(str(tmp_path / "in.jsonl"), str(tmp_path / "a.jsonl"), **options)
            second = asyncio.run(notebook(base_url))
        finally:
            process.terminate()
    assert first.ok
    assert second.ok


async def test_stream_opens_and_closes_an_engine_of_its_own(
    server: RunningServer, no_leaks: Callable[[], None]
) -> None:
    """stream(rows, ...) is open_engine and engine.stream in one call."""
    async for result in vqa_async.stream([ROW] * 3, base_url=server.base_url, model="looks-1"):
        assert isinstance(result, Success)


# --- as a guest ----------------------------------------------------------------------------------------


async def test_a_guest_installs_nothing_and_prints_nothing(
    server: RunningServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """No signal handler, no output, no other loop: a whole run leaves the process as it was."""
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    (tmp_path / "in.jsonl").write_text(json.dumps(ROW) + "\nbroken\n")
    async with open_engine(base_url=server.base_url, model="looks-1") as engine:
        await engine.run(str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"))
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
    assert capfd.readouterr() == ("", "")


def test_importing_the_package_loads_no_heavy_library() -> None:
    """Neither the HTTP client nor the imaging library, until something needs them."""
    code = "import sys, vqa_async; print({'aiohttp', 'PIL', 'tenacity', 'rich'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"


async def test_requests_of_a_service_share_one_engine(
    server: RunningServer, no_leaks: Callable[[], None]
) -> None:
    """An aiohttp.web service answers through one engine; a client that goes away leaves nothing behind."""
    engine_key = web.AppKey("engine", vqa_async.Engine)

    async def engine_of(app: web.Application) -> AsyncIterator[None]:
        async with open_engine(base_url=server.base_url, model="looks-1", max_workers=8) as engine:
            app[engine_key] = engine
            yield

    async def describe(request: web.Request) -> web.Response:
        result = await request.app[engine_key].generate(await request.json())
        return web.json_response({"text": result.text} if result.ok else {"error": result.error.message})

    app = web.Application()
    app.cleanup_ctx.append(engine_of)
    app.router.add_post("/describe", describe)
    async with TestServer(app) as service, aiohttp.ClientSession() as session:

        async def ask() -> str:
            async with session.post(service.make_url("/describe"), json=ROW) as answer:
                return str((await answer.json())["text"])

        answers = await asyncio.gather(*(ask() for _ in range(20)))
        assert all(answers)
        gone = [asyncio.create_task(ask()) for _ in range(20)]
        await asyncio.sleep(0.01)
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        while app[engine_key].statistics().in_flight:
            await asyncio.sleep(0.005)
        assert await ask()
