"""Records, servers and neighbours that mean harm: S of the fault matrix."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from command_line import all_text, environment
from PIL import Image
from wire import CANARY, Exchange, RawServer, http, in_turn, serving

from vqa_async import Failure, Result, Success, open_engine
from vqa_async.errors import ConfigError, JournalDamaged
from vqa_async.testing import reply

GOOD = http(reply("- Q: What?\n  A: This.").body)


@asynccontextmanager
async def answering(body: bytes = GOOD) -> AsyncIterator[RawServer]:
    """An endpoint that says the same to everybody."""
    async with serving(in_turn(body, keep=True)) as server:
        yield server


async def ask(server: RawServer, rows: list[Any], **options: Any) -> list[Result]:
    """The results for ``rows``, in the order of their ids."""
    async with open_engine(base_url=server.url, model="m", **{"api_key": "", **options}) as engine:
        results = [result async for result in engine.stream(rows)]
    return sorted(results, key=lambda result: result.record.index)


def image_rows(*references: Any) -> list[dict[str, Any]]:
    return [{"image": one, "conversation": "What is it?"} for one in references]


def error_of(result: Result) -> str:
    assert isinstance(result, Failure), result
    return result.error.code


# --- S1 to S3: places ------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with an image, in one with another image that must stay here."""
    (tmp_path / "root/sub").mkdir(parents=True)
    Image.new("RGB", (8, 8), "red").save(tmp_path / "root/in.png")
    Image.new("RGB", (8, 8), "blue").save(tmp_path / "secret.png")
    (tmp_path / "root/link.png").symlink_to("../secret.png")
    (tmp_path / "root/door").symlink_to("..")
    return tmp_path / "root"


async def test_image_outside_of_the_root_is_never_sent(root: Path) -> None:
    """A record names a place outside of --image-root, straight, by `..` or through a link: it fails, the
    endpoint hears nothing of it, and the record beside it is answered."""
    outside = [
        "../secret.png",
        "sub/../../secret.png",
        "link.png",
        "door/secret.png",
        str(root.parent / "secret.png"),
        "/etc/passwd",
        "/proc/self/environ",
    ]
    paths = [one if one.startswith("/") else f"{root}/{one}" for one in outside]
    async with answering() as server:
        results = await ask(server, image_rows(*paths, f"{root}/in.png"), image_root=str(root))
        assert len(server.exchanges) == 1
    assert [error_of(result) for result in results[:-1]] == ["path_outside_root"] * len(outside)
    assert results[-1].ok


async def test_file_that_is_no_image_never_leaves_the_machine(tmp_path: Path) -> None:
    """Without a root, records may name any file: what is no image by its content is not sent, be it a
    password file, the environment with the key in it, or a key under the name of an image."""
    (tmp_path / "id_rsa.png").write_text(f"-----BEGIN KEY-----\n{CANARY}\n")
    names = (
        "/etc/passwd",
        "/proc/self/environ",
        "/proc/self/cmdline",
        str(tmp_path / "id_rsa.png"),
        "/dev/zero",
    )
    async with answering() as server:
        results = await ask(server, image_rows(*names))
        assert server.exchanges == []
    assert {error_of(result) for result in results} <= {"not_an_image", "not_a_file"}
    assert all(CANARY not in str(result.error) for result in results if isinstance(result, Failure))


HOSTILE = [
    "file:///etc/passwd",
    "FILE:/etc/passwd",
    "ftp://host/a.png",
    "gopher://host/a.png",
    "s3://bucket/a.png",
    "\\\\host\\share\\a.png",
    "C:\\Windows\\a.png",
    "~/a.png",
    "~root/a.png",
    "%2e%2e/%2e%2e/etc/passwd",
    "a\0b.png",
    "\0",
    "a" * 5000,
    "a/" * 2500,
    "\ud800.png",
    "http://",
    "http://[::1",
    "https:///a.png",
    "http://host/\r\nX-Evil: 1",
    "data:image/png;base64,%%%",
    "data:,",
    "javascript:alert(1)",
    "|touch /tmp/owned",
    "$(touch /tmp/owned)",
]


@pytest.mark.parametrize("reference", HOSTILE, ids=ascii)
async def test_reference_that_leads_nowhere_is_one_failure(reference: str) -> None:
    """Schemes, shares, drives, NULs, endless names, half surrogates in the place of an image: one failure
    with one printable line, no exception, nothing sent."""
    async with answering() as server:
        [result] = await ask(server, image_rows(reference))
        assert server.exchanges == []
    assert isinstance(result, Failure)
    assert result.attempts == 0
    assert result.error.message.isprintable()
    assert len(result.error.message) <= 500
    assert not Path("/tmp/owned").exists()


# --- S4, S5: addresses -----------------------------------------------------------------------------------


async def test_address_of_an_image_is_handed_on_without_a_packet_of_ours() -> None:
    """A record names an image by its address: the endpoint gets the address, and nobody is connected to from
    here."""
    async with answering() as images, answering() as server:
        address = f"http://127.0.0.1:{images.port}/a.png?signature=1"
        [result] = await ask(server, image_rows(address))
        [exchange] = server.exchanges
        assert images.connections == 0
    assert result.ok
    parts = json.loads(exchange.body)["messages"][-1]["content"]
    assert [part["image_url"]["url"] for part in parts if part["type"] == "image_url"] == [address]


PRIVATE = [
    "127.0.0.1",
    "localhost",
    "[::1]",
    "0.0.0.0",
    "2130706433",
    "0x7f.1",
    "0177.0.0.1",
    "127.1",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "127.0.0.1\\@example.com",
    "example.com@127.0.0.1",
]


@pytest.mark.parametrize("host", PRIVATE)
async def test_address_in_our_own_network_is_not_fetched(host: str) -> None:
    """Images are fetched for the records, and one names this machine in one of its many spellings: it fails,
    and the listener there sees no connection."""
    async with answering() as hidden, answering() as server:
        [result] = await ask(server, image_rows(f"http://{host}:{hidden.port}/a.png"), fetch_images=True)
        assert hidden.connections == 0
        assert server.exchanges == []
    assert isinstance(result, Failure)


@pytest.mark.parametrize("host", ["169.254.169.254", "10.0.0.1", "100.64.0.1", "192.168.1.1", "172.16.0.1"])
async def test_private_network_is_refused_before_a_packet(host: str) -> None:
    """Metadata services and private networks: refused by their address, at once, with the option named."""
    async with answering() as server, asyncio.timeout(1):
        [result] = await ask(server, image_rows(f"http://{host}/latest/meta-data"), fetch_images=True)
    assert error_of(result) == "url_not_allowed"
    assert "--allow-private-urls" in str(result.error)  # type: ignore[union-attr]


async def test_fetched_image_that_redirects_is_not_fetched() -> None:
    """The server of an image redirects to somewhere else: not followed, the other sees no connection."""
    async with answering() as other:
        moved = http(b"", f"Location: http://127.0.0.1:{other.port}/a.png", status="302 Found")
        async with answering(moved) as images, answering() as server:
            [result] = await ask(
                server,
                image_rows(f"http://127.0.0.1:{images.port}/a.png"),
                fetch_images=True,
                allow_private_urls=True,
            )
            assert (images.connections, other.connections) == (1, 0)
    assert error_of(result) == "unreachable_url"


# --- S6: data in the record ------------------------------------------------------------------------------


async def test_image_in_the_record_has_the_limits_of_a_file() -> None:
    """data: URIs that are broken, no images, or too large: each fails as a file would, nothing is sent."""
    png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
    good = [f"data:image/png;base64,{png}", f"data:text/html;charset=x;BASE64,{png}"]
    bad = [
        f"data:image/png;base64{png}",
        "data:image/png,plain",
        "data:image/png;base64,####",
        "data:image/png;base64,aGVsbG8=",
        "data:image/png;base64," + "A" * 20_000,
    ]
    async with answering() as server:
        results = await ask(server, image_rows(*good, *bad), max_file_bytes=10_000)
        sent = [json.loads(exchange.body)["messages"][-1]["content"] for exchange in server.exchanges]
    assert [result.ok for result in results] == [True] * 2 + [False] * 5
    assert all(f"data:image/png;base64,{png}" in json.dumps(content) for content in sent)
    assert error_of(results[-1]) == "too_large"


# --- S7, S8: the key -------------------------------------------------------------------------------------

EVERYTHING_LOGGED = """
import logging, sys
logging.basicConfig(level=logging.DEBUG, filename="debug.log")
logging.getLogger("asyncio").setLevel(logging.DEBUG)
from vqa_async.cli import main
sys.argv = ["vqa-async", *sys.argv[1:]]
sys.exit(main())
"""


@pytest.mark.slow
async def test_key_is_nowhere_however_much_is_logged(tmp_path: Path) -> None:
    """A server that sends the key back in errors, headers and answers, in Python's development mode with all
    logs at DEBUG: the key is in the request's header alone."""

    async def answer(exchange: Exchange) -> None:
        key = f"Bearer {CANARY}"
        if exchange.head.startswith(b"GET"):
            await exchange.say(http(b"{}", f"X-Key: {key}"))
            return
        kind = exchange.number % 5
        body = reply(f"Your key is {CANARY}.").body
        if kind == 1:
            body = json.dumps({"error": {"message": f"bad image for {key}"}}).encode()
        status = {1: f"400 {CANARY}", 2: "500 Oops", 3: f"307 {CANARY}"}.get(kind, "200 OK")
        if kind == 3:
            status, body = "200 OK", b'{"choices": "' + CANARY.encode() + b'"}'
        if kind == 4:
            await exchange.say(http(body, f"X-Key: {key}")[:-9])
            exchange.writer.close()
            return
        await exchange.say(http(body, f"X-Key: {key}", status=status))

    rows = [{"id": f"r{n}", "conversation": f"question {n}"} for n in range(20)]
    (tmp_path / "in.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    async with serving(answer) as server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-X", "dev", "-c", EVERYTHING_LOGGED, "run", "in.jsonl", "-o", "out.jsonl"),
            *("--model", "m", "--base-url", server.url, "--backoff-base", "0.01"),
            cwd=tmp_path,
            env=environment({"DF_API_KEY": CANARY, "PYTHONASYNCIODEBUG": "1", "PYTHONPATH": os.getcwd()}),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert all(CANARY.encode() in exchange.head for exchange in server.exchanges)
        assert len(server.exchanges) > 20
    assert process.returncode in (0, 1), err
    assert (tmp_path / "out.jsonl").read_text().count("[removed]")
    assert CANARY not in (out + err).decode() + all_text(tmp_path)
    assert b"Traceback" not in err
    assert "asyncio" in (tmp_path / "debug.log").read_text()


async def test_key_in_what_a_server_says_is_taken_out() -> None:
    """A server that echoes the key, in a 401, a 400, a page, a redirect and in its answer: taken out of
    each."""
    said = [
        http(json.dumps({"error": {"message": f"Incorrect key {CANARY}"}}).encode(), status="401 No"),
        http(json.dumps({"detail": f"bad {CANARY}"}).encode(), status="400 No"),
        http(f"<html>{CANARY}</html>".encode(), status="502 No"),
        *(  # wherever the sentence about it is cut off
            http(json.dumps({"error": {"message": "x" * n + CANARY}}).encode(), status="400 No")
            for n in range(250, 510, 7)
        ),
        http(b"", f"Location: http://elsewhere.invalid/?key={CANARY}", status="302 Found"),
        http(f"<html>{CANARY}</html>".encode()),
        http(reply(f"It is {CANARY}, I think.").body),
        http(
            reply("x").body.replace(
                b'"x"', b'"It is ' + CANARY.replace("sk", "\\u0073\\u006b").encode() + b'"'
            )
        ),
    ]
    for body in said:
        async with (
            answering(body) as server,
            open_engine(base_url=server.url, model="m", api_key=CANARY, max_attempts=1) as engine,
        ):
            result = await engine.generate({"conversation": "What?"})
        assert CANARY[:9] not in repr(result) + str(result)
        if isinstance(result, Success):
            assert result.text.startswith("It is [removed]")
        else:
            assert CANARY[:9] not in str(result.error) + repr(result.error) + repr(vars(result.error))


# --- S9: redirects ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_stops_the_run_after_one_request(status: int, tmp_path: Path) -> None:
    """A redirect, to another port or in a circle: not followed, the run stops and says where to; the other
    server sees no connection, nobody is marked failed."""
    (tmp_path / "in.jsonl").write_text('{"id": "r0", "conversation": "What?"}\n')
    async with answering() as other:
        location = f"http://127.0.0.1:{other.port}/v1/chat/completions"
        async with (
            answering(http(b"", f"Location: {location}", status=f"{status} Moved")) as server,
            open_engine(base_url=server.url, model="m", api_key=CANARY) as engine,
        ):
            summary = await engine.run(str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"))
            assert len(server.exchanges) == 1
        assert other.connections == 0
    assert (summary.state, summary.statistics.failed) == ("stopped", 0)
    assert summary.error is not None
    assert summary.error.code == "unexpected_redirect"
    assert location in summary.reason


# --- S12: files of the output ----------------------------------------------------------------------------


@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o600), (0o027, 0o640), (0o022, 0o644)])
async def test_files_of_an_output_have_the_permissions_that_the_umask_leaves(
    mask: int, mode: int, tmp_path: Path
) -> None:
    """A strict umask: no file of the output, not even the lock, can be read by those whom it shuts out."""
    (tmp_path / "in.jsonl").write_text('{"conversation": "What?"}\n{"image": "gone.png"}\n')
    before = os.umask(mask)
    try:
        async with answering() as server, open_engine(base_url=server.url, model="m", api_key="") as engine:
            await engine.run(str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"))
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("out*")}
    assert set(modes) == {"out.jsonl", "out.failures.jsonl", "out.run.json", "out.jsonl.lock"}
    assert all(found & ~mode == 0 for found in modes.values()), modes


@pytest.mark.parametrize(
    "name",
    ["out.failures.jsonl", "out.damaged.jsonl", "out.jsonl.lock", "out.run.json", ".out.run.json.new"],
)
@pytest.mark.parametrize("exists", [True, False], ids=["to a file", "to nothing"])
async def test_link_in_the_place_of_a_side_file_is_not_followed(
    name: str, exists: bool, tmp_path: Path
) -> None:
    """Somebody has planted a link where the run keeps its failures, lock or notes: nothing is written through
    it, whether it leads to a file or to nothing."""
    victim = tmp_path / "victim"
    if exists:
        victim.touch()
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / name).symlink_to(victim)
    (folder / "in.jsonl").write_text('{"conversation": "What?"}\n{"image": "gone.png"}\n')
    refusal = ""
    async with answering() as server, open_engine(base_url=server.url, model="m", api_key="") as engine:
        try:
            await engine.run(str(folder / "in.jsonl"), str(folder / "out.jsonl"))
        except (ConfigError, JournalDamaged) as error:
            refusal = str(error)
        assert bool(server.exchanges) is not bool(refusal)
    assert not refusal or str(folder / name) in refusal
    assert victim.exists() is exists
    assert not exists or victim.read_bytes() == b""
    assert refusal or not (folder / name).is_symlink()


# --- S14: what a record may say --------------------------------------------------------------------------


async def test_record_cannot_change_what_is_asked_of_whom() -> None:
    """A row with fields named as the request's own, and roles and keys that are no conversation's: the
    request has the model, the parameters and the address of the settings, and of the row its text alone."""
    row = {
        "conversation": [
            {"role": "user", "content": "What?", "name": "x", "tool_calls": [{}], "model": "evil"}
        ],
        "model": "evil",
        "stream": True,
        "n": 10**6,
        "base_url": "http://evil.invalid",
        "api_key": "evil",
        "headers": {"X-Evil": "1"},
        "tools": [{"type": "function"}],
        "messages": [{"role": "system", "content": "evil"}],
        "extra_body": {"max_tokens": 10**9},
        "_meta": {"id": "evil"},
    }
    async with answering() as server:
        [result] = await ask(server, [row], temperature=0.5, system_prompt="")
        [exchange] = server.exchanges
    assert result.ok
    sent = json.loads(exchange.body)
    assert sent.pop("messages") == [{"role": "user", "content": "What?"}]
    assert sent == {"model": "m", "temperature": 0.5}
    assert b"vil" not in exchange.head.lower()


@pytest.mark.parametrize("role", ["tool", "function", "System ", "", "user\n", None, 7])
async def test_role_that_no_conversation_has_is_refused(role: Any) -> None:
    """A turn that pretends to be of a tool or of nobody: the record fails with the place, nothing is sent."""
    async with answering() as server:
        [result] = await ask(server, [{"conversation": [{"role": role, "content": "What?"}]}])
        assert server.exchanges == []
    assert error_of(result)
    assert "conversation[0]" in str(result.error)  # type: ignore[union-attr]
