"""The chat-completions protocol: a record's messages -> request body, reply bytes -> completion or error.

No network, no clock: bytes and values in, bytes and values out.

A body is built in pieces. All that surrounds the images is serialised into small buffers; the base64 text of
an image is put between them as the very bytes object that the image cache holds. It is never put into a
Python dict, run through a JSON encoder or concatenated, so a request costs one reference per image,
whatever the image's size.

Every reply becomes a Completion or one error of errors.py. What the many servers that call themselves
OpenAI-compatible really send (error as a string, as a list, in ``detail``, in a 200) is read here only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple, get_args

import orjson

from vqa_async.config import Sampling
from vqa_async.errors import (
    AuthError,
    EndpointNotFound,
    ModelNotFound,
    QuotaExceeded,
    RateLimited,
    RecordError,
    Rejected,
    RequestError,
    ResponseError,
    ServerError,
    StatusError,
)
from vqa_async.models import Asked, Completion, ImageRef, Message, PreparedImage, Role, Usage
from vqa_async.prompts import DEFAULT_SYSTEM_PROMPT

EXCERPT_CHARS = 300
"""How much of a reply an error shows: enough to recognise it, too little to fill a log."""

_SMALL = 4096
"""Pieces below this are copied into the surrounding buffer: one send call less for each."""


class Body(NamedTuple):
    """A request body, ready to send.

    Attributes:
        pieces: the body's bytes in order.
        size: bytes in all.
        digest: 128-bit hex digest of the texts, the parameters and the contents of the images.
        opening: how many of the bytes come before what is the same for every model: ``{"model":"..."``.
        text_bytes: bytes that are no image.
    """

    pieces: tuple[bytes, ...]
    size: int
    digest: str
    opening: int
    text_bytes: int

    def for_model(self, opening: bytes) -> tuple[tuple[bytes, ...], int]:
        """Pieces and size of the same body with ``opening`` in place of its own, for an endpoint that knows
        the model by another name."""
        first, *rest = self.pieces
        if first.startswith(opening):
            return self.pieces, self.size
        return (opening + first[self.opening :], *rest), self.size + len(opening) - self.opening


def opening_of(model: str) -> bytes:
    """The first bytes of a request for ``model``."""
    return b'{"model":' + orjson.dumps(model)


_OPENINGS = {role: f',{{"role":"{role}","content":'.encode() for role in get_args(Role)}
"""How a message begins that is not the first."""


class _Pieces:
    """Collects bytes: small ones are joined, large ones kept by reference. ``text`` adds a small one."""

    __slots__ = ("_digest", "_image_bytes", "_pieces", "_small", "text")

    def __init__(self, start: bytes) -> None:
        self._image_bytes = 0
        self._small = [start]
        self._pieces: list[bytes] = []
        self._digest = blake2b(digest_size=16)
        self.text = self._small.append

    def image(self, image: PreparedImage) -> None:
        # The image counts in the digest by its own: hashing its base64 again would cost more than the rest.
        self._digest.update(image.digest.encode())
        self._image_bytes += image.size
        for piece in image.pieces:
            if len(piece) < _SMALL:
                self.text(piece)
            else:
                self._flush()
                self._pieces.append(piece)

    def _flush(self) -> None:
        if self._small:
            joined = b"".join(self._small)
            self._small.clear()
            self._digest.update(joined)
            self._pieces.append(joined)

    def body(self, opening: int) -> Body:
        self._flush()
        size = sum(map(len, self._pieces))
        digest = self._digest.hexdigest()
        return Body(tuple(self._pieces), size, digest, opening, size - self._image_bytes)


class RequestForm:
    """Turns messages into request bodies; what is the same for every record is serialised once.

    Args:
        model: model name to ask for.
        sampling: system prompt and parameters.
        detail: the API's ``detail`` setting for images, None to leave it out.
        system: system prompt in place of that of ``sampling``, composed from it.
    """

    def __init__(
        self, model: str, sampling: Sampling, *, detail: str | None = None, system: str | None = None
    ) -> None:
        opening = opening_of(model)
        self._opening = len(opening)
        self._start = opening + b',"messages":['
        if system is None:
            system = DEFAULT_SYSTEM_PROMPT if sampling.system_prompt is None else sampling.system_prompt
        self._system = _system(system)
        self._parameters = _parameters(sampling)
        self._end = _end(self._parameters)
        self._image_end = (f'","detail":"{detail}"' if detail else '"').encode() + b"}}"

    def body(
        self, messages: Sequence[Message], images: Sequence[PreparedImage], asked: Asked | None = None
    ) -> Body:
        """The request body for ``messages``, whose image references stand for ``images`` in order.

        ``asked`` says what of it is the record's own.

        Raises:
            RecordError: a text holds unpaired surrogates, which no JSON body can carry.
        """
        pieces = _Pieces(self._start)
        system, end = self._system, self._end
        if asked is not None:
            system = system if asked.system is None else _system(asked.system)
            end = end if asked.params is None else _end(_merged(self._parameters, asked.params))
        if any(message.role == "system" for message in messages):
            system = b""
        pieces.text(system)
        rest = iter(images)
        for number, message in enumerate(messages):
            pieces.text(_OPENINGS[message.role] if number or system else _OPENINGS[message.role][1:])
            self._content(message.parts, rest, pieces)
            pieces.text(b"}")
        pieces.text(end)
        return pieces.body(self._opening)

    def _content(
        self, parts: Sequence[str | ImageRef], images: Iterator[PreparedImage], pieces: _Pieces
    ) -> None:
        if len(parts) == 1 and isinstance(parts[0], str):
            pieces.text(_string(parts[0]))  # plain text: the form that every server knows
            return
        pieces.text(b"[")
        comma = b""
        for part in parts:
            if isinstance(part, str):
                pieces.text(comma + b'{"type":"text","text":' + _string(part) + b"}")
                comma = b","
            else:
                pieces.text(comma + b'{"type":"image_url","image_url":{"url":"')
                comma = b","
                pieces.image(next(images))
                pieces.text(self._image_end)
        pieces.text(b"]")


def _string(text: str) -> bytes:
    """``text`` as a JSON string."""
    try:
        return orjson.dumps(text)
    except orjson.JSONEncodeError:
        raise RecordError(
            "The conversation holds unpaired surrogates (such as \\ud800), which are no characters: mend it.",
            code="invalid_text",
        ) from None


def _system(prompt: str) -> bytes:
    """The system prompt as a message; empty where there is none."""
    return b'{"role":"system","content":' + _string(prompt) + b"}" if prompt else b""


def _end(parameters: Mapping[str, Any]) -> bytes:
    """The end of a body: the request's parameters."""
    return b"]," + orjson.dumps(parameters)[1:] if parameters else b"]}"


def _merged(parameters: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """``parameters`` with a record's own in their place, of which None leaves one to the endpoint."""
    left_out = {name for name, value in own.items() if value is None}
    return {name: value for name, value in {**parameters, **own}.items() if name not in left_out}


def _parameters(sampling: Sampling) -> dict[str, Any]:
    """The parameters of every request."""
    chosen = {
        "temperature": sampling.temperature,
        "max_tokens": sampling.max_tokens,
        "seed": sampling.seed,
    }
    return {name: value for name, value in chosen.items() if value is not None} | sampling.extra_fields()


# --- replies -------------------------------------------------------------------------------------------


def read_completion(body: bytes) -> Completion:
    """The completion in the body of a 200 reply.

    Raises:
        ResponseError: it is not one, or holds no text; ``code`` says which. ``retryable`` is False where
            the model did answer, only not with text.
        StatusError: the body is an error that came with status 200.
    """
    reply = _decode(body)
    choice = _first_choice(reply, body)
    message = choice.get("message")
    if not isinstance(message, dict):
        raise _malformed("has no message", body)
    finish_reason = choice.get("finish_reason")
    text = _text_of(message, finish_reason, body)
    model = reply.get("model")
    return Completion(
        text=text,
        model=model if isinstance(model, str) else "",
        finish_reason=finish_reason if isinstance(finish_reason, str) else "",
        usage=_usage(reply.get("usage")),
    )


def _decode(body: bytes) -> dict[str, Any]:
    reply = _json(body)
    if reply is _NOT_JSON:
        raise _not_json(body)
    if not isinstance(reply, dict):
        raise _malformed("is not a JSON object", body)
    return reply


_NOT_JSON = object()


def _json(body: bytes) -> Any:
    # The parser's exception holds the whole reply, and would stay with any error raised in its handler.
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return _NOT_JSON


def _not_json(body: bytes) -> ResponseError:
    head = body[:512].lstrip().lower()
    if head.startswith(b"<"):
        return ResponseError(
            "The endpoint answered with a web page instead of JSON: the address is not that of a chat API. "
            f"Check --base-url; it usually ends in /v1. The page begins {excerpt(body, 200)!r}.",
            code="html_response",
            excerpt=excerpt(body),
        )
    if head.startswith((b"data:", b"event:", b": ")):
        return ResponseError(
            "The endpoint answered with an event stream, which was not asked for.",
            code="unexpected_stream",
            excerpt=excerpt(body),
        )
    return _malformed("is not valid JSON", body)


def _malformed(what: str, body: bytes) -> ResponseError:
    return ResponseError(f"The endpoint's reply {what}: {excerpt(body, 120)!r}", excerpt=excerpt(body))


def _first_choice(reply: dict[str, Any], body: bytes) -> dict[str, Any]:
    choices = reply.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        choice: dict[str, Any] = choices[0]
        # Routers that lose their upstream in the middle send what they have, and the error beside it.
        if choice.get("error") or choice.get("finish_reason") == "error":
            raise error_in_ok_reply({"error": choice.get("error") or "the answer was broken off"})
        return choice
    if reply.get("error"):
        raise error_in_ok_reply(reply)
    raise _malformed("has no choices", body)


def _text_of(message: dict[str, Any], finish_reason: object, body: bytes) -> str:
    if finish_reason == "content_filter":
        raise _no_text("content_filter", "The endpoint's content filter withheld the answer.", body)
    if message.get("refusal"):
        raise _no_text("refused", f"The model refused: {_shown(message['refusal'], 200)!r}", body)
    if message.get("tool_calls") or message.get("function_call"):
        raise _no_text("unexpected_tool_call", "The model called a tool instead of answering.", body)
    content = message.get("content")
    if isinstance(content, list):
        content = _join_parts(content, body)
    if isinstance(content, str) and any(not char.isspace() and char not in _INVISIBLE for char in content):
        return content
    if content is None or isinstance(content, str):
        reason = (
            " (cut off at max_tokens before any text: raise --max-tokens)"
            if finish_reason == "length"
            else ""
        )
        raise _no_text("empty_response", f"The model's answer is empty{reason}.", body)
    raise _no_text("malformed_content", "The answer's content is not text.", body)


_INVISIBLE = "\0\u200b\u200c\u200d\u2060\ufeff"
"""Characters that show nothing and are no blanks: an answer of these and of blanks alone is empty."""


def _join_parts(parts: list[Any], body: bytes) -> str:
    texts = [part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)]
    if len(texts) != len(parts):
        raise _no_text("malformed_content", "The answer holds parts that are not text.", body)
    return "".join(texts)


def _no_text(code: str, message: str, body: bytes) -> ResponseError:
    return ResponseError(message, code=code, excerpt=excerpt(body), retryable=False)


def _usage(usage: object) -> Usage:
    if not isinstance(usage, dict):
        return Usage()
    return Usage(_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")))


def read_usage(body: bytes) -> Usage:
    """What a reply says that it took, of whatever kind it is; zeros where it does not say."""
    reply = _json(body)
    return _usage(reply.get("usage")) if isinstance(reply, dict) else Usage()


def _count(value: object) -> int:
    return int(value) if isinstance(value, int | float) and 0 <= value < 1e15 else 0


def excerpt(body: bytes, chars: int = EXCERPT_CHARS) -> str:
    """The start of a reply as printable text on one line."""
    text = body[: chars * 4].decode("utf-8", "replace")
    return printable(text)[:chars]


def printable(text: str) -> str:
    """``text`` on one line, with controls and bidirectional overrides replaced by spaces."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _shown(value: object, chars: int = EXCERPT_CHARS) -> str:
    """The start of whatever stands where a text should, as printable text on one line."""
    return printable(_text(value)[: 4 * chars])[:chars]


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return orjson.dumps(value, default=str).decode()
    except orjson.JSONEncodeError:  # it reads 1,024 levels and writes 254
        return "<nested too deep>"


# --- errors --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _ErrorFacts:
    """What an error reply says, in whatever form it says it.

    ``words`` are the short ones that name the cause (``code``, ``type``), in lower case, the best first.
    """

    message: str
    words: tuple[str, ...] = ()

    def says(self, words: frozenset[str]) -> bool:
        return not words.isdisjoint(self.words)


def error_in_ok_reply(reply: Mapping[str, Any]) -> RequestError:
    """The error for a body, or a choice in it, with an ``error`` field that came with status 200."""
    facts = _facts(reply)
    error = reply.get("error")
    status = _status(error.get("code")) if isinstance(error, dict) else None
    meant = status or next((_STATUS_OF[word] for word in facts.words if word in _STATUS_OF), None)
    if meant is not None:
        return _classify(meant, facts, None)
    return ResponseError(
        f"The endpoint answered 200 with an error: {facts.message or 'no message'}", excerpt=facts.message
    )


def _status(code: object) -> int | None:
    """An HTTP status that stands where an error code may stand, as a number or as text."""
    status = int(code) if isinstance(code, str) and code.isdecimal() and len(code) == 3 else code
    return status if isinstance(status, int) and 400 <= status < 600 else None


_QUOTA = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
_UNKNOWN_MODEL = frozenset({"model_not_found", "invalid_model", "unknown_model"})
_CONTENT = frozenset({"content_filter", "content_policy_violation", "context_length_exceeded"})
_STATUS_OF = {
    **dict.fromkeys(_QUOTA, 429),
    **dict.fromkeys(_UNKNOWN_MODEL, 404),
    **dict.fromkeys(_CONTENT, 400),
    "rate_limit_exceeded": 429,
    "invalid_api_key": 401,
}
"""Error words whose meaning does not depend on the status that they come with."""


def read_error(status: int, body: bytes, *, retry_after_s: float | None, location: str = "") -> StatusError:
    """The error that a reply other than 200 stands for.

    Args:
        status: HTTP status.
        body: the reply's body, at most as large as the transport's cap.
        retry_after_s: the wait that the server asked for, None where it did not.
        location: the Location header, for redirects.
    """
    if 300 <= status < 400:
        target = f" to {printable(location)[:200]}" if location else ""
        return EndpointNotFound(
            f"The endpoint redirects{target} (status {status}); redirects are not followed, because images "
            "and key would go to another address. Give the final address with --base-url.",
            status=status,
            code="unexpected_redirect",
        )
    return _classify(status, _facts_of(body), retry_after_s)


_TAG = re.compile(rb"<(style|script|head)\b.*?</\1>|<[^>]*>", re.IGNORECASE | re.DOTALL)


def _facts_of(body: bytes) -> _ErrorFacts:
    reply = _json(body)
    if body[:512].lstrip().lower().startswith((b"<!doctype", b"<html")):
        return _ErrorFacts(excerpt(_TAG.sub(b" ", body[:4096])).rstrip(". ") or "a web page")
    facts = _facts(reply) if isinstance(reply, dict) else _ErrorFacts("")
    return facts if facts.message else _ErrorFacts(excerpt(body).rstrip(". "), facts.words)


def _facts(reply: Mapping[str, Any]) -> _ErrorFacts:
    """Message and words from the forms in use: error object or string, ``message``, ``detail``."""
    error = reply.get("error")
    holder = error if isinstance(error, dict) else reply
    message = next((holder[key] for key in ("message", "detail", "error") if holder.get(key)), "")
    words = [holder.get("code"), holder.get("type")]
    return _ErrorFacts(
        _shown(message).rstrip(". "),
        tuple(word.strip().lower().replace(" ", "_")[:80] for word in words if isinstance(word, str)),
    )


def _classify(status: int, facts: _ErrorFacts, retry_after_s: float | None) -> StatusError:
    kind = _kind(status, facts)
    return kind(
        _SENTENCES.get(kind, "The endpoint answered {status}: {message}").format(
            status=status, message=facts.message or "no message"
        ),
        status=status,
        retry_after_s=retry_after_s,
        code=_code(kind, facts),
        excerpt=facts.message,
    )


def _code(kind: type[StatusError], facts: _ErrorFacts) -> str | None:
    """The server's own word where a record is rejected (context_length_exceeded); ours elsewhere."""
    telling = (word for word in facts.words if _WORD.fullmatch(word) and not word.endswith("error"))
    return next(telling, None) if kind is Rejected else None


_WORD = re.compile(r"[a-z]+(_[a-z]+)+")


_SENTENCES: dict[type[StatusError], str] = {
    AuthError: "The endpoint refuses the API key ({status}): {message}",
    QuotaExceeded: "The account has no quota or credit left ({status}): {message}. "
    "Top it up or use another key, then run the same command again.",
    ModelNotFound: "The endpoint does not serve this model ({status}): {message}. Check --model.",
    EndpointNotFound: "There is no chat API at this address ({status}): {message}. "
    "Check --base-url; it usually ends in /v1.",
    RateLimited: "The endpoint limits the rate ({status}): {message}",
    ServerError: "The endpoint has trouble ({status}): {message}",
    Rejected: "The endpoint rejects this request ({status}): {message}",
}


def _kind(status: int, facts: _ErrorFacts) -> type[StatusError]:
    """The class of an error, by status first and by the server's words where a status has two meanings."""
    if status == 402 or facts.says(_QUOTA):
        return QuotaExceeded
    if 400 <= status < 500 and facts.says(_CONTENT):
        return Rejected  # some say so with 403
    if status in (401, 403):
        return AuthError
    if status == 404:
        return ModelNotFound if _names_model(facts) else EndpointNotFound
    if status in (405, 501):
        return EndpointNotFound
    if status == 400 and _unknown_model(facts):
        return ModelNotFound
    if status == 429:
        return RateLimited
    if status in (408, 409, 425) or status >= 500 or status < 400:
        return ServerError
    return Rejected


def _names_model(facts: _ErrorFacts) -> bool:
    return "model" in facts.message.lower() or any("model" in word for word in facts.words)


def _unknown_model(facts: _ErrorFacts) -> bool:
    """Whether a 400 is about the model and not about this record. Some gateways answer so.

    The sentence may quote the record, and records may say anything about models: so it counts only where it
    begins with the model, and gives its name in quotes or after an equals sign.
    """
    return facts.says(_UNKNOWN_MODEL) or _MODEL_SENTENCE.match(facts.message) is not None


_MODEL_SENTENCE = re.compile(
    r"""(?ix)
    (?: \{? ['"]? [\w/.]+ ['"]? :\s+ ['"]? ){0,3}           # litellm.BadRequestError: /chat/completions:
    (?: invalid\s+model\s+name\s+passed\s+in\s+model=
      | (?:invalid|unknown)\s+model:?\s+ [`'"]? [\w./:@-]+ [`'"]? $
      | (?:the\s+)? (?:requested\s+)? model \s+ (?P<quote>[`'"]) [\w./:@-]+ (?P=quote) \s+
        (?: does\s+not\s+exist | (?:is\s+|was\s+)?not\s+found | is\s+not\s+(?:available|supported|served) )
      | [\w.-]+/[\w./:@-]+ \s+ is\s+not\s+a\s+valid\s+model\s+id
      | model\s+not\s+(?:exist|found) $
    )""",
)
