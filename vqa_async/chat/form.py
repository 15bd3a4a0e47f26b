"""Messages -> request body. What is the same for every record is serialised once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

import orjson

from vqa_async.chat.body import Body, Pieces, opening_of
from vqa_async.config import Sampling
from vqa_async.errors import RecordError
from vqa_async.models import Asked, ImageRef, Message, PreparedImage, Role
from vqa_async.prompts import DEFAULT_SYSTEM_PROMPT

_OPENINGS = {role: f',{{"role":"{role}","content":'.encode() for role in get_args(Role)}
"""How a message begins that is not the first."""


class RequestForm:
    """Turns messages into request bodies; what is the same for every record is serialised once.

    Args:
        model: model name to ask for.
        sampling: system prompt and parameters.
        detail: the API's ``detail`` setting for images, None to leave it out.
        system: system prompt in place of that of ``sampling``, composed from it.
        fixed: request parameters that a record's own do not replace.
        words: what is said below the question.
    """

    def __init__(
        self,
        model: str,
        sampling: Sampling,
        *,
        detail: str | None = None,
        system: str | None = None,
        fixed: Mapping[str, Any] | None = None,
        words: str = "",
    ) -> None:
        opening = opening_of(model)
        self._opening = len(opening)
        self._start = opening + b',"messages":['
        if system is None:
            system = DEFAULT_SYSTEM_PROMPT if sampling.system_prompt is None else sampling.system_prompt
        self._system = _system(system)
        self._fixed = dict(fixed or {})
        self._words = words
        self._parameters = _parameters(sampling) | self._fixed
        self._end = _end(self._parameters)
        self._image_end = (f'","detail":"{detail}"' if detail else '"').encode() + b"}}"

    def body(
        self,
        messages: Sequence[Message],
        images: Sequence[PreparedImage],
        asked: Asked | None = None,
        room: int | None = None,
    ) -> Body:
        """The request body for ``messages``, whose image references stand for ``images`` in order.

        Args:
            messages: the conversation.
            images: its images, prepared.
            asked: what of it is the record's own.
            room: length of the answer at most, in tokens, in place of what the parameters say.

        Raises:
            RecordError: a text holds unpaired surrogates, which no JSON body can carry.
        """
        pieces = Pieces(self._start)
        system, end = self._system, self._end
        if asked is not None:
            system = system if asked.system is None else _system(asked.system)
            end = end if asked.params is None else _end(self._own(asked))
        if room is not None:
            own = self._own(asked)
            end = _end({**own, _room_in(own): room})
        if self._words:
            messages = _with_words(messages, self._words)
        if "system" in [message.role for message in messages]:
            system = b""
        pieces.text(system)
        rest = iter(images)
        for number, message in enumerate(messages):
            pieces.text(_OPENINGS[message.role] if number or system else _OPENINGS[message.role][1:])
            self._content(message.parts, rest, pieces)
            pieces.text(b"}")
        pieces.text(end)
        return pieces.body(self._opening)

    def room(self, asked: Asked | None) -> int | None:
        """Length of a record's answer at most, in tokens; None where that is left to the endpoint."""
        own = self._own(asked)
        room = own.get(_room_in(own))
        return room if isinstance(room, int) else None

    def _own(self, asked: Asked | None) -> Mapping[str, Any]:
        if asked is None or asked.params is None:
            return self._parameters
        return _merged(self._parameters, asked.params) | self._fixed

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


def _room_in(parameters: Mapping[str, Any]) -> str:
    """The name under which the length of an answer is bounded; some models know only the newer one."""
    return "max_completion_tokens" if "max_completion_tokens" in parameters else "max_tokens"


def _with_words(messages: Sequence[Message], words: str) -> Sequence[Message]:
    """``messages`` with ``words`` below the last of the user's turns."""
    at = max((n for n, message in enumerate(messages) if message.role == "user"), default=-1)
    if at < 0:
        return (*messages, Message("user", (words,)))
    *before, last = messages[at].parts or ("",)
    parts = (*before, f"{last}\n\n{words}") if isinstance(last, str) else (*before, last, words)
    return (*messages[:at], Message("user", parts), *messages[at + 1 :])
