"""An example as conversations to train on. Pure.

The pairs are the turns, each question with its answer; an example without pairs is the conversation that was
sent, with the answer. Images go in front of the first question, or stay where the conversation has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from vqa_async.export.example import Example, Pair
from vqa_async.models import ImageRef
from vqa_async.sources.conversation import PLACEHOLDER

Part: TypeAlias = "str | int"
"""Text, or the number of an image."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """One row of a trainer's form.

    Attributes:
        id: the example's, with ``#`` and a number where it is one of several.
        system: system prompt, "" for none.
        turns: user and assistant by turns, the user first.
        pairs: the pairs that it holds.
    """

    id: str
    system: str
    turns: tuple[tuple[Part, ...], ...]
    pairs: tuple[Pair, ...]


def conversations(example: Example, *, system: str = "", as_rows: bool = False) -> Iterator[Conversation]:
    """One conversation with all the pairs, or one for each."""
    images = tuple(range(len(example.images)))
    if not example.pairs:
        own = "\n".join(_text(m.parts) for m in example.asked if m.role == "system")
        yield Conversation(example.id, system or own, (*_asked(example), (example.text,)), ())
    elif not as_rows:
        yield Conversation(example.id, system, _turns(images, example.pairs), example.pairs)
    else:
        for number, pair in enumerate(example.pairs, 1):
            yield Conversation(f"{example.id}#{number}", system, _turns(images, (pair,)), (pair,))


def inline(parts: tuple[Part, ...], *, after: str = "") -> str:
    """A turn as one text, with a placeholder for each image and ``after`` behind it.

    Trainers count placeholders. One that a model wrote, or that stood in a question, gets blanks inside.
    """
    return "".join(PLACEHOLDER + after if isinstance(part, int) else plain(part) for part in parts)


def plain(text: str) -> str:
    """A text without placeholders for images."""
    return text.replace(PLACEHOLDER, "< image >") if PLACEHOLDER in text else text


def _turns(images: tuple[int, ...], pairs: tuple[Pair, ...]) -> tuple[tuple[Part, ...], ...]:
    first, *rest = (turn for pair in pairs for turn in ((pair.question,), (pair.answer,)))
    return ((*images, *first), *rest)


def _asked(example: Example) -> tuple[tuple[Part, ...], ...]:
    """What was sent, as user, assistant, ..., user; what an assistant says before any user is left out."""
    numbers = iter(range(len(example.images)))
    turns: list[tuple[str, list[Part]]] = []
    for message in example.asked:
        parts: list[Part] = [next(numbers) if isinstance(p, ImageRef) else p for p in message.parts]
        if message.role == "system" or (message.role == "assistant" and not turns):
            continue
        if turns and turns[-1][0] == message.role:
            turns[-1][1].extend(("\n", *parts))
        else:
            turns.append((message.role, parts))
    turns = turns or [("user", [])]
    if turns[-1][0] == "assistant":  # an answer that was to be gone on with
        turns.append(("user", [""]))
    return _placed(example, turns)


def _placed(example: Example, turns: list[tuple[str, list[Part]]]) -> tuple[tuple[Part, ...], ...]:
    everything = list(range(len(example.images)))
    shown = [part for role, parts in turns for part in parts if role == "user" and isinstance(part, int)]
    if shown != everything:  # in turns that no user says: all of them go to the front
        turns = [(role, [p for p in parts if isinstance(p, str)]) for role, parts in turns]
        turns[0] = ("user", [*everything, *turns[0][1]])
    return tuple(tuple(parts) for _, parts in turns)


def _text(parts: tuple[str | ImageRef, ...]) -> str:
    return "".join(part for part in parts if isinstance(part, str))
