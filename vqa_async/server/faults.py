"""Faults to order: which request gets which, and what a broken body looks like. No I/O.

One fault is drawn for each request as it arrives, from one seeded generator, one number each: the same
options and seed give the same sequence however the requests overlap. Latencies have a generator of their
own (pace.py), so that ordering one does not reshuffle the other.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeAlias

from vqa_async.server.options import ServerOptions

FaultKind: TypeAlias = Literal["none", "disconnect", "status", "malformed", "cut"]


@dataclass(frozen=True, slots=True)
class Fault:
    """What is to go wrong with one request.

    Attributes:
        kind: ``none`` for a request that is answered properly.
        status: HTTP status where the kind is ``status``.
        drips: whether the reply is sent byte by byte.
    """

    kind: FaultKind = "none"
    status: int = 0
    drips: bool = False


WRONG_JSON = '{"result": {"note": "This was ordered: it is JSON, but not what was asked for."}}'
"""An answer that fits no schema."""


class Faults:
    """Draws faults by the ordered rates."""

    def __init__(self, options: ServerOptions) -> None:
        self._rates = tuple(_rates(options))
        self._drip_rate = options.drip_rate if options.drip else 0.0
        self._random = Random(f"fault {options.seed}")
        self._drip_random = Random(f"drip {options.seed}")
        self._wrong_json_rate = options.wrong_json_rate
        self._wrong_random = Random(f"wrong json {options.seed}")
        self._broken = itertools.cycle(_BROKEN)

    def draw(self) -> Fault:
        """The fault of the request that has just arrived."""
        drips = self._drip_random.random() < self._drip_rate
        mark = self._random.random()
        for kind, status, rate in self._rates:
            mark -= rate
            if mark < 0:
                return Fault(kind, status, drips)
        return Fault(drips=drips)

    def draw_wrong_json(self) -> bool:
        """Whether an answer that is wanted as JSON is to be another JSON than is wanted."""
        return self._wrong_random.random() < self._wrong_json_rate

    def break_body(self, body: bytes) -> tuple[str, bytes]:
        """Content type and body of the next kind of broken reply, in turn; ``body`` would have been right."""
        content_type, broken = next(self._broken)
        return content_type, body[: len(body) // 2] if broken is None else broken


def _rates(options: ServerOptions) -> Iterator[tuple[FaultKind, int, float]]:
    yield "disconnect", 0, options.disconnect_rate
    for status, rate in sorted(options.error_rates().items()):
        yield "status", status, rate
    yield "malformed", 0, options.malformed_rate
    yield "cut", 0, options.cut_rate


_BROKEN: tuple[tuple[str, bytes | None], ...] = (
    ("application/json", b""),
    ("text/html", b"<!doctype html><html><body><h1>Welcome to the gateway</h1></body></html>"),
    ("application/json", None),  # the right JSON, but only half of it
    (
        "application/json",
        b'{"id":"chatcmpl-0","object":"chat.completion","created":0,"model":"m","choices":[]}',
    ),
    (
        "application/json",
        b'{"id":"chatcmpl-0","object":"chat.completion","created":0,"model":"m","choices":[{"index":0,'
        b'"message":{"role":"assistant","content":null},"finish_reason":"stop"}]}',
    ),
)
