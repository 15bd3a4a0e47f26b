"""The values that pass between rooms: a record going in, a result coming out. Frozen, slotted, no behaviour.

A row of the input stays the dict it was read as and passes through untouched (``Record.row``); what the
engine needs from it stands beside it in typed form (``Record.messages``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from vqa_async.errors import VQAError

Role: TypeAlias = Literal["system", "user", "assistant"]
ImageKind: TypeAlias = Literal["path", "url", "data", "bytes"]


@dataclass(frozen=True, slots=True)
class ImageRef:
    """Where an image comes from.

    ``value`` is a path (as written, absolute or relative), an http(s) URL, a ``data:`` URI, or the bytes of
    an image file.
    """

    kind: ImageKind
    value: str | bytes

    def __repr__(self) -> str:
        shown = f"{self.value!r}" if self.kind in ("path", "url") else f"{len(self.value)} long"
        return f"ImageRef({self.kind}: {shown})"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation: text and images in the order in which the model sees them."""

    role: Role
    parts: tuple[str | ImageRef, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """The questions that one row asks, each a record of its own.

    Attributes:
        id: identity of the row; the ids of its records begin with it.
        number: which of the questions, from 1.
        of: how many there are.
    """

    id: str
    number: int
    of: int


@dataclass(frozen=True, slots=True)
class Asked:
    """What of a record's request is its own, beside its messages.

    Attributes:
        params: request parameters in place of the run's; a None leaves one to the endpoint.
        system: system prompt in place of the run's, unless the messages have one; "" sends none, and None
            leaves it to the run.
        style: the question style that it was given, "" where none was.
        question: the question of the row's list that this record asks, "" where it has no list.
        group: that list.
    """

    params: Mapping[str, Any] | None = None
    system: str | None = None
    style: str = ""
    question: str = ""
    group: Group | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One request to make.

    Attributes:
        id: stable identity, the same after the input was reordered or extended.
        index: position in the input, from 0; exports are sorted by it.
        row: the input row, passed through to the output unchanged.
        messages: the conversation to send, images in place, without the default system prompt.
        folder: where relative image paths are looked for first ("" means only the working directory).
        asked: what else is its own of the request; None for what is asked as the run asks.
    """

    id: str
    index: int
    row: Mapping[str, Any]
    messages: tuple[Message, ...]
    folder: str = ""
    asked: Asked | None = None

    @property
    def images(self) -> tuple[ImageRef, ...]:
        """All images of the conversation, in order."""
        return tuple([part for m in self.messages for part in m.parts if isinstance(part, ImageRef)])


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """What goes into a request for one image.

    Attributes:
        pieces: the value of ``image_url.url`` in JSON-safe pieces, sent one after the other and never joined.
        size: bytes in all pieces together.
        digest: XXH3 (128 bit, hex) of the image file that is sent; of the URL, where that is passed on. It
            tells contents apart by accident, not by intent: nothing is looked up by it.
        width: pixels, 0 where unknown.
        height: pixels, 0 where unknown.
    """

    pieces: tuple[bytes, ...]
    size: int
    digest: str
    width: int = 0
    height: int = 0

    def __repr__(self) -> str:  # never the pieces: they would end up in logs
        return f"PreparedImage({self.width}x{self.height}, {self.size:,} bytes)"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the endpoint counted them; 0 where it did not say."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Completion:
    """What the model answered.

    Attributes:
        text: the answer, never empty.
        model: the model's name as the reply gives it ("" where it does not).
        finish_reason: ``stop``, ``length`` (cut off at max_tokens), or what else the endpoint says.
        usage: tokens spent; where the answer had to be asked for again, by all those answers together.
    """

    text: str
    model: str
    finish_reason: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class QAPair:
    """One question with its answer.

    ``flags`` names the checks of quality/ that have something against it.
    """

    question: str
    answer: str
    flags: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Success:
    """A record that was answered.

    Attributes:
        record: what was asked.
        completion: the answer.
        pairs: question-answer pairs read from the answer; empty where it holds none.
        endpoint: base URL that answered.
        attempts: requests sent for it, this one included; not those whose form an endpoint refused.
        latency_s: seconds the last attempt took, first byte sent to last byte read.
        finished_at: Unix time in seconds.
        request_digest: 128-bit hex digest of the request (texts, parameters, image contents).
        structured: the answer as a JSON value, where it was asked for by a schema of the user's; else None.
        batch: id of the provider's batch that it came with; "" for an answer that was asked for live.
    """

    record: Record
    completion: Completion
    pairs: tuple[QAPair, ...]
    endpoint: str
    attempts: int
    latency_s: float
    finished_at: float
    request_digest: str
    structured: Any = None
    batch: str = ""

    ok: Literal[True] = True

    @property
    def id(self) -> str:
        """The record's id."""
        return self.record.id

    @property
    def text(self) -> str:
        """The answer's text."""
        return self.completion.text


@dataclass(frozen=True, slots=True)
class Failure:
    """A record that was not answered, and why.

    Attributes:
        record: what was to be asked; for a row that is no record, ``messages`` is empty.
        error: the reason; ``error.retryable`` says whether the next run tries again.
        attempts: requests sent for it (0: it never left this machine).
        finished_at: Unix time in seconds.
        batch: id of the provider's batch that it failed in, "" where it was asked live.
    """

    record: Record
    error: VQAError
    attempts: int
    finished_at: float
    batch: str = ""

    ok: Literal[False] = False

    @property
    def id(self) -> str:
        """The record's id."""
        return self.record.id


Result: TypeAlias = Success | Failure


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """An attempt failed and will be repeated after ``wait_s`` seconds."""

    record_id: str
    error: VQAError
    attempt: int
    wait_s: float
