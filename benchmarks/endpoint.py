"""The benchmark endpoint: a raw asyncio protocol server that answers each request with one constant.

It parses just enough HTTP to know where a request ends, so that it can serve more than any client here asks
for. `GET /stats` gives the number of requests answered; `GET /reset` sets it to 0.

    python -m benchmarks.endpoint --port 0 --latency 0.2        prints its base URL
"""

from __future__ import annotations

import argparse
import asyncio
import json

ANSWER = json.dumps(
    {
        "id": "chatcmpl-benchmark",
        "object": "chat.completion",
        "created": 1,
        "model": "benchmark",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "- Q: What is on the picture?\n  A: A test pattern of many colours.\n\n"
                    "- Q: Is it day or night?\n  A: It cannot be told.",
                },
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 900, "completion_tokens": 40, "total_tokens": 940},
    }
).encode()


def reply(body: bytes) -> bytes:
    """A whole HTTP reply."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Connection(asyncio.Protocol):
    """One connection: counts body bytes, never keeps them."""

    answer = reply(ANSWER)
    latency_s = 0.0
    answered = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        self._transport = transport
        self._head = b""
        self._left = 0

    def data_received(self, data: bytes) -> None:
        """Pass over what belongs to the body, look at what belongs to the head."""
        while data:
            if self._left:
                passed = min(self._left, len(data))
                self._left -= passed
                data = data[passed:]
                if not self._left:
                    self._answer_later()
                continue
            self._head += data
            head, found, data = self._head.partition(b"\r\n\r\n")
            if not found:
                return
            self._head = b""
            self._begin(head)

    def _begin(self, head: bytes) -> None:
        if head.startswith(b"GET "):
            self._look(head.split(b" ", 2)[1])
            return
        _, _, rest = head.lower().partition(b"content-length:")
        self._left = int(rest.split(b"\r\n", 1)[0])

    def _look(self, path: bytes) -> None:
        if path == b"/reset":
            Connection.answered = 0
        self._write(reply(json.dumps({"answered": Connection.answered}).encode()))

    def _answer_later(self) -> None:
        Connection.answered += 1
        if self.latency_s:
            asyncio.get_running_loop().call_later(self.latency_s, self._write, self.answer)
        else:
            self._write(self.answer)

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)  # type: ignore[attr-defined]


async def serve(port: int, latency_s: float) -> None:
    """Serve until killed."""
    Connection.latency_s = latency_s
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", port, backlog=8192)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0)
    arguments = parser.parse_args()
    try:
        import uvloop as loops
    except ImportError:
        loops = asyncio
    loops.run(serve(arguments.port, arguments.latency))
