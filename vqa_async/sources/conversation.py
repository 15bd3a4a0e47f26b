"""A conversation in any of the forms that data sets use, read into messages with the images in place.

Forms: ShareGPT turns (``from``, ``value``), OpenAI messages (``role``, ``content`` as text or as parts), or
one plain string, which is a single user turn. Two steps: first each turn becomes a role and its parts, then
the images of the row's image field go where ``<image>`` stands, or before the text of the last user turn.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from vqa_async.errors import RecordError
from vqa_async.models import ImageRef, Message, Role
from vqa_async.sources.references import describe, read_image

PLACEHOLDER = "<image>"

_ROLES: dict[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "system": "system",
    "developer": "system",
}

_Parts: TypeAlias = "tuple[str | ImageRef, ...]"
_Turn: TypeAlias = "tuple[Role, _Parts]"
_PlainTurn: TypeAlias = "tuple[Role, tuple[str]]"


def read_conversation(conversation: Any, field: str, images: list[ImageRef]) -> tuple[Message, ...]:
    """The messages to send.

    Args:
        conversation: the value of the row's conversation field, or the prompt that stands in for it.
        field: name of that field, for messages about it.
        images: what the row's image field refers to.

    Raises:
        RecordError: it is no conversation, or the placeholders do not match the images.
    """
    question = _only_question(conversation)
    if question is not None:
        return (Message("user", (*images, question)),)
    turns = _read_turns(conversation, field)
    asking = _last_user_turn(turns, field)
    if placeholders := _count_placeholders(turns):
        turns = _fill(turns, images, placeholders, field)
    elif images:
        turns[asking] = ("user", (*images, *turns[asking][1]))
    return tuple([Message(role, parts) for role, parts in turns])


def _only_question(conversation: Any) -> str | None:
    """The text of the usual conversation, one user turn without placeholders; None for any other."""
    if type(conversation) is not list or len(conversation) != 1:
        return None
    turn = _read_plain_turn(conversation[0])
    if turn is None or turn[0] != "user" or PLACEHOLDER in turn[1][0]:
        return None
    return turn[1][0]


def _read_turns(conversation: Any, field: str) -> list[_Turn]:
    if isinstance(conversation, str):
        return [("user", (_text(conversation, field),))]
    if not isinstance(conversation, list | tuple):
        raise RecordError(f"{field} must be a list of turns or a string, not {describe(conversation)}.")
    return [
        _read_plain_turn(turn) or _read_turn(turn, f"{field}[{number}]")
        for number, turn in enumerate(conversation)
    ]


def _last_user_turn(turns: list[_Turn], field: str) -> int:
    for number in range(len(turns) - 1, -1, -1):
        if turns[number][0] == "user":
            return number
    raise RecordError(f"{field} has no user turn, so nothing is asked.", code="no_user_turn")


def _count_placeholders(turns: list[_Turn]) -> int:
    count = 0
    for _, parts in turns:
        for part in parts:
            if isinstance(part, str):
                count += part.count(PLACEHOLDER)
    return count


def _read_plain_turn(turn: Any) -> _PlainTurn | None:
    """The usual turn, without building the names that only messages need; None for any other, good or bad."""
    if type(turn) is not dict:
        return None
    name, text = turn.get("from"), turn.get("value")
    if type(name) is not str or type(text) is not str or name not in _ROLES or not text or text.isspace():
        return None
    return _ROLES[name], (text,)


def _read_turn(turn: Any, path: str) -> _Turn:
    if not isinstance(turn, dict):
        raise RecordError(f"{path} must be an object, not {describe(turn)}.")
    if "from" in turn:
        return _role(turn["from"], f"{path}.from"), (_text(turn.get("value"), f"{path}.value"),)
    if "role" in turn:
        return _role(turn["role"], f"{path}.role"), _content(turn.get("content"), f"{path}.content")
    raise RecordError(f'{path} has neither "from" nor "role", so nobody says it.')


def _role(name: Any, path: str) -> Role:
    role = _ROLES.get(name.lower()) if isinstance(name, str) else None
    if role is None:
        shown = repr(name[:40]) if isinstance(name, str) else describe(name)
        raise RecordError(f"{path} is {shown}; it must be one of {', '.join(_ROLES)}.", code="unknown_role")
    return role


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise RecordError(f"{path} must be text, not {describe(value)}.")
    if not value or value.isspace():
        raise RecordError(f"{path} is empty.")
    return value


def _content(content: Any, path: str) -> _Parts:
    if not isinstance(content, list):
        return (_text(content, path),)
    if not content:
        raise RecordError(f"{path} is empty.")
    return tuple(_read_part(part, f"{path}[{number}]") for number, part in enumerate(content))


def _read_part(part: Any, path: str) -> str | ImageRef:
    if not isinstance(part, dict):
        raise RecordError(f"{path} must be an object, not {describe(part)}.")
    kind = part.get("type")
    if kind == "text":
        return _text(part.get("text"), f"{path}.text")
    if kind == "image_url":
        return _read_image_part(part.get("image_url"), f"{path}.image_url")
    shown = repr(kind[:40]) if isinstance(kind, str) else describe(kind)
    raise RecordError(f"{path}.type is {shown}; it must be text or image_url.")


def _read_image_part(image_url: Any, path: str) -> ImageRef:
    if isinstance(image_url, dict):
        return read_image(image_url.get("url"), f"{path}.url")
    return read_image(image_url, path)


def _fill(turns: list[_Turn], images: list[ImageRef], placeholders: int, field: str) -> list[_Turn]:
    if placeholders != len(images):
        raise RecordError(
            f"{field} has {_counted(placeholders, f'{PLACEHOLDER} placeholder')}, "
            f"but the row has {_counted(len(images), 'image')}.",
            code="image_count",
        )
    left = iter(images)
    return [(role, tuple(piece for part in parts for piece in _split(part, left))) for role, parts in turns]


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _split(part: str | ImageRef, images: Any) -> list[str | ImageRef]:
    """A part with an image at each placeholder. The newline that data sets put beside one goes with it."""
    if isinstance(part, ImageRef) or PLACEHOLDER not in part:
        return [part]
    first, *rest = part.split(PLACEHOLDER)
    pieces: list[str | ImageRef] = [first.removesuffix("\n")]
    for number, text in enumerate(rest, 1):
        text = text.removeprefix("\n")
        pieces += [next(images), text if number == len(rest) else text.removesuffix("\n")]
    return [piece for piece in pieces if piece]
