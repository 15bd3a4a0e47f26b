"""Which part of the input a task of a batch system takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from vqa_async.cli.merging import shard_named
from vqa_async.config import Config, Selection
from vqa_async.errors import ConfigError
from vqa_async.parts import part_of_task


def slurm(id: object, first: object, last: object, count: object) -> dict[str, str]:
    return {
        "SLURM_ARRAY_TASK_ID": str(id),
        "SLURM_ARRAY_TASK_MIN": str(first),
        "SLURM_ARRAY_TASK_MAX": str(last),
        "SLURM_ARRAY_TASK_COUNT": str(count),
    }


@pytest.mark.parametrize(
    ("shard", "environment", "part"),
    [
        ("auto", slurm(1, 1, 8, 8), "1/8"),
        ("auto", slurm(8, 1, 8, 8), "8/8"),
        ("auto", slurm(0, 0, 7, 8), "1/8"),
        ("auto/8", slurm(7, 0, 7, 8), "8/8"),
        ("auto/1", slurm(1, 1, 1, 1), "1/1"),
        ("auto/4", {"JOB_COMPLETION_INDEX": "0"}, "1/4"),
        ("auto/4", {"JOB_COMPLETION_INDEX": "3"}, "4/4"),
    ],
)
def test_a_task_knows_its_part(shard: str, environment: dict[str, str], part: str) -> None:
    """Slurm tells both numbers, Kubernetes the first."""
    assert part_of_task(shard, environment) == part


@pytest.mark.parametrize(
    ("shard", "environment", "said"),
    [
        ("auto", {}, "finds no task here"),
        ("auto/4", {}, "finds no task here"),
        ("auto", {"JOB_COMPLETION_INDEX": "0"}, "write --shard auto/N"),
        ("auto/4", {"JOB_COMPLETION_INDEX": "4"}, "number 5 of 4"),
        ("auto/4", {"JOB_COMPLETION_INDEX": "x"}, "cannot read JOB_COMPLETION_INDEX='x'"),
        ("auto", {"SLURM_ARRAY_TASK_ID": "1"}, "cannot read SLURM_ARRAY_TASK_MIN=''"),
        ("auto", slurm(3, 3, 3, 1), "does not tell the part of task 3"),  # one failed task again
        ("auto", slurm(1, 1, 1, 1), "does not tell"),
        ("auto", slurm(5, 1, 5, 2), "does not tell"),  # --array=1,5
        ("auto", slurm(2, 0, 6, 4), "does not tell"),  # --array=0-6:2
        ("auto/8", slurm(2, 1, 4, 4), "of task 2 among 8"),
    ],
)
def test_a_doubt_is_refused(shard: str, environment: dict[str, str], said: str) -> None:
    """Two tasks on one part would ask twice, and no task on a part never."""
    with pytest.raises(ConfigError, match=said):
        part_of_task(shard, environment)


def test_the_option_takes_it_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is k/n from then on; one that is given by hand stays."""
    for name, value in slurm(2, 1, 3, 3).items():
        monkeypatch.setenv(name, value)
    assert Config.of(shard="auto").selection.shard == "2/3"
    assert Config.of(shard="1/8").selection.shard == "1/8"
    assert Config.of().selection.shard == ""


def test_the_numbers_may_stand_in_the_name_of_the_output() -> None:
    """Without a shard, the name is as it is."""
    name = Path("out.{k}-of-{n}.jsonl")
    assert shard_named(name, Selection(shard="2/8")) == Path("out.2-of-8.jsonl")
    assert shard_named(name, Selection()) == name
