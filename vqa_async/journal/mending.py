"""Changing output files that were read back: cutting a torn end, taking damaged lines out, compacting.

Whatever is taken off a file is kept beside it first. Each step leaves files that replay understands.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Container
from pathlib import Path
from typing import BinaryIO

from vqa_async.journal.replacing import replaced, sync_file, sync_folder
from vqa_async.journal.scanning import BUFFER_BYTES, Findings, Line, read_lines
from vqa_async.keytable import KeyTable

_NUMBER_BYTES = 6


def mend(path: Path, damaged: Path, findings: Findings) -> list[str]:
    """Leave nothing in ``path`` but whole, good lines; what was done, in sentences.

    Args:
        path: the file that was scanned.
        damaged: where its damaged lines go.
        findings: what the scan said.
    """
    if findings.damage:
        numbers = {*findings.damage, *findings.torn}
        _take_out(path, damaged, numbers)
        return [f"{path}: moved {len(numbers)} damaged line(s) to {damaged}; their records run again."]
    if path.stat().st_size > findings.end:
        kept = _cut(path, findings.end)
        return [f"{path}: cut an unfinished line off its end (kept in {kept}); its record runs again."]
    if not findings.ends_whole:
        with path.open("ab") as file:  # the line is whole, only its newline was lost
            file.write(b"\n")
            sync_file(file)
    return []


def _cut(path: Path, end: int) -> Path:
    """Move what lies behind ``end`` into a file of its own, then shorten ``path``."""
    with path.open("r+b") as file:
        file.seek(end)
        with _side_file(path) as side:
            while block := file.read(BUFFER_BYTES):
                side.write(block)
            sync_file(side)
        sync_folder(path.parent)
        file.truncate(end)
        sync_file(file)
    return Path(side.name)


def _side_file(path: Path) -> BinaryIO:
    """``OUT.jsonl.torn-<time>``, numbered where there is one of this second already."""
    stem = f"{path.name}.torn-{time.strftime('%Y%m%dT%H%M%S')}"
    for name in itertools.chain([stem], (f"{stem}-{n}" for n in itertools.count(2))):
        try:
            return path.with_name(name).open("xb")
        except FileExistsError:
            continue
    raise AssertionError("numbers do not end")


def _take_out(path: Path, damaged: Path, numbers: Container[int]) -> None:
    with damaged.open("ab") as side, path.open("rb", buffering=BUFFER_BYTES) as file:
        for line in read_lines(file):
            if line.number in numbers:
                side.write(_ended(line))
        sync_file(side)
    _rewrite(path, lambda line: line.number not in numbers)


def drop_superseded(failures: Path, has_answer: Callable[[str], bool]) -> None:
    """Keep one line for each record that has failed, its newest, and none for those that succeeded."""
    newest = KeyTable(key_bytes=12, value_bytes=_NUMBER_BYTES)
    with failures.open("rb", buffering=BUFFER_BYTES) as file:
        for line in read_lines(file):
            if line.meta is not None:
                newest.set(line.meta.id, _packed(line))

    def is_current(line: Line) -> bool:
        if line.meta is None:
            return True
        return not has_answer(line.meta.id) and newest.get(line.meta.id) == _packed(line)

    _rewrite(failures, is_current)


def _rewrite(path: Path, keep: Callable[[Line], bool]) -> None:
    """Replace ``path`` by those of its lines that ``keep`` wants."""
    with replaced(path) as fresh, path.open("rb", buffering=BUFFER_BYTES) as file:
        for line in read_lines(file):
            if keep(line):
                fresh.write(_ended(line))


def _ended(line: Line) -> bytes:
    return line.data if line.data.endswith(b"\n") else line.data + b"\n"


def _packed(line: Line) -> bytes:
    return line.number.to_bytes(_NUMBER_BYTES, "big")
