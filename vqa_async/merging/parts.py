"""The parts of a merge: which outputs they are, whether they belong together, and whether one is missing."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from vqa_async.config import Selection
from vqa_async.errors import ConfigError, InputError, SettingsChanged
from vqa_async.journal import JournalPaths, runfile

_SIDE_FILES = (".failures.jsonl", ".checks.jsonl", ".damaged.jsonl")


@dataclass(frozen=True, slots=True)
class Part:
    """The output of one shard.

    Attributes:
        number, of: the k and n of its ``--shard``, k from 1.
        paths: its files.
        run: content of its run file.
    """

    number: int
    of: int
    paths: JournalPaths
    run: dict[str, Any]

    @property
    def shard(self) -> str:
        """As ``--shard`` has it."""
        return f"{self.number}/{self.of}"

    @property
    def is_finished(self) -> bool:
        """Whether its last run came to the end of the input."""
        return self.run.get("state") == "finished"

    @property
    def answers_counted(self) -> int | None:
        """How many answers its last run says that the output holds; None where it does not say."""
        counts = self.run.get("counts")
        if not isinstance(counts, dict):
            return None
        succeeded, skipped, failed = (counts.get(name) for name in ("succeeded", "skipped", "skipped_failed"))
        if not (isinstance(succeeded, int) and isinstance(skipped, int) and isinstance(failed, int)):
            return None
        return succeeded + skipped - failed


def named_parts(names: Iterable[str | Path]) -> list[JournalPaths]:
    """The outputs that are named, once each; patterns are expanded, and side files in them left out.

    Raises:
        InputError: there is no such output.
    """
    found: dict[Path, JournalPaths] = {}
    for given in names:
        name = str(given)
        is_pattern = glob.has_magic(name) and not os.path.exists(name)
        matching = sorted(glob.glob(name)) if is_pattern else [name]
        outputs = [path for path in matching if not _is_side_file(path)]
        if is_pattern and not outputs:
            raise InputError(f"There is no output {name}. Check the pattern.")
        for paths in map(JournalPaths.of, outputs):
            found.setdefault(paths.successes, paths)
    if not found:
        raise InputError(
            "No output is named. Give OUT.jsonl of each shard, or a pattern such as 'out.*.jsonl'."
        )
    return list(found.values())


def _is_side_file(name: str) -> bool:
    """Whether it stands beside an output: a pattern, whoever expands it, takes those in as well."""
    for suffix in _SIDE_FILES:
        if name.endswith(suffix):
            return os.path.exists(f"{name.removesuffix(suffix)}.jsonl")
    return False


def opened(outputs: Iterable[JournalPaths]) -> list[Part]:
    """The parts, by their numbers.

    Raises:
        InputError: one is no output, or was made without ``--shard``.
        JournalDamaged: a run file is not as it was written.
    """
    parts = [_part(paths) for paths in outputs]
    return sorted(parts, key=lambda part: part.number)


def _part(paths: JournalPaths) -> Part:
    for path in (paths.successes, paths.failures, paths.run):
        if path.exists() and not (path.is_file() and os.access(path, os.R_OK)):
            raise InputError(
                f"{path} cannot be read: it is no plain file, or not permitted. Mend that first."
            )
    run = runfile.load(paths.run)
    if run is None:
        raise InputError(
            f"{paths.successes} cannot be merged: {paths.run} is missing, which says of which shard it is. "
            "Copy it from where the shard ran."
        )
    found = Selection(shard=_selection(run).get("shard") or "").part
    if found is None:
        raise InputError(
            f"{paths.successes} cannot be merged: it was made without --shard k/n. "
            "Only the parts of one input are; export this one by itself."
        )
    return Part(found[0] + 1, found[1], paths, run)


def require_together(parts: list[Part]) -> None:
    """See that all parts are shards of the same job, none of them twice.

    Raises:
        ConfigError: they are not; the first difference is named.
    """
    first = parts[0]
    for before, part in pairwise(parts):
        if part.of != first.of:
            raise ConfigError(
                f"{first.paths.successes} is shard {first.shard} and {part.paths.successes} is shard "
                f"{part.shard}: merge the shards of one number only."
            )
        if part.number == before.number:
            raise ConfigError(
                f"Shard {part.shard} is there twice: {before.paths.successes} and {part.paths.successes}. "
                "Leave one out."
            )
        _require_same_job(first, part)


def _require_same_job(first: Part, part: Part) -> None:
    defaults = first.run["settings"] | part.run["settings"]
    try:
        runfile.require_same(first.run, part.run["settings"], first.paths.run, defaults=defaults)
    except SettingsChanged:
        pass
    else:
        _require_same_rows(first, part)
        return
    differing = [
        name for name in sorted(defaults) if first.run["settings"].get(name) != part.run["settings"].get(name)
    ]
    raise SettingsChanged(
        f"{first.paths.successes} and {part.paths.successes} were made with different settings: "
        f"{', '.join(differing)}. Only shards of one job can be merged."
    )


def _require_same_rows(first: Part, part: Part) -> None:
    """The folder may differ from machine to machine; what the input is called, and what is taken, may not."""
    for name, one, other in (
        ("--where", _selection(first.run).get("where"), _selection(part.run).get("where")),
        ("--limit", first.run.get("limit"), part.run.get("limit")),
        ("the input", _name(first.run.get("input")), _name(part.run.get("input"))),
    ):
        if (one or None) != (other or None):
            raise SettingsChanged(
                f"{first.paths.successes} and {part.paths.successes} differ in {name}: {one!r} and "
                f"{other!r}. Only shards of one job can be merged."
            )


def _name(input: object) -> str:
    return os.path.basename(str(input).rstrip("/"))


def _selection(run: dict[str, Any]) -> dict[str, Any]:
    found = run.get("selection")
    return found if isinstance(found, dict) else {}


def gaps(parts: list[Part]) -> list[str]:
    """What is not there, in sentences: shards without an output, and those that are not finished."""
    of, there = parts[0].of, {part.number for part in parts}
    missing = [f"{k}/{of}" for k in range(1, of + 1) if k not in there] if of <= _NAMED else []
    found = []
    if missing:
        noun = "shard" if len(missing) == 1 else "shards"
        found = [f"{noun} {', '.join(missing[:20])}{' ...' if len(missing) > 20 else ''} missing"]
    elif len(there) < of:
        found = [f"{of - len(there):,} of {of:,} shards missing"]
    return found + [_unfinished(part) for part in parts if not part.is_finished]


_NAMED = 100_000
"""Shards up to which those that are missing are looked for one by one."""


def _unfinished(part: Part) -> str:
    state = part.run.get("state", "unknown")
    how = "killed" if state == "running" else str(state)
    return f"shard {part.shard} ({part.paths.successes}) not finished: {how}"
