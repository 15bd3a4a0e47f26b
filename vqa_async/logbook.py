"""What a run writes into the log: its events, and at level debug each request and the start of each reply.

No key, no other secret and no image is ever in a line. Headers are masked but for those that say nothing; in
the request's JSON, images are elided, the queries of addresses cut off, and secrets masked by name and by
value; in replies, by value. Nothing here is made where nobody listens: see ``watchers.py``.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from urllib.parse import urlsplit

from vqa_async.chat import excerpt
from vqa_async.chat.excerpts import NOT_JSON, decoded, shown
from vqa_async.client.secrets import Secrets
from vqa_async.config import Config
from vqa_async.errors import VQAError
from vqa_async.events import Event, Notice, RecordFinished, RunStarted, RunStopping, Watched
from vqa_async.models import AttemptFailed, Failure, Success
from vqa_async.transport import Request, Response, Transport

log = logging.getLogger("vqa_async")

_PLAIN_HEADERS = frozenset(["content-type", "accept", "idempotency-key", "user-agent"])
_SECRET_NAME = re.compile(r"(?i)key|token(?!s)|secret|passw|auth|credential|signature|cookie")
_MASK = "***"
_SHOWN_CHARS = 2000
"""Of a text in a request: enough for a prompt, too little to fill a disk."""


class Logbook:
    """Observer of a run, and of its requests at level debug.

    Args:
        secrets: what must not be in a line.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._given = tuple(secrets)
        self._secrets = Secrets(self._given)

    def on_event(self, event: Event) -> None:
        """Write ``event`` down."""
        match event:
            case RecordFinished(result=Success() as answer):
                if log.isEnabledFor(logging.DEBUG):
                    self._answered(answer)
            case RecordFinished(result=Failure() as failure):
                self._failed(failure)
            case AttemptFailed():
                self._retried(event)
            case RunStarted(output, finished_before):
                self._say(logging.INFO, "run started", output=output, finished_before=finished_before)
            case RunStopping(reason, in_flight):
                self._say(logging.WARNING, "run stopping", reason=reason, in_flight=in_flight)
            case Notice(message):
                self._say(logging.WARNING, message)

    def wrapped(self, transport: Transport, config: Config) -> Transport:
        """At level debug, one that writes each request down."""
        words = [word for text in texts_of(config.sampling.extra_fields()) for word in text.split()]
        self._secrets = Secrets((*self._given, *filter(_looks_secret, words)))
        return LoggedTransport(transport, self._secrets) if log.isEnabledFor(logging.DEBUG) else transport

    def attached(self, engine: Watched) -> AbstractContextManager[None]:
        """Nothing to be asked."""
        return nullcontext()

    def _answered(self, answer: Success) -> None:
        self._say(
            logging.DEBUG,
            "record answered",
            id=answer.id,
            endpoint=urlsplit(answer.endpoint).netloc,
            attempts=answer.attempts,
            latency_s=round(answer.latency_s, 3),
            prompt_tokens=answer.completion.usage.prompt_tokens,
            completion_tokens=answer.completion.usage.completion_tokens,
            finish_reason=answer.completion.finish_reason,
        )

    def _failed(self, failure: Failure) -> None:
        facts = self._facts(failure.error)
        self._say(logging.WARNING, "record failed", id=failure.id, attempts=failure.attempts, **facts)

    def _retried(self, event: AttemptFailed) -> None:
        wait_s = round(event.wait_s, 3)
        facts = self._facts(event.error)
        self._say(
            logging.INFO, "attempt failed", id=event.record_id, attempt=event.attempt, wait_s=wait_s, **facts
        )

    def _facts(self, error: VQAError) -> dict[str, Any]:
        facts = {"error": error.code, "reason": error.message, "status": getattr(error, "status", None)}
        return {name: value for name, value in facts.items() if value is not None}

    def _say(self, level: int, message: str, **facts: Any) -> None:
        shown = {k: self._secrets.removed(v) if isinstance(v, str) else v for k, v in facts.items()}
        log.log(level, "%s", self._secrets.removed(message), extra={"facts": shown})


class LoggedTransport:
    """Writes down what is sent and what comes back, at level debug.

    Args:
        transport: what carries the requests.
        secrets: what must not be in a line.
    """

    def __init__(self, transport: Transport, secrets: Secrets) -> None:
        self._transport = transport
        self._secrets = secrets

    async def send(self, request: Request) -> Response:
        """As the transport under it."""
        if not log.isEnabledFor(logging.DEBUG):
            return await self._transport.send(request)
        self._sent(request)
        started = time.monotonic()
        response = await self._transport.send(request)
        self._received(request, response, time.monotonic() - started)
        return response

    def _sent(self, request: Request) -> None:
        body = decoded(b"".join(request.body)) if request.body else None
        facts = {
            "method": request.method,
            "url": request.url,
            "headers": masked_headers(request.headers),
            "bytes": request.size,
            "body": self._cleaned(elided(body)) if body is not NOT_JSON else "<not JSON>",
        }
        log.debug("request", extra={"facts": facts})

    def _received(self, request: Request, response: Response, seconds: float) -> None:
        facts = {
            "url": request.url,
            "status": response.status,
            "headers": masked_headers(response.headers),
            "bytes": len(response.body),
            "seconds": round(seconds, 3),
            "start": self._start(self._secrets.removed_from(response).body),
        }
        log.debug("reply", extra={"facts": facts})

    def _start(self, body: bytes) -> str:
        value = decoded(body)
        if value is NOT_JSON:
            return excerpt(body)
        return shown(self._cleaned(value))  # again, for escapes may have hidden one

    def _cleaned(self, value: Any) -> Any:
        """``value`` without secrets, wherever they stand in it."""
        if isinstance(value, str):
            return self._secrets.removed(value)
        if isinstance(value, dict):
            return {self._secrets.removed(name): self._cleaned(item) for name, item in value.items()}
        return [self._cleaned(item) for item in value] if isinstance(value, list) else value


def masked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers as they may be shown: names, and the values of those that are known to say nothing secret."""
    return {str(n): str(v) if str(n).lower() in _PLAIN_HEADERS else _MASK for n, v in headers.items()}


def elided(value: Any, name: str = "") -> Any:
    """A request's JSON as it may be shown: images by their size, addresses without query, secrets masked."""
    if isinstance(value, dict):
        return {key: elided(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [elided(item, name) for item in value]
    if name and _SECRET_NAME.search(name) and isinstance(value, str):
        return _MASK
    return _shown(value) if isinstance(value, str) else value


def _shown(text: str) -> str:
    if text[:5].lower() == "data:":
        header, _, data = text.partition(",")
        size = len(data) * 3 // 4 - data[-2:].count("=")
        return f"<image {size:,} bytes {header[5:].partition(';')[0]}>"
    if re.match(r"(?i)https?://\S+$", text):
        address = re.split(r"[?#]", re.sub(r"//[^/@]*@", "//", text), maxsplit=1)
        return address[0] + ("?..." if len(address) > 1 else "")
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}... ({len(text):,} characters)"


def _looks_secret(word: str) -> bool:
    """Whether a word of the user's parameters may be a key: they are long, and of letters and digits."""
    return len(word) >= 16 and any(map(str.isdigit, word)) and any(map(str.isalpha, word))


def texts_of(value: Any) -> list[str]:
    """All texts that stand in a JSON value."""
    if isinstance(value, str):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for item in items for text in texts_of(item)]
