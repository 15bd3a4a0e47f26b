"""The kinds of errors that a run has met: how many of each, and the sentence of the last."""

from __future__ import annotations

from vqa_async.errors import VQAError
from vqa_async.watch.snapshot import ErrorView


class ErrorsSeen:
    """Counts errors by their code; there are few kinds, however many errors."""

    def __init__(self) -> None:
        self._kinds: dict[str, list[int]] = {}
        self._last: dict[str, VQAError] = {}

    def failed(self, error: VQAError) -> None:
        """A record ended with ``error``."""
        self._note(error, 0)

    def retried(self, error: VQAError) -> None:
        """An attempt ended with ``error``, and is repeated."""
        self._note(error, 1)

    def _note(self, error: VQAError, column: int) -> None:
        counts = self._kinds.pop(error.code, [0, 0])
        counts[column] += 1
        self._kinds[error.code] = counts  # the latest stands last
        self._last[error.code] = error

    def views(self) -> tuple[ErrorView, ...]:
        """The latest kind first."""
        return tuple(
            ErrorView(code, failed, retried, self._last[code].message)
            for code, (failed, retried) in reversed(self._kinds.items())
        )
