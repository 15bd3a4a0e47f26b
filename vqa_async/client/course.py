"""One record on its way: what is asked, who is to be told, and what happened so far."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from hashlib import blake2b
from typing import NamedTuple, TypeVar

from vqa_async.chat import Body
from vqa_async.endpoints import EndpointState
from vqa_async.errors import RequestError, VQAError
from vqa_async.models import AttemptFailed, PreparedImage, Record, Result
from vqa_async.spending import Spending
from vqa_async.transport import Phase

Save = Callable[[Result], Awaitable[None]]
"""Keeps a result; when it returns, the result is safe."""


IMAGES = "their images"
TURN = "their turn"
BUDGET = "what requests in flight leave of the budget"
RETRY = "another try"
JOURNAL = "the journal"
"""What records wait for that are not on the wire; what those wait for, ``Phase`` names."""


class Wait(NamedTuple):
    """What some records wait for.

    Attributes:
        what: in words.
        records: how many.
        longest_s: for how long the one that has waited longest, in seconds.
    """

    what: str
    records: int
    longest_s: float


class Course:
    """One record on its way: what is asked, who is to be told, and what happened so far."""

    __slots__ = (
        "asking",
        "body",
        "count",
        "counted",
        "counts",
        "endpoint",
        "first_at",
        "first_error",
        "images",
        "may_retry",
        "notify",
        "once",
        "phase",
        "record",
        "save",
        "spending",
        "spent_s",
    )

    body: Body
    once: str

    def __init__(
        self,
        record: Record,
        save: Save | None,
        may_retry: Callable[[], bool],
        notify: Callable[[AttemptFailed], None],
        spending: Spending,
    ) -> None:
        self.record = record
        self.spending = spending
        self.save = save
        self.may_retry = may_retry
        self.notify = notify
        self.count = 0
        self.counted = 0  # of them, those that say something of the record
        self.counts = True  # whether the last of them was one
        self.spent_s = 0.0  # seconds on the wire and backing off, but not waiting for a permit
        self.images: Sequence[PreparedImage] = ()
        self.phase = Phase(IMAGES, 0.0)
        self.first_at = 0.0
        self.endpoint: EndpointState | None = None
        self.first_error: RequestError | None = None
        self.asking: object = None  # whoever asks again keeps here what it must know

    def sizes(self) -> list[tuple[int, int]]:
        """Width and height of each image."""
        return [(image.width, image.height) for image in self.images]

    def elapsed_s(self, now: float) -> float:
        """Seconds since the first attempt began."""
        return now - self.first_at if self.count else 0.0


def idempotency_key(record: Record, body: Body) -> str:
    """The same for every attempt at ``record``, in this run and in later ones that ask the same.

    Repeats of a question are records of their own, and so have keys of their own; the body counts too,
    because a server that knows the key but not the body refuses the request.
    """
    return blake2b(f"{record.id}\n{body.digest}".encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


_E = TypeVar("_E", bound=VQAError)


def detached(error: _E) -> _E:
    """``error`` without traceback and context: through their frames it would keep the images in memory."""
    error.__traceback__ = error.__context__ = error.__cause__ = None
    return error
