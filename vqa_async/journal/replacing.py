"""Files replaced in one step: the old one or the new one is there, never a half, and never none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


@contextmanager
def replaced(path: Path, *, mark: str = "") -> Iterator[BinaryIO]:
    """A new file that takes the name ``path`` when the block ends without an error.

    Keeps the permissions of the file that it replaces. What a killed process left unfinished under the
    temporary name is thrown away, so only one process may write here at a time, or each gives its own mark.

    Args:
        path: file to make or replace.
        mark: part of the temporary name, which is ``.NAME.MARKnew`` in the same folder.

    Raises:
        OSError: it cannot be written; the old file is as it was.
    """
    fresh = path.with_name(f".{path.name}.{mark}new")
    fresh.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(fresh, _FLAGS, 0o666), "wb", buffering=1 << 20) as file:
            _copy_mode(path, fresh)
            yield file
            sync_file(file)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    sync_folder(path.parent)


def open_fresh(path: Path) -> BinaryIO:
    """A new file at ``path``, in place of whatever is there; a link that was planted there is not followed.

    Raises:
        OSError: it cannot be made.
    """
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, _FLAGS, 0o666), "wb", buffering=1 << 20)


def _copy_mode(path: Path, fresh: Path) -> None:
    try:
        fresh.chmod(path.stat().st_mode & 0o7777)
    except FileNotFoundError:
        return  # nothing is replaced: the umask decides


def sync_file(file: BinaryIO) -> None:
    """Force what was written to ``file`` to the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make renames and new files in ``folder`` survive a power cut."""
    if os.name == "nt":  # Windows has no handle for a folder to sync
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
