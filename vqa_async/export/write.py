"""Writes an export: into a temporary file beside the target, which takes its name only when it is whole."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from vqa_async.errors import ConfigError
from vqa_async.export.forms import format_for
from vqa_async.export.ordered import ordered_lines
from vqa_async.journal import JournalPaths
from vqa_async.journal.runfile import load


def export(output: str | os.PathLike[str], target: str | os.PathLike[str], *, format: str = "") -> int:
    """Write the answers of ``output`` to ``target``, in input order; returns how many.

    Args:
        output: OUT.jsonl of a run; the run may be unfinished.
        target: file to write; replaced if it exists.
        format: ``json`` (the guide's form) or ``jsonl`` (everything); by the target's suffix if "".

    Raises:
        ConfigError: unknown format, or the target cannot be written.
        InputError: there is no such output.
        JournalDamaged: the output is not as it was written.
    """
    target = Path(target)
    form = format_for(target, format)
    paths = JournalPaths.of(output)
    if target.resolve() in (paths.successes, paths.failures, paths.run):
        raise ConfigError(f"The export would overwrite the output {target} itself. Choose another -o.")
    settings = (load(paths.run) or {}).get("settings", {})
    key = settings.get("conversation_key", "conversation")
    lines = (form.select(line, key) for line in ordered_lines(paths.successes))
    fresh = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        with fresh.open("xb") as file:
            count = _write_array(file, lines) if form.is_array else _write_lines(file, lines)
        fresh.replace(target)
    except OSError as error:
        raise ConfigError(f"The export {target} cannot be written: {error.strerror}.") from None
    finally:
        fresh.unlink(missing_ok=True)
    return count


def _write_array(file: BinaryIO, lines: Iterable[dict[str, Any]]) -> int:
    count = 0
    file.write(b"[")
    for count, line in enumerate(lines, 1):
        text = orjson.dumps([line], option=orjson.OPT_INDENT_2)
        file.write((b"\n" if count == 1 else b",\n") + text.removeprefix(b"[\n").removesuffix(b"\n]"))
    file.write(b"\n]\n" if count else b"]\n")
    return count


def _write_lines(file: BinaryIO, lines: Iterable[dict[str, Any]]) -> int:
    count = 0
    for count, line in enumerate(lines, 1):  # noqa: B007 - the count is wanted after the loop
        file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
    return count
