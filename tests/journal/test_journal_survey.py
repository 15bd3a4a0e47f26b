"""A look at an output from outside, while it is written or not: true counts, and nothing is changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from journal_results import PERMANENT, contents, failure, journal, keep, success

from vqa_async.errors import InputError, JournalDamaged, RateLimited
from vqa_async.journal import JournalPaths, Survey, survey
from vqa_async.journal.replay import SUCCEEDED


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def look(output: Path) -> Survey:
    """What is there; looking changes nothing."""
    before = contents(output.parent)
    found = survey(JournalPaths.of(output))
    assert contents(output.parent) == before
    return found


async def test_answers_failures_and_tokens_are_counted(out: Path) -> None:
    """Failures by their code; how many of them the next run tries again."""
    limited = RateLimited("Slow down.", status=429)
    await keep(
        out,
        success(0),
        success(1),
        failure(2),
        failure(3, limited),
        failure(4, limited),
        failure(5, PERMANENT),
    )
    found = look(out)
    assert found.replayed.succeeded == 2
    assert found.failures_by_type == {"server_error": 1, "rate_limited": 2, "not_an_image": 1}
    assert (found.failed, found.retryable) == (4, 3)
    assert (found.prompt_tokens, found.completion_tokens) == (20, 10)
    assert (found.unreadable, found.is_running) == (0, False)
    assert (found.run["state"], found.run["input"]) == ("finished", os.path.abspath("in.jsonl"))
    assert found.replayed.state.get("r0") == SUCCEEDED


async def test_a_running_output_is_seen_to_run(out: Path) -> None:
    """Each record counts once, though older failure lines are dropped only at the end."""
    await keep(out, failure(0), failure(1), failure(2, PERMANENT))
    async with journal(out, retry_failed=True) as opened:
        await opened.append(success(0))
        await opened.append(failure(1, PERMANENT))
        await opened.append(failure(2))
        found = look(out)
        assert found.is_running
        assert found.run["state"] == "running"
        assert found.replayed.succeeded == 1
        assert found.failures_by_type == {"not_an_image": 1, "server_error": 1}
        assert found.retryable == 1
    assert not look(out).is_running


async def test_an_unfinished_end_is_no_damage(out: Path) -> None:
    """It may be the line that is being written right now."""
    await keep(out, success(0), success(1))
    out.write_bytes(out.read_bytes()[:-40])
    found = look(out)
    assert (found.replayed.succeeded, found.unreadable) == (1, 0)


async def test_damaged_lines_are_counted(out: Path) -> None:
    """In both files, and second answers too."""
    paths = await keep(out, success(0), success(1), failure(2), failure(3))
    line = out.read_bytes().splitlines(keepends=True)[0]
    out.write_bytes(b"oops\n" + out.read_bytes() + line)
    paths.failures.write_bytes(paths.failures.read_bytes().replace(b'"r2"', b'"r9"'))
    found = look(out)
    assert (found.replayed.succeeded, found.failed, found.unreadable) == (2, 1, 3)


async def test_failures_are_not_taken_for_answers(out: Path) -> None:
    """Asked about the wrong file, the answer is not a wrong number."""
    paths = await keep(out, failure(0), failure(1))
    found = look(paths.failures)
    assert (found.replayed.succeeded, found.unreadable) == (0, 2)


async def test_an_output_without_a_run_file_can_be_looked_at(out: Path) -> None:
    """Its lines say enough."""
    paths = await keep(out, success(0))
    paths.run.unlink()
    paths.lock.unlink()
    found = look(out)
    assert (found.run, found.replayed.succeeded, found.is_running) == ({}, 1, False)


async def test_a_run_that_has_no_answers_yet_can_be_looked_at(out: Path) -> None:
    """There is a run file, and nothing else."""
    paths = await keep(out)
    out.unlink()
    assert look(out).replayed.succeeded == 0
    paths.run.write_bytes(b"half")
    with pytest.raises(JournalDamaged, match="run file"):
        look(out)


def test_an_output_that_is_not_there_is_said(out: Path) -> None:
    """With the command that would make one."""
    with pytest.raises(InputError, match=r"There is no output .*out\.jsonl.*vqa-async run"):
        look(out)


def test_an_output_that_cannot_be_read_is_said(out: Path) -> None:
    """A folder is no output."""
    out.mkdir()
    with pytest.raises(InputError, match=r"cannot be read: Is a directory\. Give the file of a run"):
        survey(JournalPaths.of(out))
