"""The network seam: what breaks on the wire is one error of ours, secrets stay where they were sent."""

from __future__ import annotations

import asyncio
import inspect
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from aiohttp import client_exceptions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wire import CANARY, GOOD, Exchange, asking, asking_over_sockets, http, in_turn, serving

from vqa_async.errors import EndpointNotFound, ImageError, TransportError, VQAError
from vqa_async.models import Failure, Success
from vqa_async.testing import FakeTransport, reply
from vqa_async.transport import AiohttpTransport, Request, fetch_image, translate
from vqa_async.transport.addresses import public_socket


@pytest.fixture
async def transport() -> AsyncIterator[AiohttpTransport]:
    """A transport with default settings."""
    async with AiohttpTransport() as made:
        yield made


def request(url: str, body: bytes = b"{}", **how: Any) -> Request:
    pieces = (body,) if body else ()
    return Request(url=url, headers={"Content-Type": "application/json"}, body=pieces, size=len(body), **how)


async def failure_of(transport: AiohttpTransport, url: str, **how: Any) -> TransportError:
    with pytest.raises(TransportError) as caught:
        await transport.send(request(url, **how))
    return caught.value


# --- what is sent ------------------------------------------------------------------------------------------


async def test_large_body_in_pieces_arrives_whole(transport: AiohttpTransport) -> None:
    """5 MB in pieces of many sizes, with their length told beforehand."""
    pieces = tuple(bytes([n % 251]) * size for n, size in enumerate([1, 70_000, 3, 5_000_000, 8191, 1]))
    async with serving(in_turn(http(keep := b"{}"), keep=True)) as server:
        sent = Request(url=server.url, headers={}, body=pieces, size=sum(map(len, pieces)))
        response = await transport.send(sent)
        arrived = server.exchanges[0]
    assert response.body == keep
    assert arrived.body == b"".join(pieces)
    assert b"transfer-encoding" not in arrived.head.lower()


async def test_only_the_given_headers_are_sent(transport: AiohttpTransport) -> None:
    """Besides what HTTP needs: who asks, and that no compression is wanted; no cookie."""
    cookie = http(GOOD, "Set-Cookie: id=1; Path=/")
    async with serving(in_turn(cookie, keep=True)) as server:
        for _ in range(2):  # by name: for bare addresses, cookies are not kept by anyone
            await transport.send(request(server.url.replace("127.0.0.1", "localhost")))
        names = {line.split(b":")[0].lower() for line in server.exchanges[1].head.split(b"\r\n")[1:] if line}
    always = {b"host", b"accept", b"accept-encoding", b"user-agent"}
    assert names == always | {b"content-type", b"content-length"}


async def test_headers_of_a_reply_are_found_in_any_case(transport: AiohttpTransport) -> None:
    """Servers write them as they like."""
    async with serving(in_turn(http(b"{}", "RETRY-after: 3"))) as server:
        response = await transport.send(request(server.url))
    assert response.headers["Retry-After"] == response.headers["retry-after"] == "3"


async def test_transport_shows_no_header_in_its_values() -> None:
    """Values that turn up in logs and tracebacks show neither headers nor bodies."""
    shown = repr(Request(url="http://x/", headers={"Authorization": CANARY}, body=(CANARY.encode(),), size=1))
    shown += repr(reply("secret text", headers={"Set-Cookie": CANARY}))
    assert CANARY not in shown
    assert "secret text" not in shown


# --- connections that end ----------------------------------------------------------------------------------


async def test_connections_closed_while_idle_never_surface(transport: AiohttpTransport) -> None:
    """A server that closes 2 ms after each reply, asked at about that moment, 300 times: 300 answers."""

    async def answer(exchange: Exchange) -> None:
        await exchange.say(http())
        await asyncio.sleep(0.002)
        exchange.writer.close()

    async with serving(answer) as server:
        statuses: Counter[int] = Counter()
        for n in range(300):
            statuses[(await transport.send(request(server.url))).status] += 1
            await asyncio.sleep(0.0015 + n % 10 * 1e-4)
    assert statuses == {200: 300}


async def test_all_idle_connections_may_be_gone_at_once(transport: AiohttpTransport) -> None:
    """After a restart of the server each request meets a dead connection, and none is given a second one."""
    open_ones: list[Exchange] = []

    async def answer(exchange: Exchange) -> None:
        open_ones.append(exchange)
        await exchange.say(http(), pause_s=0.01)

    async with serving(answer) as server:
        for _ in range(2):
            await asyncio.gather(*(transport.send(request(server.url)) for _ in range(20)))
            while open_ones:
                open_ones.pop().reset()
        assert len(server.exchanges) == 40


async def test_connection_that_breaks_without_a_reply_is_replaced_only_once(
    transport: AiohttpTransport,
) -> None:
    """One whole reply, then every connection ends at once: one more try, on a new one, then the error."""

    async def answer(exchange: Exchange) -> None:
        if exchange.number == 0:
            await exchange.say(http())
        else:
            exchange.writer.close()

    async with serving(answer) as server:
        await transport.send(request(server.url))
        error = await failure_of(transport, server.url)
        assert error.code == "reset"
        assert (len(server.exchanges), server.connections) == (3, 2)


async def test_dead_connection_is_not_replaced_by_another_dead_one(transport: AiohttpTransport) -> None:
    """20 lie idle, and the server ends each as it is used again: the second try is on a new one."""
    used: set[asyncio.StreamWriter] = set()

    async def answer(exchange: Exchange) -> None:
        if exchange.writer in used:
            exchange.writer.close()
        else:
            used.add(exchange.writer)
            await exchange.say(http(), pause_s=0.01)

    async with serving(answer) as server:
        await asyncio.gather(*(transport.send(request(server.url)) for _ in range(20)))
        assert (await transport.send(request(server.url))).status == 200
        assert server.connections == 21


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_new_connection_that_breaks_is_not_replaced(transport: AiohttpTransport, how: str) -> None:
    """It was not idle: what the server did with the request is for the retry policy to judge."""

    async def answer(exchange: Exchange) -> None:
        exchange.reset() if how == "reset" else exchange.writer.close()

    async with serving(answer) as server:
        error = await failure_of(transport, server.url)
        assert (error.code, error.retryable, error.stops_run) == ("reset", True, False)
        assert len(server.exchanges) == 1


@pytest.mark.parametrize("part", [b"HTT", b"HTTP/1.1 200 OK\r\nConte", http()[:-5]])
async def test_request_with_half_a_reply_is_not_sent_again(transport: AiohttpTransport, part: bytes) -> None:
    """On a connection that was used before: whatever was read shows that the request had arrived."""

    async def answer(exchange: Exchange) -> None:
        await exchange.say(http() if exchange.number == 0 else part)
        if exchange.number:
            exchange.writer.close()

    async with serving(answer) as server:
        await transport.send(request(server.url))
        assert (await failure_of(transport, server.url)).code == "reset"
        assert len(server.exchanges) == 2


async def test_connection_reset_in_the_middle_of_the_upload_is_an_error_of_ours(
    transport: AiohttpTransport,
) -> None:
    """The server reads a little of 20 MB and resets."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        Exchange(reader, writer, b"", b"", 0).reset()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        error = await failure_of(transport, f"http://127.0.0.1:{port}/", body=b"x" * 20_000_000)
    finally:
        server.close()
    assert (error.code, error.retryable) == ("reset", True)


async def test_refused_connection_says_so(transport: AiohttpTransport) -> None:
    """With the address, so that a wrong port is seen."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    error = await failure_of(transport, f"http://127.0.0.1:{port}/v1")
    assert error.code == "connect"
    assert error.message.startswith(f"127.0.0.1:{port} refuses connections (Connection refused)")


async def test_each_request_has_its_own_deadline(transport: AiohttpTransport) -> None:
    """Of any length, begun at any time; who is answered in time is left alone, also afterwards."""
    loop = asyncio.get_running_loop()

    async def ended(server_url: str, path: str, timeout_s: float) -> tuple[str, float]:
        began = loop.time()
        try:
            await transport.send(request(f"{server_url}/{path}", timeout_s=timeout_s))
        except TransportError as error:
            return error.code, loop.time() - began
        return "answered", loop.time() - began

    async def slow_or_not(exchange: Exchange) -> None:
        if b"/hang" in exchange.head:
            await asyncio.sleep(30)
        await exchange.say(http(GOOD))

    async with serving(slow_or_not) as server:
        asked = []
        for round_ in range(3):
            for path, timeout_s in (("hang", 0.3), ("quick", 0.3), ("hang", 0.6), ("hang", 0.3)):
                asked.append((path, timeout_s, asyncio.create_task(ended(server.url, path, timeout_s))))
            await asyncio.sleep(0.05 * round_)
        for path, timeout_s, task in asked:
            how, seconds = await task
            assert how == ("timeout" if path == "hang" else "answered")
            if path == "hang":
                assert timeout_s <= seconds < timeout_s + 0.25
        await asyncio.sleep(0.35)  # beyond the deadlines of those that were answered


async def test_who_cancels_is_obeyed_at_the_deadline_too(transport: AiohttpTransport) -> None:
    """Being cancelled is no timeout, also where both come in the same moment, and in whatever order."""

    async def hang(_: Exchange) -> None:
        await asyncio.sleep(30)

    loop = asyncio.get_running_loop()
    async with serving(hang) as server:
        for early_s in (0.1, 0.01, -0.01):
            task = asyncio.create_task(transport.send(request(server.url, timeout_s=0.2)))
            await asyncio.sleep(0)  # it has begun, and its deadline with it
            end = loop.time() + 0.2
            loop.call_at(end - 0.03, time.sleep, 0.06)  # what is due meanwhile happens in one go
            loop.call_at(end - early_s, task.cancel)
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_a_deadline_leaves_no_trace_on_its_task(
    transport: AiohttpTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor where a timeout of the HTTP library comes in the same moment and takes it for its own."""

    async def taken(*_: object) -> None:
        try:
            await asyncio.sleep(9)
        except asyncio.CancelledError:
            raise client_exceptions.ConnectionTimeoutError("to host") from None

    monkeypatch.setattr(transport, "_exchange", taken)
    task = asyncio.current_task()
    assert task is not None
    error = await failure_of(transport, "http://127.0.0.1:1/", timeout_s=0.05)
    assert (error.code, task.cancelling()) == ("timeout", 0)


async def test_server_that_accepts_nothing_is_given_up_after_the_connect_timeout(
    transport: AiohttpTransport,
) -> None:
    """A black hole: the queue of a listener that is full drops what comes, as a firewall does."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        loop = asyncio.get_running_loop()
        began = loop.time()
        error = await failure_of(
            transport, f"http://127.0.0.1:{address[1]}/", connect_timeout_s=0.2, timeout_s=5.0
        )
        for filler in fillers:
            filler.close()
    assert error.code == "timeout"
    assert "within 0.2 s" in error.message
    assert 0.15 < loop.time() - began < 0.7


async def test_deadline_covers_the_second_connection_too(transport: AiohttpTransport) -> None:
    """An idle connection that turns out dead does not start the clock anew."""

    async def answer(exchange: Exchange) -> None:
        if exchange.number == 0:
            await exchange.say(http())
        elif exchange.number == 1:
            await asyncio.sleep(0.2)
            exchange.writer.close()
        else:
            await asyncio.sleep(9)

    async with serving(answer) as server:
        await transport.send(request(server.url))
        loop = asyncio.get_running_loop()
        began = loop.time()
        error = await failure_of(transport, server.url, timeout_s=0.4)
        assert len(server.exchanges) == 3
    assert error.code == "timeout"
    assert loop.time() - began < 0.6


@pytest.mark.slow
async def test_deadline_is_kept_to_the_fraction_of_a_second(transport: AiohttpTransport) -> None:
    """Also above 5 s, where the HTTP library would round it up to a whole second of its clock."""

    async def answer(_: Exchange) -> None:
        await asyncio.sleep(9)

    loop = asyncio.get_running_loop()
    fraction = (0.2 - loop.time()) % 1  # ends just after a whole second, the worst case for rounding up
    async with serving(answer) as server:
        began = loop.time()
        error = await failure_of(transport, server.url, timeout_s=5 + fraction)
    assert error.code == "timeout"
    assert loop.time() - began < 5.5 + fraction


async def test_cancelled_request_leaves_nothing_open(transport: AiohttpTransport) -> None:
    """Cancellation passes through as what it is, and the server sees the connection end."""
    gone = asyncio.Event()

    async def answer(exchange: Exchange) -> None:
        arrived.set()
        await exchange.reader.read()
        gone.set()

    arrived = asyncio.Event()
    async with serving(answer) as server:
        task = asyncio.create_task(transport.send(request(server.url)))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(gone.wait(), 1)


# --- names and addresses -----------------------------------------------------------------------------------


async def test_name_that_does_not_resolve_is_an_error_of_ours(
    transport: AiohttpTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the name in the sentence. The lookup itself is answered here: no test asks the network."""
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", _nowhere)
    error = await failure_of(transport, "http://vlm.invalid:8000/v1")
    assert (error.code, error.retryable) == ("dns", True)
    assert error.message.startswith("vlm.invalid:8000 cannot be found")


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http://[::1",
        "http://[::1]x/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:port/",
        "http://a..b/",
        "http://" + "a" * 300 + ".invalid/",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "/v1",
        "",
        "http://user:pass@[::1",
        "http://\udcff/",
    ],
)
async def test_malformed_address_is_a_permanent_error_of_ours(transport: AiohttpTransport, url: str) -> None:
    """Nothing of the HTTP library's or the standard library's own comes through."""
    error = await failure_of(transport, url)
    assert (error.code, error.retryable) == ("bad_url", False)
    assert "pass@" not in error.message


# --- TLS ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key in the same file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl program to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    made = folder / "self-signed.pem"
    command = f"{openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=x"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key", "-out", folder / "cert"]
    subprocess.run([*command.split(), *map(str, names)], check=True, capture_output=True)
    made.write_bytes((folder / "key").read_bytes() + (folder / "cert").read_bytes())
    return made


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    """A server's side of TLS, with the self-signed certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def test_certificate_that_does_not_verify_stops_the_run(tls: ssl.SSLContext) -> None:
    """At once: no second attempt, no plain HTTP, and no byte of the request."""
    async with serving(in_turn(http()), tls=tls) as server, asking_over_sockets(server.url) as asker:
        result = await asker.ask()
        assert server.exchanges == []
    assert isinstance(result, Failure)
    assert (result.error.code, result.error.stops_run, result.attempts) == ("tls", True, 1)
    assert "self-signed certificate" in result.error.message


async def test_insecure_transport_takes_any_certificate(tls: ssl.SSLContext) -> None:
    """For a test server of one's own."""
    async with (
        serving(in_turn(http()), tls=tls) as server,
        AiohttpTransport(verify_tls=False) as transport,
        asking(transport, server.url) as asker,
    ):
        result = await asker.ask()
    assert isinstance(result, Success)


async def test_certificates_of_ones_own_authority_are_taken_from_the_environment(
    tls: ssl.SSLContext, certificate: Path
) -> None:
    """SSL_CERT_FILE names it, as for other programs; it is read when a process begins."""
    async with serving(in_turn(http()), tls=tls) as server:
        program = (
            "import asyncio\nfrom vqa_async import open_engine\n"
            "async def main():\n"
            f"    async with open_engine(base_url={server.url!r}, model='m') as engine:\n"
            "        print((await engine.generate({'conversation': 'What?'})).ok)\n"
            "asyncio.run(main())\n"
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "SSL_CERT_FILE": str(certificate)},
        )  # fmt: skip
        shown, _ = await process.communicate()
    assert shown == b"True\n"


async def test_tls_spoken_to_a_plain_server_stops_the_run(transport: AiohttpTransport) -> None:
    """https:// written where http:// was meant does not get better by asking again."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        error = await failure_of(transport, f"https://127.0.0.1:{port}/")
    finally:
        server.close()
    assert (error.code, error.stops_run) == ("tls", True)


async def test_connection_lost_in_the_handshake_is_transient(transport: AiohttpTransport) -> None:
    """A server that is just being restarted says nothing about its certificate."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        error = await failure_of(transport, f"https://127.0.0.1:{port}/")
    finally:
        server.close()
    assert error.code in ("tls_broken", "reset", "connect")
    assert (error.retryable, error.stops_run) == (True, False)


# --- redirects and proxies ---------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_is_never_followed(status: int) -> None:
    """The other server sees no connection: neither the key nor the images go anywhere else."""
    async with serving(in_turn(http())) as other:
        redirect = http(b"", f"Location: {other.url}?key={CANARY}", status=f"{status} Moved")
        async with serving(in_turn(redirect)) as server, asking_over_sockets(server.url, key=CANARY) as asker:
            result = await asker.ask()
            assert len(server.exchanges) == 1
        assert other.connections == 0
    assert isinstance(result, Failure)
    assert type(result.error) is EndpointNotFound
    assert (result.error.code, result.error.stops_run) == ("unexpected_redirect", True)
    assert other.url in result.error.message
    assert CANARY not in result.error.message


PROXY_VARIABLES = (
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "NO_PROXY",
    "no_proxy",
)


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that names no proxy."""
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


async def test_proxies_of_the_environment_are_used_only_when_asked_for(
    no_proxies: pytest.MonkeyPatch,
) -> None:
    """And then for other hosts than this one only."""
    async with serving(in_turn(http(b"by proxy"))) as proxy, serving(in_turn(http(b"direct"))) as server:
        no_proxies.setenv("http_proxy", proxy.url.removesuffix("/v1"))
        bodies = {}
        for trust_env in (False, True):
            async with AiohttpTransport(trust_env=trust_env) as transport:
                bodies["here", trust_env] = (await transport.send(request(server.url))).body
                if trust_env:
                    bodies["there", trust_env] = (await transport.send(request("http://vlm.invalid/v1"))).body
    assert bodies == {
        ("here", False): b"direct",
        ("here", True): b"direct",
        ("there", True): b"by proxy",
    }
    assert proxy.exchanges[0].head.startswith(b"POST http://vlm.invalid/v1 HTTP/1.1")


async def test_host_named_by_no_proxy_is_not_proxied(no_proxies: pytest.MonkeyPatch) -> None:
    """127.0.0.2 is this machine too, but only NO_PROXY says that it is to be asked directly."""
    async with serving(in_turn(http(b"by proxy"))) as proxy:
        no_proxies.setenv("http_proxy", proxy.url.removesuffix("/v1"))
        no_proxies.setenv("no_proxy", "vlm.invalid")
        no_proxies.setattr(asyncio.get_running_loop(), "getaddrinfo", _nowhere)
        async with AiohttpTransport(trust_env=True) as transport:
            error = await failure_of(transport, "http://vlm.invalid/v1")
    assert error.code == "dns"
    assert proxy.connections == 0


async def _nowhere(*_: Any, **__: Any) -> Any:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


async def test_password_of_a_proxy_is_not_shown(no_proxies: pytest.MonkeyPatch) -> None:
    """Neither when it refuses connections nor when it refuses the request."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    no_proxies.setenv("http_proxy", f"http://user:{CANARY}@127.0.0.1:{port}")
    async with AiohttpTransport(trust_env=True) as transport:
        error = await failure_of(transport, "http://vlm.invalid/v1")
    assert error.code == "connect"
    assert CANARY not in everything_about(error)


async def test_netrc_does_not_get_in_the_way_of_the_key(
    no_proxies: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An entry for the host, with trust_env: the key that was given is what is sent."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password other\n")
    no_proxies.setenv("NETRC", str(tmp_path / ".netrc"))
    async with (
        serving(in_turn(http())) as server,
        AiohttpTransport(trust_env=True) as transport,
        asking(transport, server.url, key=CANARY) as asker,
    ):
        assert (await asker.ask()).ok
        assert f"Authorization: Bearer {CANARY}".encode() in server.exchanges[0].head


# --- secrets -----------------------------------------------------------------------------------------------


def everything_about(error: BaseException) -> str:
    """All that printing an error, or whatever hangs on it, can show."""
    shown, seen = [], set[int]()
    left: list[BaseException | None] = [error]
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        facts = [f"{name}={value!r}" for name, value in vars(one).items()]
        shown += [str(one), repr(one), repr(one.args), *facts, *traceback.format_exception(one)]
        left += [one.__cause__, one.__context__]
    return "\n".join(shown)


HEADER_SECRET = "gw-0f1e2d3c4b5a"
ECHO = f"You sent Bearer {CANARY} and {HEADER_SECRET}."
LEAKS: dict[str, bytes] = {
    "echo in a 401": http(orjson.dumps({"error": {"message": ECHO}}), status="401 Unauthorized"),
    "echo in a 400": http(orjson.dumps({"error": {"message": ECHO, "code": CANARY}}), status="400 Bad"),
    "echo in text": http(ECHO.encode(), status="500 Oops"),
    "echo where messages are cut": http(
        orjson.dumps({"error": {"message": "x" * 264 + ECHO}}), status="500 Oops"
    ),
    "echo in a page": http(b"<html>" + ECHO.encode()),
    "echo in what is not JSON": http(b"{" + ECHO.encode()),
    "echo where excerpts are cut": http(b"{" + b"x" * 83 + ECHO.encode()),
    "echo in a 200 error": http(orjson.dumps({"error": {"message": ECHO}})),
    "echo in a refusal": http(reply(None, refusal=ECHO).body),
    "echo in a header": http(b"{", f"X-Echo: {CANARY}"),
    "echo in the status line": http(b"", status=f"400 {CANARY}"),
    "echo in a broken header": b"HTTP/1.1 200 OK\r\nX: " + CANARY.encode() + b"\0\r\n\r\n",
    "not HTTP": CANARY.encode() * 3 + b"\r\n\r\n",
    "cut body": http(ECHO.encode() * 9)[:-5],
    "bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CANARY.encode(),
    "gzip in name only": http(ECHO.encode(), "Content-Encoding: gzip"),
    "encoding of that name": http(ECHO.encode(), f"Content-Encoding: {CANARY}"),
    "nothing": b"",
    "redirect": http(b"", f"Location: http://elsewhere.invalid/?k={CANARY}", status="302 Found"),
}  # fmt: skip


@pytest.mark.parametrize("raw", LEAKS.values(), ids=LEAKS.keys())
async def test_no_secret_is_in_anything_about_an_error(raw: bytes) -> None:
    """Text, repr, arguments, facts, causes and contexts: of the error kept, and of those told on the way."""
    told: list[VQAError] = []
    async with (
        serving(in_turn(raw)) as server,
        asking_over_sockets(
            server.url,
            key=CANARY,
            secrets=[HEADER_SECRET],
            header=f"X-Gateway: {HEADER_SECRET}",
            max_attempts=2,
        ) as asker,
    ):
        result = await asker.ask(notify=lambda event: told.append(event.error))
        assert f"X-Gateway: {HEADER_SECRET}".encode() in server.exchanges[0].head
    assert isinstance(result, Failure)
    for error in (result.error, *told):
        shown = everything_about(error)
        for secret in (CANARY, CANARY[:16], HEADER_SECRET):
            assert secret not in shown


@pytest.mark.parametrize("raw", LEAKS.values(), ids=LEAKS.keys())
async def test_error_of_the_seam_itself_holds_no_request(transport: AiohttpTransport, raw: bytes) -> None:
    """Users of the seam see it as it is raised: without the library's exception, which knows the headers."""
    sent = Request(url="", headers={"Authorization": CANARY}, body=(CANARY.encode(),), size=len(CANARY))
    async with serving(in_turn(raw.replace(CANARY.encode(), b"k"))) as server:
        shown = ""
        try:
            await transport.send(replace(sent, url=server.url))
        except TransportError as error:
            shown = everything_about(error)
    assert CANARY not in shown


async def test_secret_in_an_answer_is_taken_out() -> None:
    """Also where JSON escapes hide it from a search of the bytes; the rest of the answer stays."""
    escaped = "".join(f"\\u{ord(char):04x}" for char in CANARY).encode()
    for hidden in (CANARY.encode(), escaped):
        body = reply("Your key is KEY, keep it.").body.replace(b"KEY", hidden)
        async with asking(FakeTransport([reply(body=body)]), key=CANARY) as asker:
            result = await asker.ask()
        assert isinstance(result, Success)
        assert result.text == "Your key is [removed], keep it."


@pytest.mark.parametrize("key", ["EMPTY", "none", "dummy", "token", "", "x", "12345678"])
async def test_key_that_is_a_common_word_does_not_spoil_answers(key: str) -> None:
    """Local servers are given such keys, and answers are full of such words."""
    text = "EMPTY none dummy token x 12345678"
    async with asking(FakeTransport([reply(text)]), key=key, secrets=["blue", "Bearer"]) as asker:
        result = await asker.ask()
    assert isinstance(result, Success)
    assert result.text == text


# --- every exception of the HTTP library -------------------------------------------------------------------

KEY = SimpleNamespace(host="host", port=1, ssl=True, is_ssl=True)
INFO = SimpleNamespace(real_url=f"http://x/{CANARY}", headers={"Authorization": CANARY})
MADE: dict[str, Any] = {
    "ClientResponseError": lambda kind: kind(INFO, (), status=400, message="m"),
    "ClientConnectorCertificateError": lambda kind: kind(KEY, ssl.SSLCertVerificationError(1, "bad")),
    "ClientConnectorError": lambda kind: kind(KEY, OSError(111, "refused")),
    "ServerFingerprintMismatch": lambda kind: kind(b"a", b"b", "host", 1),
    "UnixClientConnectorError": lambda kind: kind("/path", KEY, OSError(2, "missing")),
    "InvalidURL": lambda kind: kind("http://["),
}
CLASSES = [
    kind
    for _, kind in inspect.getmembers(client_exceptions, inspect.isclass)
    if issubclass(kind, Exception) and kind.__module__ == client_exceptions.__name__
]


def made(kind: type[Exception]) -> Exception:
    """An exception of ``kind``, made as the library makes it."""
    maker = next((MADE[base.__name__] for base in kind.__mro__ if base.__name__ in MADE), None)
    return maker(kind) if maker else kind("message")


EXPECTED = {
    "ClientConnectorCertificateError": "tls",
    "ClientConnectorDNSError": "dns",
    "ClientConnectorError": "connect",
    "ClientConnectorSSLError": "tls",
    "ClientHttpProxyError": "connect",
    "ClientPayloadError": "reset",
    "ClientProxyConnectionError": "connect",
    "ConnectionTimeoutError": "timeout",
    "InvalidURL": "bad_url",
    "ServerDisconnectedError": "reset",
    "ServerFingerprintMismatch": "tls",
    "ServerTimeoutError": "timeout",
    "SocketTimeoutError": "timeout",
}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_exception_of_the_http_library_is_translated(kind: type[Exception]) -> None:
    """All that the installed version has, found by looking; none is chained, none shows a header."""
    error = translate(made(kind), request("http://host:1/v1"))
    assert type(error) is TransportError
    assert error.code == EXPECTED.get(kind.__name__, error.code)
    assert error.code in TransportError.__doc__
    assert error.message.startswith("host:1 ")
    assert CANARY not in everything_about(error)


def test_the_expected_exceptions_exist() -> None:
    """A class that the library renames is noticed here."""
    assert {kind.__name__ for kind in CLASSES} >= EXPECTED.keys()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TimeoutError(), "timeout"),
        (ConnectionResetError(104, "x"), "reset"),
        (BrokenPipeError(32, "x"), "reset"),
        (OSError(24, "x"), "connect"),
        (ssl.SSLError(1, "[SSL] x"), "tls_broken"),
        (EOFError(), "protocol"),
        (ValueError("x"), "protocol"),
        (RuntimeError("Session is closed"), "connect"),
        (asyncio.IncompleteReadError(b"", 5), "protocol"),
    ],
)
def test_exceptions_from_below_the_http_library_are_translated(error: Exception, code: str) -> None:
    """Those of sockets, TLS and the event loop."""
    assert translate(error, request("http://host/")).code == code


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(raw=st.binary(max_size=200) | st.binary(max_size=99).map(lambda tail: http()[:20] + tail))
async def test_any_bytes_from_a_server_are_a_response_or_an_error_of_ours(raw: bytes) -> None:
    """Nothing else comes out of the seam, whatever goes in."""
    async with serving(in_turn(raw)) as server, AiohttpTransport() as transport:
        try:
            response = await transport.send(request(server.url, timeout_s=0.5))
        except TransportError:
            return
    assert 100 <= response.status <= 999


async def test_transport_that_is_closed_says_so() -> None:
    """Its repr tells which it is."""
    transport = AiohttpTransport()
    assert repr(transport) == "<AiohttpTransport closed>"
    async with transport:
        assert repr(transport) == "<AiohttpTransport open>"
    with pytest.raises(AssertionError, match="async with"):
        await transport.send(request("http://127.0.0.1/"))


# --- images from the network -------------------------------------------------------------------------------


async def fetched(url: str, *, public_only: bool = False, max_bytes: int = 1000) -> bytes:
    async with AiohttpTransport(public_only=public_only) as transport:
        return await fetch_image(transport, url, timeout_s=2, max_bytes=max_bytes)


async def not_fetched(url: str, **how: Any) -> ImageError:
    with pytest.raises(ImageError) as caught:
        await fetched(url, **how)
    assert caught.value.__context__ is None
    return caught.value


async def test_image_is_fetched_by_a_plain_get() -> None:
    """Without the key, or any other header of the endpoint."""
    async with serving(in_turn(http(b"\x89PNG"))) as server:
        assert await fetched(f"{server.url}/a.png?sig=1") == b"\x89PNG"
        head = server.exchanges[0].head
    assert head.startswith(b"GET /v1/a.png?sig=1 HTTP/1.1")
    assert b"authorization" not in head.lower()


@pytest.fixture
def hidden() -> Iterator[int]:
    """The port of a listener on every address of this machine that must not be reached."""
    with socket.create_server(("", 0)) as listener:
        listener.setblocking(False)
        yield listener.getsockname()[1]
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "localhost",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "[fe80::1]",
        "[fc00::1]",
        "user@127.0.0.1",
    ],
)
async def test_image_at_a_private_address_is_not_fetched(host: str, hidden: int) -> None:
    """However it is spelled; the error names the option that would permit it."""
    error = await not_fetched(f"http://{host}:{hidden}/a.png", public_only=True)
    assert (error.code, error.retryable) == ("url_not_allowed", False)
    # The HTTP library refuses some spellings before they get as far as an address.
    assert "--allow-private-urls" in error.message or "malformed" in error.message
    if host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0x7f.1", "169.254.169.254"):
        assert "--allow-private-urls" in error.message


async def test_name_that_resolves_to_this_machine_is_not_fetched(
    monkeypatch: pytest.MonkeyPatch, hidden: int
) -> None:
    """The address that would be connected to counts, not the name: rebinding gains nothing."""

    async def rebound(host: str, port: int, **_: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", rebound)
    error = await not_fetched(f"http://images.invalid:{hidden}/a.png", public_only=True)
    assert error.code == "url_not_allowed"
    assert "--allow-private-urls" in error.message


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_may_be_connected_to(address: str) -> None:
    """Those of the internet, in either family. Nothing is sent: the socket is only made."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with public_socket((family, socket.SOCK_STREAM, 6, "", (address, 80))) as made:
        assert made.family == family


async def test_proxy_is_not_used_where_addresses_are_checked(no_proxies: pytest.MonkeyPatch) -> None:
    """It would connect to whatever it is told, out of our sight."""
    async with serving(in_turn(http(b"secret"))) as proxy:
        no_proxies.setenv("http_proxy", proxy.url.removesuffix("/v1"))
        async with AiohttpTransport(trust_env=True, public_only=True) as transport:
            with pytest.raises(ImageError):
                await fetch_image(transport, "http://169.254.169.254/latest", timeout_s=1, max_bytes=99)
    assert proxy.connections == 0


async def test_image_may_be_as_large_as_the_limit_and_no_larger() -> None:
    """Reading stops there."""
    async with serving(in_turn(http(b"x" * 1000), http(b"x" * 1001))) as server:
        assert len(await fetched(server.url)) == 1000
        error = await not_fetched(server.url)
    assert (error.code, error.retryable) == ("too_large", False)


@pytest.mark.parametrize(
    ("status", "retryable"),
    [("404 Not Found", False), ("403 No", False), ("503 Busy", True), ("429 Slow", True)],
)
async def test_image_with_another_status_is_an_error_of_its_record(status: str, retryable: bool) -> None:
    """With the status; the next run tries again where that may help."""
    async with serving(in_turn(http(b"<html>", status=status))) as server:
        error = await not_fetched(f"{server.url}/a.png?sig={CANARY}")
    assert error.retryable is retryable
    assert f"status {status[:3]}" in error.message
    assert f"{server.url}/a.png cannot be fetched" in error.message
    assert CANARY not in everything_about(error)


async def test_redirect_to_an_image_is_not_followed() -> None:
    """Not even to a public address: each would have to be checked anew."""
    async with serving(in_turn(http(b"img"))) as other:
        redirect = http(b"", f"Location: {other.url}", status="302 Found")
        async with serving(in_turn(redirect)) as server:
            error = await not_fetched(server.url)
        assert other.connections == 0
    assert "redirects are not followed" in error.message


@pytest.mark.parametrize("url", ["http://[::1", "http://a..b/x.png", "http://127.0.0.1:99999/", "ftp://x/y"])
async def test_image_at_a_malformed_address_is_an_error_of_its_record(url: str) -> None:
    """As permanent as the address is wrong."""
    error = await not_fetched(url, public_only=True)
    assert (error.code, error.retryable) == ("url_not_allowed", False)
