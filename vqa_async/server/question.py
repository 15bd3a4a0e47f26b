"""The body of a chat request, read strictly: bytes -> Question, or a Refusal that names the field.

Strict because a body that a real endpoint refuses must not pass here. Images are only located, not
decoded. No socket, no clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from vqa_async.server.options import ServerOptions
from vqa_async.server.refusals import Refusal
from vqa_async.server.wanted import Wanted, read_wanted

_ROLES = ("system", "developer", "user", "assistant", "tool", "function")


@dataclass(frozen=True, slots=True)
class Picture:
    """One image of a request: where it stands, and its ``data:`` URI or address."""

    place: str
    url: str = field(repr=False)
    detail: str

    @property
    def inline(self) -> bool:
        """Whether the image itself was sent, and not only its address."""
        return self.url[:5].lower() == "data:"


@dataclass(frozen=True, slots=True)
class Question:
    """What a request asks.

    Attributes:
        model: name of the model asked for.
        texts: every piece of text, all turns.
        asked: text of the last user turn.
        pictures: all images, in order.
        max_tokens: length of the answer at most, None where not limited.
        wanted: the form that the answer is wanted in.
    """

    model: str
    texts: tuple[str, ...]
    asked: str
    pictures: tuple[Picture, ...]
    max_tokens: int | None
    wanted: Wanted


def read_question(body: bytes, options: ServerOptions) -> Question:
    """The Question in ``body``.

    Raises:
        Refusal: 400 where the body is not a request that can be answered, 404 for another model.
    """
    request = _read_object(body)
    model = _read_model(request, options)
    _refuse_unsupported(request)
    messages = _read_messages(request)
    texts = tuple(text for message in messages for text in message.texts)
    pictures = tuple(picture for message in messages for picture in message.pictures)
    if options.max_images and len(pictures) > options.max_images:
        said = f"The request has {len(pictures)} images; this endpoint takes at most {options.max_images}."
        raise Refusal(400, said, param="messages", code="too_many_images")
    asked = next((" ".join(m.texts) for m in reversed(messages) if m.role == "user"), "")
    wanted = read_wanted(request, asked, options)
    return Question(model, texts, asked, pictures, _read_max_tokens(request), wanted)


@dataclass(frozen=True, slots=True)
class _Message:
    role: str
    texts: tuple[str, ...]
    pictures: tuple[Picture, ...]


def _read_object(body: bytes) -> Mapping[str, Any]:
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal(400, f"The request body is not JSON: {error}.") from None
    if not isinstance(request, dict):
        raise Refusal(400, "The request body must be a JSON object.")
    return request


def _read_model(request: Mapping[str, Any], options: ServerOptions) -> str:
    model = request.get("model")
    if not isinstance(model, str) or not model:
        raise Refusal(400, "The request must name a model.", param="model")
    if model not in options.model:
        said = f"The model '{model[:100]}' does not exist here; there is {', '.join(options.model)}."
        raise Refusal(404, said, param="model", code="model_not_found")
    return model


def _refuse_unsupported(request: Mapping[str, Any]) -> None:
    if request.get("stream"):
        raise _unsupported("stream", "This endpoint does not stream: leave 'stream' out.")
    if request.get("n") not in (None, 1):
        raise _unsupported("n", "This endpoint gives one answer: leave 'n' out.")
    temperature = request.get("temperature")
    if temperature is not None and not (_is_number(temperature) and 0 <= temperature <= 2):
        raise _unsupported("temperature", "'temperature' must be a number from 0 to 2.")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _unsupported(param: str, message: str) -> Refusal:
    return Refusal(400, message, param=param, code="unsupported_value")


def _read_max_tokens(request: Mapping[str, Any]) -> int | None:
    for param in ("max_completion_tokens", "max_tokens"):
        value = request.get(param)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise Refusal(400, f"'{param}' must be a whole number, 1 or more.", param=param)
        return value
    return None


def _read_messages(request: Mapping[str, Any]) -> list[_Message]:
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refusal(400, "'messages' must be a list of at least one message.", param="messages")
    return [_read_message(message, f"messages[{at}]") for at, message in enumerate(messages)]


def _read_message(message: object, place: str) -> _Message:
    if not isinstance(message, dict) or message.get("role") not in _ROLES:
        raise Refusal(400, f"{place} must be an object with a role of {', '.join(_ROLES)}.", param=place)
    parts = list(_read_content(message, f"{place}.content"))
    texts = tuple(part for part in parts if isinstance(part, str))
    return _Message(message["role"], texts, tuple(part for part in parts if isinstance(part, Picture)))


def _read_content(message: Mapping[str, Any], place: str) -> Iterator[str | Picture]:
    content = message.get("content")
    if isinstance(content, str):
        yield content
    elif isinstance(content, list) and content:
        for at, part in enumerate(content):
            yield _read_part(part, f"{place}[{at}]")
    elif not (content is None and message["role"] == "assistant"):
        raise Refusal(400, f"{place} must be a text or a list of parts.", param=place)


def _read_part(part: object, place: str) -> str | Picture:
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(part, dict) and kind == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    if isinstance(part, dict) and kind == "image_url":
        return _read_picture(part.get("image_url"), f"{place}.image_url")
    raise Refusal(400, f"{place} must be a part of type text or image_url.", param=place)


def _read_picture(image: object, place: str) -> Picture:
    url = image.get("url") if isinstance(image, dict) else None
    if not isinstance(image, dict) or not isinstance(url, str):
        raise Refusal(400, f"{place} must be an object with a 'url'.", param=place)
    if url[:8].lower().partition(":")[0] not in ("data", "http", "https"):
        said = f"{place}.url must be a data: URI or an http(s) address."
        raise Refusal(400, said, param=place, code="invalid_image_url")
    detail = image.get("detail") or "auto"
    if detail not in ("auto", "low", "high"):
        raise Refusal(400, f"{place}.detail must be auto, low or high.", param=place)
    return Picture(place, url, detail)
