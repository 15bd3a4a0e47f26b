"""Messages -> request body. What is the same for every record is serialised once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import get_args

import orjson

from vqa_async.chat.body import Body, Pieces, opening_of
from vqa_async.config import Sampling
from vqa_async.errors import RecordError
from vqa_async.models import ImageRef, Message, PreparedImage, Role
from vqa_async.prompts import DEFAULT_SYSTEM_PROMPT

_OPENINGS = {role: f',{{"role":"{role}","content":'.encode() for role in get_args(Role)}
"""How a message begins that is not the first."""


class RequestForm:
    """Turns messages into request bodies; what is the same for every record is serialised once.

    Args:
        model: model name to ask for.
        sampling: system prompt and parameters.
        detail: the API's ``detail`` setting for images, None to leave it out.
    """

    def __init__(self, model: str, sampling: Sampling, *, detail: str | None = None) -> None:
        opening = opening_of(model)
        self._opening = len(opening)
        self._start = opening + b',"messages":['
        prompt = DEFAULT_SYSTEM_PROMPT if sampling.system_prompt is None else sampling.system_prompt
        self._system = orjson.dumps({"role": "system", "content": prompt}) if prompt else b""
        self._end = b"]" + _parameters(sampling) + b"}"
        self._image_end = (f'","detail":"{detail}"' if detail else '"').encode() + b"}}"

    def body(self, messages: Sequence[Message], images: Sequence[PreparedImage]) -> Body:
        """The request body for ``messages``, whose image references stand for ``images`` in order.

        Raises:
            RecordError: a text holds unpaired surrogates, which no JSON body can carry.
        """
        pieces = Pieces(self._start)
        system = b"" if any(message.role == "system" for message in messages) else self._system
        pieces.text(system)
        rest = iter(images)
        for number, message in enumerate(messages):
            pieces.text(_OPENINGS[message.role] if number or system else _OPENINGS[message.role][1:])
            self._content(message.parts, rest, pieces)
            pieces.text(b"}")
        pieces.text(self._end)
        return pieces.body(self._opening)

    def _content(
        self, parts: Sequence[str | ImageRef], images: Iterator[PreparedImage], pieces: Pieces
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


def _parameters(sampling: Sampling) -> bytes:
    """The request's parameters as `,"name":value` pairs; empty where all are the endpoint's own."""
    chosen = {
        "temperature": sampling.temperature,
        "max_tokens": sampling.max_tokens,
        "seed": sampling.seed,
    }
    given = {name: value for name, value in chosen.items() if value is not None} | sampling.extra_fields()
    return b"," + orjson.dumps(given)[1:-1] if given else b""
