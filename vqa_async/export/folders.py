"""Folders replaced as a whole, and only those that an earlier export has made."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vqa_async.errors import ConfigError
from vqa_async.journal.json_text import from_json, to_json
from vqa_async.journal.replacing import sync_folder

_LIST = ".vqa-export.json"
"""Names every file of an export, so that a folder in which somebody keeps more is not thrown away."""


@contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """A new folder that takes the name ``target`` when the block ends without an error.

    Raises:
        ConfigError: there is something at ``target`` that no export has made.
        OSError: it cannot be written; the old folder is as it was.
    """
    require_ours(target)
    fresh = target.with_name(f".{target.name}.{secrets.token_hex(4)}.new")
    fresh.mkdir()
    try:
        yield fresh
        (fresh / _LIST).write_bytes(to_json({"made_by": "vqa-async", "files": sorted(_files(fresh))}))
        _take_name(fresh, target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    sync_folder(target.parent)


def require_ours(target: Path) -> None:
    """Refuse a folder that holds more than an earlier export, or a file.

    Raises:
        ConfigError: it does.
    """
    if not target.exists():
        return
    if not target.is_dir():
        raise ConfigError(f"The export {target} is a file, and this form makes a folder: choose another -o.")
    there = _files(target)
    try:
        made = set(from_json((target / _LIST).read_bytes())["files"]) | {_LIST}
    except (OSError, ValueError, LookupError, TypeError):
        made = set()
    if others := there - made:
        raise ConfigError(
            f"The folder {target} holds {min(others)}, which no export has made, and an export replaces all "
            "of it: choose another -o, or move that away."
        )


def _files(folder: Path) -> set[str]:
    found = set()
    for place, _, names in os.walk(folder):
        found |= {(Path(place) / name).relative_to(folder).as_posix() for name in names}
    return found


def _take_name(fresh: Path, target: Path) -> None:
    if not target.exists():
        fresh.rename(target)
        return
    old = fresh.with_suffix(".old.new")
    target.rename(old)
    try:
        fresh.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
