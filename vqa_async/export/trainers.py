"""Conversations in the forms that trainers read. Pure; one function a form.

sharegpt  LLaMA-Factory: as many ``<image>`` as images, human and gpt by turns
llava     LLaVA, LLaVA-OneVision: the same, a line for each ``<image>``; text-only rows have no image
swift     ms-swift: messages
openai    OpenAI vision fine-tuning: messages with image_url parts, images of users alone
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vqa_async.errors import ImageError
from vqa_async.export.conversations import Conversation, Part, inline, plain
from vqa_async.export.pictures import Picture

Row = dict[str, Any]

_OPENAI_IMAGES = 10
_OPENAI_BYTES = 10 << 20
_OPENAI_KINDS = ("jpg", "png", "webp")


def sharegpt(conversation: Conversation, pictures: Sequence[Picture]) -> Row:
    """A row for LLaMA-Factory."""
    return {
        "id": conversation.id,
        "conversations": [
            {"from": "gpt" if number % 2 else "human", "value": inline(parts)}
            for number, parts in enumerate(conversation.turns)
        ],
        "system": plain(conversation.system),
        "images": [picture.reference for picture in pictures],
    }


def llava(conversation: Conversation, pictures: Sequence[Picture]) -> Row:
    """A row for LLaVA's trainers."""
    references = [picture.reference for picture in pictures]
    row: Row = {"id": conversation.id}
    if references:
        row["image"] = references[0] if len(references) == 1 else references
    turns = [_image_first(parts) if len(references) == 1 else parts for parts in conversation.turns]
    if conversation.system:  # the form has no place of its own for it
        turns[0] = _with_system(conversation.system, turns[0])
    row["conversations"] = [
        {"from": "gpt" if number % 2 else "human", "value": inline(parts, after="\n")}
        for number, parts in enumerate(turns)
    ]
    return row


def _image_first(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """The trainer would move a single image to the front of its turn, so it is written there."""
    return tuple(sorted(parts, key=lambda part: isinstance(part, str)))


def _with_system(system: str, parts: tuple[Part, ...]) -> tuple[Part, ...]:
    images = tuple(part for part in parts if isinstance(part, int))
    texts = tuple(part for part in parts if isinstance(part, str))
    return (*images, system, "\n", *texts)


def swift(conversation: Conversation, pictures: Sequence[Picture]) -> Row:
    """A row for ms-swift."""
    system = [{"role": "system", "content": plain(conversation.system)}] if conversation.system else []
    turns = [
        {"role": "assistant" if number % 2 else "user", "content": inline(parts)}
        for number, parts in enumerate(conversation.turns)
    ]
    return {"messages": [*system, *turns], "images": [picture.data_uri for picture in pictures]}


def openai(conversation: Conversation, pictures: Sequence[Picture]) -> Row:
    """A row for OpenAI's vision fine-tuning.

    Raises:
        ImageError: it has an image that is not taken there, or too many.
    """
    if len(pictures) > _OPENAI_IMAGES:
        raise ImageError(f"a row has {len(pictures)} images; OpenAI takes {_OPENAI_IMAGES}.")
    for picture in pictures:
        if picture.data is not None:
            _require_taken(picture, picture.data)
    system: list[Row] = [{"role": "system", "content": conversation.system}] if conversation.system else []
    turns: list[Row] = [
        {"role": "assistant", "content": "".join(map(str, parts))}
        if number % 2
        else {"role": "user", "content": [_openai_part(part, pictures) for part in parts]}
        for number, parts in enumerate(conversation.turns)
    ]
    return {"messages": [*system, *turns]}


def _require_taken(picture: Picture, data: bytes) -> None:
    if picture.suffix not in _OPENAI_KINDS or len(data) > _OPENAI_BYTES:
        raise ImageError(
            f"Image {picture.reference!r} is not taken by OpenAI: it must be JPEG, PNG or WebP, "
            "of 10 MiB at most."
        )


def _openai_part(part: Part, pictures: Sequence[Picture]) -> Row:
    if isinstance(part, int):
        return {"type": "image_url", "image_url": {"url": pictures[part].data_uri}}
    return {"type": "text", "text": part}
