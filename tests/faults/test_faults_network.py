"""Networks that are slow, narrow, torn and silent: N of the fault matrix, through a real proxy on
loopback."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import answers, vqa_async, write_records
from toxics import Toxic, proxied
from wire import Asker, Exchange, asked, asking, asking_over_sockets, http, serving

from vqa_async.models import Result
from vqa_async.testing import reply
from vqa_async.transport import AiohttpTransport


async def echo(exchange: Exchange) -> None:
    """Answer each question with itself."""
    await exchange.say(http(reply(f"answer to {asked(exchange.body)}").body))


async def ask_all(asker: Asker, count: int) -> list[Result]:
    return list(await asyncio.gather(*(asker.ask(f"question {n}") for n in range(count))))


def are_right(results: list[Result]) -> bool:
    """Whether each question got its own answer."""
    return [result.ok and result.text for result in results] == [
        f"answer to question {n}" for n in range(len(results))
    ]


async def test_slow_network_only_takes_longer() -> None:
    """A latency of 50 to 150 ms on the network, differing from piece to piece: every record is answered at
    its first attempt."""
    rng = random.Random(1)
    toxic = Toxic(latency_s=lambda: rng.uniform(0.05, 0.15))
    async with (
        serving(echo) as server,
        proxied(server.port, lambda _: toxic) as proxy,
        asking_over_sockets(proxy.url, max_workers=20) as asker,
    ):
        results = await ask_all(asker, 40)
    assert are_right(results)
    assert {result.attempts for result in results} == {1}


async def test_upload_that_outlasts_the_stall_timeout_is_no_stall() -> None:
    """A line so narrow that the image takes longer than the stall timeout: no false alarm while it goes
    on."""

    def narrow(_: int) -> Toxic:
        return Toxic(slice_bytes=16384, bytes_per_s=1_600_000)

    async with (
        serving(echo) as server,
        proxied(server.port, narrow) as proxy,
        asking_over_sockets(proxy.url, stall_timeout=0.2, timeout=5.0, max_attempts=1) as asker,
    ):
        began = time.monotonic()
        result = await asker.ask("q" * 600_000)
        took_s = time.monotonic() - began
    assert result.ok, result.error
    assert took_s > 0.5


async def test_reply_in_crumbs_is_the_whole_reply() -> None:
    """A network that delivers one, two or three bytes at a time: nothing is missing from an answer."""
    async with (
        serving(echo) as server,
        proxied(server.port, lambda number: Toxic(slice_bytes=1 + number % 3)) as proxy,
        asking_over_sockets(proxy.url, max_workers=6, max_attempts=1) as asker,
    ):
        assert are_right(await ask_all(asker, 30))


async def test_black_hole_is_left_after_the_timeout_and_the_next_connection_is_taken() -> None:
    """A connection that is accepted and then silent: given up at the deadline, and tried again elsewhere."""
    async with (
        serving(echo) as server,
        proxied(server.port, lambda number: Toxic(silent=number < 3)) as proxy,
        asking_over_sockets(proxy.url, timeout=0.3, max_workers=3) as asker,
    ):
        began = time.monotonic()
        results = await ask_all(asker, 9)
        took_s = time.monotonic() - began
    assert are_right(results)
    assert sorted(result.attempts for result in results) == [1] * 6 + [2] * 3
    assert took_s < 1.5


@pytest.mark.parametrize("after", [0, 40, 200_000])
async def test_connection_reset_during_the_request_is_tried_again(after: int) -> None:
    """A TCP reset before, in the middle of, and late in the request: the record is answered at its second
    attempt."""

    def torn(number: int) -> Toxic:
        return Toxic(reset_after=after if number == 0 else -1)

    question = "x" * 400_000
    async with (
        serving(echo) as server,
        proxied(server.port, torn) as proxy,
        asking_over_sockets(proxy.url) as asker,
    ):
        result = await asker.ask(question)
    assert result.ok, result.error
    assert result.text == f"answer to {question}"
    assert result.attempts == 2


async def test_reply_cut_at_every_byte_is_tried_again_and_answered_whole() -> None:
    """A network that cuts the first reply at each of its bytes in turn: never half an answer, always a second
    attempt that has all of it."""
    length = len(http(reply("answer to question 0").body))
    async with serving(echo) as server:
        for cut in range(0, length, 2):
            async with (
                proxied(server.port, lambda n, cut=cut: Toxic(cut_reply_at=cut if n == 0 else -1)) as proxy,
                asking_over_sockets(proxy.url) as asker,
            ):
                result = await asker.ask("question 0")
                assert result.ok, (cut, result.error)
                assert (result.text, result.attempts) == ("answer to question 0", 2), cut


async def test_server_that_closes_slowly_or_by_half_leaks_no_connection(
    no_leaks: Callable[[], None],
) -> None:
    """The end of a connection comes late, or only one side of it: every answer counts, no socket stays."""

    async def half_closing(exchange: Exchange) -> None:
        await echo(exchange)
        if exchange.writer.can_write_eof():
            exchange.writer.write_eof()

    async with (
        serving(half_closing) as server,
        proxied(server.port, lambda _: Toxic(slow_close_s=0.1)) as proxy,
    ):
        for url in (server.url, proxy.url):
            async with asking_over_sockets(url, max_workers=5) as asker:
                assert are_right(await ask_all(asker, 30))
        async with asyncio.timeout(3):
            while proxy.open:
                await asyncio.sleep(0.01)
    await asyncio.sleep(0)
    no_leaks()


async def test_connections_closed_while_idle_cost_no_attempt() -> None:
    """A server that closes each connection 2 ms after its reply: 300 records, all answered at their first
    attempt."""

    async def closing(exchange: Exchange) -> None:
        await echo(exchange)
        await asyncio.sleep(0.002)
        exchange.writer.close()

    async with serving(closing) as server, asking_over_sockets(server.url, max_workers=4) as asker:
        results: list[Result] = []
        for number in range(0, 300, 4):
            results += await asyncio.gather(*(asker.ask(f"question {n}") for n in range(number, number + 4)))
            await asyncio.sleep(0.001)
    assert are_right(results)
    assert {result.attempts for result in results} == {1}


# --- names -----------------------------------------------------------------------------------------------

FLAPPING_NAMES = '''
import asyncio, socket, sys
sys.path[:0] = sys.argv[1].split(":")
from wire import asking_over_sockets, in_turn, http, serving

asked = []

class Names(asyncio.DatagramProtocol):
    """A name server that knows nothing at first, then one address that is dead and one that is not."""

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        kind = data[-4:-2]
        asked.append(kind)
        head, question = data[:2], data[12:]
        question = question[: question.index(b"\\0") + 5]
        if len(asked) <= 4:
            reply = head + b"\\x81\\x82\\0\\1\\0\\0\\0\\0\\0\\0" + question  # SERVFAIL
        else:
            six = kind == b"\\0\\x1c"
            family, address_told = (socket.AF_INET6, "fd00::1") if six else (socket.AF_INET, "127.0.0.1")
            value = socket.inet_pton(family, address_told)
            answer = b"\\xc0\\x0c" + kind + b"\\0\\1\\0\\0\\0\\1" + len(value).to_bytes(2, "big") + value
            reply = head + b"\\x81\\x80\\0\\1\\0\\1\\0\\0\\0\\0" + question + answer
        self.transport.sendto(reply, address)

async def main():
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Names, local_addr=("127.0.0.1", 53))
    async with serving(in_turn(http())) as server:
        url = f"http://vlm.example:{server.port}/v1"
        told = []
        async with asking_over_sockets(url, connect_timeout=2.0) as asker:
            result = await asker.ask(notify=lambda event: told.append(event.error))
        print(result.ok, result.attempts, "|", *{error.code for error in told}, "|", told[0].message)
    transport.close()

asyncio.run(main())
'''


@pytest.mark.slow
def test_name_server_that_fails_now_and_then_is_asked_again(tmp_path: Path) -> None:
    """DNS fails, then comes back with an IPv6 address that is dead: the record is tried again, over IPv4, and
    the error in between names the host."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("this test needs a network of its own, and that takes root and `unshare`")
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\noptions attempts:1 timeout:1\n")
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n")
    (tmp_path / "names.py").write_text(FLAPPING_NAMES)
    within = (
        f"ip link set lo up && mount --bind {tmp_path}/resolv.conf /etc/resolv.conf && "
        f"mount --bind {tmp_path}/hosts /etc/hosts && "
        f"{sys.executable} {tmp_path}/names.py {Path(__file__).parents[1] / 'client'}"
    )
    try:
        subprocess.run(["unshare", "-n", "-m", "true"], check=True, capture_output=True)
    except subprocess.CalledProcessError:
        pytest.skip("no network of one's own is permitted here")
    done = subprocess.run(
        ["unshare", "-n", "-m", "sh", "-c", within],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 0, done.stderr
    answered, codes, said = done.stdout.strip().split(" | ")
    ok, attempts = answered.split()
    assert (ok, codes) == ("True", "dns")
    assert int(attempts) > 1
    assert said.startswith("vlm.example:")


# --- TLS -------------------------------------------------------------------------------------------------

TLS_SERVER = """
import http.server, json, ssl, sys
class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        print("asked", flush=True)
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"choices": [{"message": {"content": "yes"}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_GET = do_POST
    def log_message(self, *args): pass
class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *args): pass
server = Server(("127.0.0.1", 0), Answers)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
"""


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def certificate(folder: Path, name: str, address: str, days: int) -> Path:
    """A certificate for ``address`` by the authority in ``folder``, with its key in the same file."""
    # Python 3.13 is strict about what RFC 5280 asks for: who signed it, and what the authority may do.
    (folder / "names").write_text(f"subjectAltName=IP:{address}\nauthorityKeyIdentifier=keyid\n")
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl(folder, "req", *new, "-subj", "/CN=x", "-keyout", f"{name}.key", "-out", f"{name}.csr")
    by = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", str(days), "-extfile", "names")
    openssl(folder, "x509", "-req", "-in", f"{name}.csr", *by, "-out", f"{name}.crt")
    made = folder / f"{name}.pem"
    made.write_bytes((folder / f"{name}.key").read_bytes() + (folder / f"{name}.crt").read_bytes())
    return made


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "days", "code", "says"),
    [
        ("127.0.0.1", 2, 0, "Done: 3 answered"),
        ("127.0.0.9", 2, 3, "IP address mismatch"),
        ("127.0.0.1", -1, 3, "certificate has expired"),
    ],
    ids=["good", "other host", "expired"],
)
def test_certificate_of_another_host_or_time_stops_the_run(
    tmp_path: Path, address: str, days: int, code: int, says: str
) -> None:
    """A TLS certificate for another host, or one that has expired, by an authority that is trusted: the run
    stops before a byte of a request is sent."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl program to make certificates with")
    new = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    may_sign = ("-addext", "keyUsage=critical,keyCertSign")
    openssl(tmp_path, "req", *new, *may_sign, "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem")
    made = certificate(tmp_path, "server", address, days)
    write_records(tmp_path / "in.jsonl", 3)
    with subprocess.Popen(
        [sys.executable, "-c", TLS_SERVER, str(made)], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        url = f"https://127.0.0.1:{server.stdout.readline().strip()}/v1"
        done = vqa_async(
            *("run", "in.jsonl", "-o", "out.jsonl", "--model", "m", "--base-url", url),
            cwd=tmp_path,
            env={"SSL_CERT_FILE": str(tmp_path / "ca.pem")},
        )
        server.kill()
        seen = server.stdout.read()
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert bool(seen) is (code == 0)
    assert not (tmp_path / "out.failures.jsonl").exists()


def own_certificate(folder: Path) -> Path:
    """A self-signed certificate, with its key in the same file."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl program to make certificates with")
    new = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    openssl(folder, "req", *new, "-subj", "/CN=x", "-keyout", "key", "-out", "cert")
    made = folder / "own.pem"
    made.write_bytes((folder / "key").read_bytes() + (folder / "cert").read_bytes())
    return made


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
async def test_tls_that_breaks_off_in_the_reply_is_tried_again(tmp_path: Path, share: float) -> None:
    """TLS is broken off before, in the middle, and shortly before the end of a reply: never half an answer,
    and the second attempt has all of it."""

    async def answer(exchange: Exchange) -> None:
        whole = http(reply("yes").body)
        await exchange.say(whole if exchange.number else whole[: int(len(whole) * share)])
        if not exchange.number:
            exchange.reset()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own_certificate(tmp_path))
    async with (
        serving(answer, tls=context) as server,
        AiohttpTransport(verify_tls=False) as transport,
        asking(transport, server.url) as asker,
    ):
        result = await asker.ask()
        assert all(exchange.head.startswith(b"POST") for exchange in server.exchanges)
    assert result.ok, result.error
    assert (result.text, result.attempts) == ("yes", 2)


@pytest.mark.slow
def test_unverified_certificates_are_taken_only_when_asked_for_and_said(tmp_path: Path) -> None:
    """A self-signed TLS certificate: --insecure takes it, and every such run says that it does."""
    made = own_certificate(tmp_path)
    write_records(tmp_path / "in.jsonl", 2)
    with subprocess.Popen(
        [sys.executable, "-c", TLS_SERVER, str(made)], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        url = f"https://127.0.0.1:{server.stdout.readline().strip()}/v1"
        done = vqa_async(
            *("run", "in.jsonl", "-o", "out.jsonl", "--model", "m", "--base-url", url, "--insecure"),
            cwd=tmp_path,
        )
        server.kill()
    assert done.returncode == 0, done.stderr
    assert len(answers(tmp_path / "out.jsonl")) == 2
    assert done.stderr.count("--insecure") == 1
