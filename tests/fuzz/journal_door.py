"""The door for output files: whatever became of them, they are mended, or refused as they stand.

An input is a small program that spoils an output of five answers and four failures, byte by byte as below;
what is left of the output is then read back as at the start of a run.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from vqa_async.errors import ImageError, InputError, JournalDamaged, ServerError, VQAError
from vqa_async.journal import JournalPaths, survey
from vqa_async.journal.codec import decode_meta, encode_failure, encode_success
from vqa_async.journal.replay import SUCCEEDED, Replayed, replay
from vqa_async.models import Completion, Failure, QAPair, Record, Success, Usage

_RETRYABLE = ServerError("The endpoint answered 503.", status=503, endpoint="http://e/v1")
_PERMANENT = ImageError("a.png: it is not an image.", code="not_an_image")


def _success(n: int) -> bytes:
    record = Record(f"r{n}", n, {"image": [f"{n}.png"], "q": "é🖼️\n"[:n]}, ())
    completion = Completion("- Q: What?\n  A: This.", "m", "stop", Usage(10, 5))
    pairs = (QAPair("What?", "This."),)
    return encode_success(Success(record, completion, pairs, "http://e/v1", 1, 0.1, 1.0, "00"), "vqa")


def _failure(n: int, error: VQAError) -> bytes:
    return encode_failure(Failure(Record(f"r{n}", n, {"image": [f"{n}.png"]}, ()), error, 3, 1.0))


SUCCESSES = b"".join(_success(n) for n in range(5))
FAILURES = b"".join(
    _failure(n, error) for n, error in ((2, _RETRYABLE), (7, _RETRYABLE), (7, _PERMANENT), (8, _RETRYABLE))
)

CUT, FLIP, INSERT, DELETE, NULS, SWAP, REPEAT, APPEND, REPLACE, SEAL, OTHER_FILE = range(11)
"""What the bytes of a program do; each is followed by its operands, as ``_spoilt`` reads them."""

_MOST_OPERATIONS = 8
"""The rest of a program is left out: it would take longer and show no more."""

_KNOWN = 1
"""Set in the first byte: a run file says that the output is ours."""

SEEDS = [
    bytes([_KNOWN, CUT, 0, 99]),
    bytes([_KNOWN, CUT, *(len(SUCCESSES) - 1).to_bytes(2, "big")]),
    bytes([0, CUT, 3, 9, OTHER_FILE, CUT, 1, 7]),
    bytes([_KNOWN, FLIP, 1, 40, 1]),
    bytes([_KNOWN, INSERT, 1, 50, 5]) + b"oops\n",
    bytes([_KNOWN, DELETE, 1, 1, 90]),
    bytes([_KNOWN, CUT, 2, 9, NULS, 200]),
    bytes([_KNOWN, SWAP, 1, 3]),
    bytes([0, REPEAT, 2]),
    bytes([_KNOWN, APPEND, 6]) + b"\xf0\x9f\r\n[{" + bytes([OTHER_FILE, APPEND, 1]) + b"\n",
    bytes([0, REPLACE, 9]) + b'{"a": 1}\n',
    bytes([_KNOWN, SEAL, 40]) + b'{"a":1,"_meta":{"id":"x","index":3       ',
    bytes([_KNOWN, SEAL, 49]) + b'{"_meta":{"id":"\\ud800","index":0,"retryable":true ',
]
TOKENS = [
    *(b'"_meta":{"id": "index": "retryable": "crc":" "}} {" "x" null true false -1 [ ] \\ud800'.split()),
    *(b"\n", b"\r\n", b"\0" * 16, b"\xf0\x9f", b" \t", b'{"a": 1}\n', b',"_meta":{"id":"r1","index":1'),
    *(bytes([op, 0, 10]) for op in range(11)),
]


MOST_BYTES = 512
"""Longest input worth trying."""


class _Program:
    """The bytes of an input, taken one after the other; zeros behind its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def byte(self) -> int:
        return (self.take(1) or b"\0")[0]

    def place(self, size: int) -> int:
        """A place from 0 to ``size``."""
        return (self.byte() << 8 | self.byte()) % (size + 1)

    def take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        self._at += count
        return taken


def _spoilt(program: _Program) -> list[bytes]:
    """Both files after what the program does to them."""
    files, at = [SUCCESSES, FAILURES], 0
    for _ in range(_MOST_OPERATIONS):
        if not program:
            break
        operation = program.byte() % 11
        if operation == OTHER_FILE:
            at = 1 - at
        else:
            files[at] = _changed(files[at], operation, program)
    return files


def _changed(data: bytes, operation: int, program: _Program) -> bytes:
    match operation:
        case _ if operation in (SWAP, REPEAT):
            return _rearranged(data.splitlines(keepends=True), operation, program)
        case _ if operation in (APPEND, REPLACE, SEAL, NULS):
            return _extended(data, operation, program)
        case _:
            return _cut(data, operation, program)


def _cut(data: bytes, operation: int, program: _Program) -> bytes:
    at = program.place(len(data))
    if operation == CUT:
        return data[:at]
    if operation == DELETE:
        return data[:at] + data[at + program.byte() :]
    if operation == INSERT:
        return data[:at] + program.take(program.byte()) + data[at:]
    return data[:at] + bytes(byte ^ (program.byte() or 1) for byte in data[at : at + 1]) + data[at + 1 :]


def _rearranged(lines: list[bytes], operation: int, program: _Program) -> bytes:
    if lines:
        a, b = program.byte() % len(lines), program.byte() % len(lines)
        if operation == SWAP:
            lines[a], lines[b] = lines[b], lines[a]
        else:
            lines.insert(b, lines[a])
    return b"".join(lines)


def _extended(data: bytes, operation: int, program: _Program) -> bytes:
    if operation == NULS:
        return data + b"\0" * (16 * program.byte())
    text = program.take(program.byte())
    if operation == APPEND:
        return data + text
    if operation == REPLACE:
        return text
    return data + text + b',"crc":"%08x"}}\n' % zlib.crc32(text)  # as if somebody knew how lines are sealed


# --- the promise ---------------------------------------------------------------------------------------


def check(data: bytes) -> None:
    """Hold the reader of outputs to its promise.

    Raises:
        AssertionError: it broke it; so does any other exception.
    """
    program = _Program(data)
    known = bool(program.byte() & _KNOWN)
    successes, failures = _spoilt(program)
    with _folder() as folder:
        paths = JournalPaths.of(folder / "out.jsonl")
        paths.successes.write_bytes(successes)
        paths.failures.write_bytes(failures)
        check_reading(paths, known=known)


def check_reading(paths: JournalPaths, *, known: bool) -> None:
    """What is there is mended, or refused and then repaired, and nothing of it is lost."""
    before = _contents(paths)
    _look(paths)
    assert _contents(paths) == before
    try:
        result = _replay(paths, known=known)
    except JournalDamaged as error:
        assert _contents(paths) == before, "what is refused is not touched"
        assert str(paths.successes.parent) in error.message  # noqa: PT017 - a promise of this branch alone
        _check_repair(paths, before, known=known)
        return
    _check_mended(paths, before)
    check_whole(paths, result, known=known)


def _look(paths: JournalPaths) -> None:
    # A failure's line with a right checksum and without an error can only be made on purpose.
    if paths.failures.read_bytes().count(b'"_meta"') != paths.failures.read_bytes().count(b'"error":{"type"'):
        return
    with contextlib.suppress(InputError, JournalDamaged):
        survey(paths)


def _check_repair(paths: JournalPaths, before: dict[str, bytes], *, known: bool) -> None:
    try:
        result = _replay(paths, known=known, repair=True)
    except JournalDamaged as error:
        assert error.code == "foreign"  # noqa: PT017 - likewise
        assert not known
        assert _contents(paths) == before
        return
    kept: Counter[bytes] = Counter()
    for name, data in _contents(paths).items():
        kept.update(_lines(data) if ".torn-" not in name else data.split(b"\n"))
    for data in before.values():
        kept.subtract(_lines(data))
    assert not [line for line, count in kept.items() if count < 0], "a line was lost"
    check_whole(paths, result, known=known)


def _check_mended(paths: JournalPaths, before: dict[str, bytes]) -> None:
    """The whole lines of a file with a torn end are as they were, and what was cut off stands beside it."""
    after = _contents(paths)
    for path in (paths.successes, paths.failures):
        was, now = before[path.name], after[path.name]
        torn = b"".join(data for name, data in after.items() if name.startswith(f"{path.name}.torn-"))
        assert now + torn == was or (now == was + b"\n" and not torn)


def check_whole(paths: JournalPaths, result: Replayed, *, known: bool) -> None:
    """After reading back: whole lines, each record once, and reading again finds nothing more to do."""
    lines = _lines(paths.successes.read_bytes())
    metas = [decode_meta(line) for line in lines]
    ids = [meta.id for meta in metas if meta is not None]
    assert len(set(ids)) == len(lines) == result.succeeded
    assert all(result.state.get(id) == SUCCEEDED for id in ids)
    for line in lines + _lines(paths.failures.read_bytes()):
        meta = decode_meta(line)
        assert meta is not None
        assert result.state.get(meta.id) is not None
    for path in (paths.successes, paths.failures):
        assert path.read_bytes()[-1:] in (b"", b"\n")
    after = _contents(paths)
    again = _replay(paths, known=known or bool(ids))
    assert again.notices == []
    assert (again.succeeded, again.superseded) == (result.succeeded, result.superseded)
    assert _contents(paths) == after


def _replay(paths: JournalPaths, *, known: bool, repair: bool = False) -> Replayed:
    return replay(paths.successes, paths.failures, paths.damaged, repair=repair, known=known)


def _lines(data: bytes) -> list[bytes]:
    return data.removesuffix(b"\n").split(b"\n") if data else []


def _contents(paths: JournalPaths) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in paths.successes.parent.iterdir()}


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    quick = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="vqa-door-", dir=quick) as name:
        yield Path(name)
