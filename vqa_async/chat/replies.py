"""The body of a 200 -> completion, or the error that it stands for."""

from __future__ import annotations

from typing import Any

from vqa_async.chat.excerpts import NOT_JSON, decoded, excerpt, shown
from vqa_async.chat.refusals import error_in_ok_reply
from vqa_async.errors import ResponseError
from vqa_async.models import Completion, Usage


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
    reply = decoded(body)
    if reply is NOT_JSON:
        raise _not_json(body)
    if not isinstance(reply, dict):
        raise _malformed("is not a JSON object", body)
    return reply


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
        raise _no_text("refused", f"The model refused: {shown(message['refusal'], 200)!r}", body)
    if message.get("tool_calls") or message.get("function_call"):
        raise _no_text("unexpected_tool_call", "The model called a tool instead of answering.", body)
    content = message.get("content")
    if isinstance(content, list):
        content = _join_parts(content, body)
    if isinstance(content, str) and (content[:1].isalnum() or any(map(_is_seen, content))):
        return content
    if content is None or isinstance(content, str):
        cut_off = finish_reason == "length"
        reason = " (cut off at max_tokens before any text: raise --max-tokens)" if cut_off else ""
        error = _no_text("empty_response", f"The model's answer is empty{reason}.", body)
        error.cut_off = cut_off
        raise error
    raise _no_text("malformed_content", "The answer's content is not text.", body)


_INVISIBLE = "\0\u200b\u200c\u200d\u2060\ufeff"
"""Characters that show nothing and are no blanks: an answer of these and of blanks alone is empty."""


def _is_seen(char: str) -> bool:
    return not char.isspace() and char not in _INVISIBLE


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
    reply = decoded(body)
    return _usage(reply.get("usage")) if isinstance(reply, dict) else Usage()


def _count(value: object) -> int:
    return int(value) if isinstance(value, int | float) and 0 <= value < 1e15 else 0
