"""Parts that several processes wrote become one output: each answer once, whatever happened to them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from filelock import FileLock
from journal_results import PERMANENT, RETRYABLE, failure, journal, success

from vqa_async.errors import DiskError, JournalDamaged, JournalLocked, SettingsChanged
from vqa_async.journal import JournalPaths, parts, survey
from vqa_async.journal.replay import FAILED, SUCCEEDED
from vqa_async.models import Result


def ids(path: Path) -> list[str]:
    return [json.loads(line)["_meta"]["id"] for line in path.read_text().splitlines()]


async def write(folder: Path, writer: str, results: Iterable[Result], **options: object) -> Path:
    """A part of ``out.jsonl``, as a worker leaves it that ends without a word."""
    path = parts.new_part(folder / "out.parts", writer)
    async with journal(path, **options) as opened:
        for result in results:
            await opened.append(result)
    return path


async def test_parts_are_taken_in_each_answer_once(tmp_path: Path) -> None:
    """The same record in two parts stands in the output once; a failure gives way to an answer elsewhere."""
    out = tmp_path / "out.jsonl"
    async with journal(out) as opened:
        await write(tmp_path, "b", [success(1), success(2), failure(3), failure(4)])
        await write(tmp_path, "a", [success(2), success(3), failure(5, PERMANENT)])
        taken = await opened.take_in()
        await opened.close("finished", "", {})
    assert sorted(ids(out)) == ["r1", "r2", "r3"]
    assert sorted(ids(tmp_path / "out.failures.jsonl")) == ["r4", "r5"]
    assert (taken.succeeded, taken.failed, taken.repeated) == (3, 2, 1)
    assert not (tmp_path / "out.parts").exists()


async def test_parts_that_were_left_are_taken_in_by_the_next_run(tmp_path: Path) -> None:
    """Any run on the output has their records as finished, and says what it found."""
    await write(tmp_path, "a", [success(1), failure(2, PERMANENT)])
    async with journal(tmp_path / "out.jsonl") as opened:
        assert opened.finished_before == 1
        assert (opened.known.get("r1"), opened.known.get("r2")) == (SUCCEEDED, FAILED)
        assert "Took in 1 answers and 1 failures" in opened.notices[0]
    assert ids(tmp_path / "out.jsonl") == ["r1"]


async def test_a_part_that_was_taken_in_halfway_is_taken_in_again(tmp_path: Path) -> None:
    """After a kill between copying and removing, its lines are repeats."""
    path = await write(tmp_path, "a", [success(1), success(2)])
    (tmp_path / "out.jsonl").write_bytes(path.read_bytes())
    async with journal(tmp_path / "out.jsonl") as opened:
        assert opened.finished_before == 2
    assert ids(tmp_path / "out.jsonl") == ["r1", "r2"]


async def test_a_torn_end_of_a_part_is_cut_and_said(tmp_path: Path) -> None:
    """A worker that was killed while it wrote leaves one; what stands before counts."""
    path = await write(tmp_path, "a", [success(1)])
    with path.open("ab") as file:
        file.write(b'{"image":["2.png"],"vq')
    async with journal(tmp_path / "out.jsonl") as opened:
        assert any("cut an unfinished line" in notice for notice in opened.notices)
        assert opened.finished_before == 1
    assert ids(tmp_path / "out.jsonl") == ["r1"]


async def test_a_part_that_was_changed_is_refused_until_repaired(tmp_path: Path) -> None:
    """With nothing changed; --repair moves the line away, and its record runs again."""
    path = await write(tmp_path, "a", [success(1), success(2)])
    path.write_bytes(path.read_bytes().replace(b"This.", b"That.", 1))
    with pytest.raises(JournalDamaged, match=r"part-a.*line 1"):
        async with journal(tmp_path / "out.jsonl"):
            pass
    assert path.exists()
    async with journal(tmp_path / "out.jsonl", repair=True) as opened:
        assert opened.known.get("r1") is None
    assert ids(tmp_path / "out.jsonl") == ["r2"]
    assert len((tmp_path / "out.damaged.jsonl").read_text().splitlines()) == 1


async def test_a_part_of_other_settings_is_refused(tmp_path: Path) -> None:
    """Unless it is said that they may be mixed."""
    await write(tmp_path, "a", [success(1)], temperature=1.5)
    with pytest.raises(SettingsChanged, match="temperature"):
        async with journal(tmp_path / "out.jsonl"):
            pass
    async with journal(tmp_path / "out.jsonl", allow_changed_settings=True) as opened:
        assert opened.finished_before == 1


async def test_a_part_that_is_being_written_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker of a run that was killed may still be there; after a while the run is refused."""
    monkeypatch.setattr(parts, "_PATIENCE_S", 0.05)
    path = await write(tmp_path, "a", [success(1)])
    with FileLock(JournalPaths.of(path).lock), pytest.raises(JournalLocked, match="part-a"):
        async with journal(tmp_path / "out.jsonl"):
            pass
    async with journal(tmp_path / "out.jsonl") as opened:
        assert opened.finished_before == 1


async def test_a_full_disk_keeps_the_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be copied is not removed."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    async with journal(tmp_path / "out.jsonl") as opened:
        path = await write(tmp_path, "a", [success(1)])
        monkeypatch.setattr(parts, "_copy", full)
        with pytest.raises(DiskError, match="No space left"):
            await opened.take_in()
    assert path.exists()


async def test_a_large_part_is_copied_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory does not depend on its length."""
    monkeypatch.setattr(parts, "BUFFER_BYTES", 500)
    await write(tmp_path, "a", [success(n) for n in range(20)])
    async with journal(tmp_path / "out.jsonl") as opened:
        assert opened.finished_before == 20
    assert ids(tmp_path / "out.jsonl") == [f"r{n}" for n in range(20)]


async def test_status_counts_what_stands_in_parts(tmp_path: Path) -> None:
    """While a distributed run goes on, or after it was killed: each record once."""
    async with journal(tmp_path / "out.jsonl") as opened:
        await opened.append(success(0))
        await write(tmp_path, "a", [success(1), failure(2)])
        await write(tmp_path, "b", [success(1), success(3), failure(2, RETRYABLE), failure(3)])
        found = survey(opened.paths)
    assert (found.replayed.succeeded, found.failed, found.retryable, found.unreadable) == (3, 1, 1, 0)
    assert found.prompt_tokens == 30


async def test_a_writer_finds_what_it_has_done_before(tmp_path: Path) -> None:
    """States, requests and tokens of its own parts alone; the next part has another name."""
    first = await write(tmp_path, "a", [success(1), failure(2)])
    second = await write(tmp_path, "a", [success(3)])
    await write(tmp_path, "b", [success(4)])
    assert first != second
    done = parts.done_in(parts.part_paths(tmp_path / "out.parts", "a"))
    assert [done.states.get(f"r{n}") for n in range(1, 5)] == [SUCCEEDED, FAILED, SUCCEEDED, None]
    assert (done.requests, done.prompt_tokens, done.answer_tokens) == (2 + 3 + 2, 20, 10)
