"""OUT.batches.jsonl: what was handed to a provider's batch API. Each step is noted before it and after it.

Append-only, one JSON object a line, forced to the disk at once, each with a checksum at its end as in the
other files. The newest line of a submission or of a part is how that stands. An end that was torn by a kill
is passed over and cut off by the next note; anything else that is not as it was written is refused.

A part is one file of requests, and one batch. Its steps:

    made        the file is there, whole; nothing was sent
    uploading   the file may be at the provider, under a name that no other has
    uploaded    ... and is: ``file_id``
    creating    a batch may be at the provider, with our ``key`` in its metadata
    created     ... and is: ``batch_id``
    fetched     all that came of it is in the journal

Beside it stand, while they are needed, OUT.batch-NNNN.requests.jsonl and OUT.batch-NNNN.records.jsonl.
No key and no header is ever in any of them.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from vqa_async.errors import BatchesPending, JournalDamaged
from vqa_async.journal.json_text import from_json, to_json
from vqa_async.journal.replacing import sync_folder
from vqa_async.journal.writer import disk_error

_CRC = b',"crc":"%08x"}'
_TAIL = len(_CRC % 0)


@dataclass(frozen=True, slots=True)
class Submission:
    """What was asked for with ``batch submit``.

    Attributes:
        key: marks all that belongs to this output at the provider.
        endpoint: base URL of the provider.
        config: the options that are needed to read the answers, by group and name.
        source: input, limit and format, as ``run`` takes them.
        is_complete: whether all of the input is in batches.
    """

    key: str
    endpoint: str
    config: dict[str, Any]
    source: dict[str, Any]
    is_complete: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """One file of requests and its batch; see the steps above.

    Attributes:
        number: from 1.
        step: the newest.
        requests, bytes: what is in the file.
        at: Unix time of the step.
        file_id, batch_id: the provider's, "" before they are known.
        status: how its batch ended, "" before.
        counts: what came of it, once it is fetched.
    """

    number: int
    step: str
    requests: int
    bytes: int
    at: float
    file_id: str = ""
    batch_id: str = ""
    status: str = ""
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def is_pending(self) -> bool:
        """Whether its records wait for an answer."""
        return self.step != "fetched"


class BatchLog:
    """The file, read when this is made; one process writes it, the one that holds the output's lock.

    Raises:
        JournalDamaged: it is not as it was written.
        DiskError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.submission: Submission | None = None
        self.parts: dict[int, Part] = {}
        self._end = 0
        try:
            self._read()
        except OSError as error:
            raise disk_error(path, error) from None

    def __repr__(self) -> str:
        return f"<BatchLog {self.path.name}: {len(self.parts)} parts, {len(self.pending)} pending>"

    @property
    def pending(self) -> list[Part]:
        """The parts whose records wait, in order."""
        return [part for _, part in sorted(self.parts.items()) if part.is_pending]

    def requests_of(self, number: int) -> Path:
        """The file of requests of a part."""
        return self._beside(number, "requests")

    def records_of(self, number: int) -> Path:
        """The file that says which record each request of a part is for."""
        return self._beside(number, "records")

    def results_of(self, number: int, of: int) -> Path:
        """Where a file of results of a part is while it is read."""
        return self._beside(number, f"results-{of}")

    def _beside(self, number: int, what: str) -> Path:
        stem = self.path.name.removesuffix(".batches.jsonl")
        return self.path.with_name(f"{stem}.batch-{number:04}.{what}.jsonl")

    def remove_leftovers(self) -> None:
        """Remove the files that no step needs any more, as a killed process may have left them."""
        for part in self.parts.values():
            if part.step in ("created", "fetched"):
                self.requests_of(part.number).unlink(missing_ok=True)
            if part.step == "fetched":
                self.records_of(part.number).unlink(missing_ok=True)

    def remove_unfinished(self) -> None:
        """Remove the files of the part that was being filled; only for who holds the output's lock."""
        number = self.next_number
        for path in (self.requests_of(number), self.records_of(number)):
            path.unlink(missing_ok=True)

    @property
    def next_number(self) -> int:
        """The number of the part that is made next."""
        return max(self.parts, default=0) + 1

    def require_none_pending(self, output: Path) -> None:
        """Refuse to ask about records that wait in batches.

        Raises:
            BatchesPending: says how many there are and what to do.
        """
        if pending := self.pending:
            records = sum(part.requests for part in pending)
            raise BatchesPending(
                f"{records:,} records of {output} wait in {len(pending):,} "
                f"batch{'' if len(pending) == 1 else 'es'}. Fetch them first: vqa-async batch fetch "
                f"{output}; or add --despite-batches to ask about them now and pay for them twice."
            )

    def note(self, *entries: Submission | Part) -> None:
        """Keep how these stand; when this returns, a power cut cannot undo it.

        Raises:
            DiskError: the disk is full or failing.
        """
        try:
            self._append(b"".join(map(_line, entries)))
        except OSError as error:
            raise disk_error(self.path, error) from None
        for entry in entries:
            self._take(entry)

    def _append(self, block: bytes) -> None:
        is_new = not self.path.exists()
        with self.path.open("r+b" if not is_new else "xb") as file:
            file.truncate(self._end)
            file.seek(self._end)
            file.write(block)
            file.flush()
            os.fsync(file.fileno())
        self._end += len(block)
        if is_new:
            sync_folder(self.path.parent)

    def _take(self, entry: Submission | Part) -> None:
        if isinstance(entry, Submission):
            self.submission = entry
        else:
            self.parts[entry.number] = entry

    def _read(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                entry = _entry(line)
                if entry is None and not line.endswith(b"\n"):
                    return
                if entry is None:
                    raise JournalDamaged(
                        f"{self.path}, line {number}, is not as it was written. Nothing was sent. Put the "
                        "file back as it was: it says what is at the provider."
                    )
                self._take(entry)
                self._end += len(line)


def _line(entry: Submission | Part) -> bytes:
    kind = "submission" if isinstance(entry, Submission) else "part"
    body = to_json({"kind": kind, **asdict(entry)})[:-1]
    return body + _CRC % zlib.crc32(body) + b"\n"


def _entry(line: bytes) -> Submission | Part | None:
    """The entry in ``line``, None where it is not as it was written."""
    body, tail = line[: -_TAIL - 1], line[-_TAIL - 1 :]
    if tail != _CRC % zlib.crc32(body) + b"\n":
        return None
    values = from_json(body + b"}")
    kind = Submission if values.pop("kind") == "submission" else Part
    known = {f.name for f in fields(kind)}
    return kind(**{name: value for name, value in values.items() if name in known})


def lines_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file with their places, one in memory at a time."""
    place = 0
    with path.open("rb") as file:
        for line in file:
            yield place, line
            place += len(line)
