"""Which of the parts of an input a task of a batch system takes, from what that system tells it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from vqa_async.errors import ConfigError

_AUTO = re.compile(r"auto(?:/([1-9]\d{0,8}))?", re.ASCII)
_BY_HAND = "Say it as k/n, such as --shard 1/8."


def is_auto(shard: str) -> bool:
    """Whether ``shard`` leaves its numbers, or the first of them, to the batch system."""
    return _AUTO.fullmatch(shard) is not None


def part_of_task(shard: str, environment: Mapping[str, str]) -> str:
    """``auto`` or ``auto/n`` as k/n.

    A Slurm array tells both numbers, wherever it begins; a Kubernetes indexed Job only the first, from 0.
    Whatever leaves a doubt is refused: two tasks on one part ask twice, and no task on a part asks never.

    Raises:
        ConfigError: the environment does not tell, or not without doubt.
    """
    found = _AUTO.fullmatch(shard)
    assert found is not None
    of = int(found[1]) if found[1] else None
    if "SLURM_ARRAY_TASK_ID" in environment:
        number, of = _of_slurm(environment, of)
    elif "JOB_COMPLETION_INDEX" in environment:
        if of is None:
            raise ConfigError(
                "Kubernetes does not tell of how many parts JOB_COMPLETION_INDEX is one: write "
                "--shard auto/N, with the Job's 'completions' for N."
            )
        number = _number(environment, "JOB_COMPLETION_INDEX") + 1
    else:
        raise ConfigError(
            "--shard auto finds no task here: neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set. "
            + _BY_HAND
        )
    if number > of:
        raise ConfigError(f"This task is number {number} of {of} parts: that cannot be. {_BY_HAND}")
    return f"{number}/{of}"


def _of_slurm(environment: Mapping[str, str], asked: int | None) -> tuple[int, int]:
    id, first = _number(environment, "SLURM_ARRAY_TASK_ID"), _number(environment, "SLURM_ARRAY_TASK_MIN")
    count, last = _number(environment, "SLURM_ARRAY_TASK_COUNT"), _number(environment, "SLURM_ARRAY_TASK_MAX")
    whole = first in (0, 1) and last - first + 1 == count
    # An array of one task, or of the second and fifth, is some tasks of an earlier array once more.
    if whole and (count == asked or (asked is None and count > 1)):
        return id - first + 1, count
    raise ConfigError(
        f"This Slurm array has {count} task(s), from {first} to {last}, which does not tell the part of task "
        f"{id}{f' among {asked}' if asked else ''}. Some tasks of an array again: --shard "
        '"$SLURM_ARRAY_TASK_ID/N", with N of the whole array, which began at 1.'
    )


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "")
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        raise ConfigError(f"--shard auto cannot read {name}={text!r}. {_BY_HAND}")
    return int(text)
