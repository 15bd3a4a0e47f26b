"""One run at a time on one output.

Two locks, both the system's own, so that they end with the process that holds them, even by ``kill -9``:
OUT.jsonl.lock, taken before anything is read, holds for every path that leads to the same name; a lock on
the output file itself also holds for its other names (hard links). The lock file stays behind, empty of
meaning: it must not be removed while a run may hold it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from vqa_async.errors import JournalLocked

_NO_LOCKS_HERE = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)

# Somebody who only asks for the state of a run holds the lock for microseconds: not worth a refusal.
_PATIENCE_S = 0.2

if sys.platform == "win32":

    def _try_flock(fd: int, *, shared: bool = False) -> bool:
        return True  # Windows has no such lock; the lock file alone decides
else:
    import fcntl

    def _try_flock(fd: int, *, shared: bool = False) -> bool:
        """Lock the open file; False where somebody else has it."""
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in _NO_LOCKS_HERE:
                raise
        return True


@contextmanager
def locked(lock: Path, output: Path) -> Iterator[str]:
    """Hold ``output`` by its lock file; gives a warning where this disk has no locks, else "".

    Raises:
        JournalLocked: another run holds it.
    """
    # Taken in a thread and given back by another.
    held = FileLock(lock, thread_local=False)
    try:
        held.acquire(timeout=_PATIENCE_S, poll_interval=_PATIENCE_S / 10)
    except Timeout:
        raise JournalLocked(
            f"Another run (process {_holder(lock)}) is writing {output}. "
            "Wait for it, stop it, or choose another -o."
        ) from None
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS_HERE:
            raise
        yield f"{output} cannot be locked on this disk: see to it that no second run writes it."
        return
    try:
        _sign(lock)
        yield ""
    finally:
        held.release()


@contextmanager
def claimed(output: Path) -> Iterator[None]:
    """Hold the output file itself for a while, if there is one, whatever name leads to it.

    Raises:
        JournalLocked: another run holds it.
    """
    if sys.platform == "win32":  # nothing to lock by, and an open file could not be replaced
        yield
        return
    try:
        fd = os.open(output, os.O_RDWR)
    except FileNotFoundError:
        yield
        return
    try:
        claim(fd, output)
        yield
    finally:
        os.close(fd)


def claim(fd: int, output: Path) -> None:
    """Hold the open file ``fd`` until it is closed.

    Raises:
        JournalLocked: another run holds it.
    """
    if not _try_flock(fd):
        raise JournalLocked(
            f"Another run is writing the file {output} under another name (a hard link). "
            "Wait for it, stop it, or choose another -o."
        )


def is_locked(lock: Path) -> bool:
    """Whether a run holds the output that ``lock`` belongs to."""
    if sys.platform == "win32":
        try:
            with FileLock(lock, timeout=0):
                return False
        except Timeout:
            return True
    try:
        fd = os.open(lock, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _try_flock(fd, shared=True)
    finally:
        os.close(fd)


@contextmanager
def read_only(lock: Path, output: Path) -> Iterator[None]:
    """Keep runs off ``output`` while it is read. Makes no file: it may lie where nothing can be written.

    Raises:
        JournalLocked: a run holds it.
    """
    if sys.platform == "win32":
        with locked(lock, output):
            yield
        return
    try:
        fd = os.open(lock, os.O_RDONLY)
    except FileNotFoundError:  # copied here without it
        yield
        return
    try:
        if not _try_flock(fd, shared=True):
            raise JournalLocked(
                f"A run (process {_holder(lock)}) is writing {output}. Wait for it or stop it, then again."
            )
        yield
    finally:
        os.close(fd)


def _sign(lock: Path) -> None:
    """Write into the lock file who holds it, for the message to others."""
    with contextlib.suppress(OSError):  # Windows lets nobody write to a locked file
        lock.write_text(f"{os.getpid()}\n")


def _holder(lock: Path) -> str:
    try:
        return lock.read_text().strip() or "unknown"
    except (OSError, UnicodeDecodeError):
        return "unknown"
