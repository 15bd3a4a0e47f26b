"""Writes an export: into a temporary file beside the target, which takes its name only when it is whole."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterable
from dataclasses import astuple
from pathlib import Path
from typing import Any, BinaryIO

from vqa_async.errors import ConfigError
from vqa_async.export.forms import format_for
from vqa_async.export.ordered import Place, ordered_lines
from vqa_async.journal import JournalPaths
from vqa_async.journal.json_text import to_json
from vqa_async.journal.replacing import replaced
from vqa_async.journal.runfile import load

_LEFT_BEHIND_S = 3600.0
"""An export that nothing was written to for this long was killed."""


def export(
    output: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    format: str = "",
    place: Place | None = None,
) -> int:
    """Write the answers of ``output`` to ``target``, in input order; returns how many.

    Args:
        output: OUT.jsonl of a run; the run may be unfinished.
        target: file to write; replaced if it exists.
        place: see ``ordered_lines``; needed where the input was reordered or cut since it was answered.
        format: ``json`` (the guide's form) or ``jsonl`` (everything); by the target's suffix if "".

    Raises:
        ConfigError: unknown format, or the target cannot be written.
        InputError: there is no such output.
        JournalDamaged: the output is not as it was written.
    """
    target = Path(target)
    form = format_for(target, format)
    paths = JournalPaths.of(output)
    target = _followed(target)
    if target in astuple(paths):
        raise ConfigError(f"The export would overwrite the output {target} itself. Choose another -o.")
    run = load(paths.run)
    key = run["settings"].get("conversation_key", "conversation") if run else "conversation"
    lines = (
        form.select(line, key) for line in ordered_lines(paths.successes, known=run is not None, place=place)
    )
    try:
        _sweep(target)
        with replaced(target, mark=f"{secrets.token_hex(4)}.") as file:
            return _write_array(file, lines) if form.is_array else _write_lines(file, lines)
    except OSError as error:
        raise ConfigError(f"The export {target} cannot be written: {error.strerror}.") from None


def _followed(target: Path) -> Path:
    """``target`` with links followed: the file is replaced, not the link to it."""
    try:
        return target.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle; a NUL in the name
        raise ConfigError(f"The export {str(target)!r} cannot be a file: {error}.") from None


def _sweep(target: Path) -> None:
    """Remove what exports to ``target`` left that were killed."""
    start, long_ago = f".{target.name}.", time.time() - _LEFT_BEHIND_S
    with os.scandir(target.parent) as entries:
        left = [e for e in entries if e.name.startswith(start) and e.name.endswith(".new")]
    for entry in left:
        if entry.stat(follow_symlinks=False).st_mtime < long_ago:
            Path(entry.path).unlink(missing_ok=True)


def _write_array(file: BinaryIO, lines: Iterable[dict[str, Any]]) -> int:
    count = 0
    file.write(b"[")
    for count, line in enumerate(lines, 1):
        text = to_json([line], indent=True)
        file.write((b"\n" if count == 1 else b",\n") + text.removeprefix(b"[\n").removesuffix(b"\n]"))
    file.write(b"\n]\n" if count else b"]\n")
    return count


def _write_lines(file: BinaryIO, lines: Iterable[dict[str, Any]]) -> int:
    count = 0
    for count, line in enumerate(lines, 1):  # noqa: B007 - the count is wanted after the loop
        file.write(to_json(line) + b"\n")
    return count
