"""OUT.batches.jsonl: what was noted is there, a torn end is no matter, damage is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from vqa_async.errors import BatchesPending, DiskError, JournalDamaged
from vqa_async.journal import BatchLog, Part, Submission

SUBMISSION = Submission("key", "http://a/v1", {"columns": {"image_key": "image"}}, {"input": "in.jsonl"})
MADE = Part(1, "made", 10, 1000, 1.5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.batches.jsonl"


def test_the_newest_line_counts(path: Path) -> None:
    """Of the submission, and of each part."""
    log = BatchLog(path)
    log.note(SUBMISSION)
    log.note(MADE, replace(MADE, number=2))
    log.note(replace(MADE, step="created", batch_id="batch_1"))
    log.note(replace(SUBMISSION, is_complete=True))
    again = BatchLog(path)
    assert again.submission == replace(SUBMISSION, is_complete=True)
    assert again.parts == log.parts
    assert [(part.number, part.step) for part in again.pending] == [(1, "created"), (2, "made")]
    assert again.next_number == 3
    assert repr(again) == "<BatchLog out.batches.jsonl: 2 parts, 2 pending>"


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_torn_end_is_cut_off_by_the_next_note(path: Path, cut: int) -> None:
    """As if it had never been written."""
    log = BatchLog(path)
    log.note(SUBMISSION, MADE)
    whole = path.read_bytes()
    log.note(replace(MADE, step="uploading"))
    path.write_bytes(path.read_bytes()[:-cut])
    again = BatchLog(path)
    assert again.parts == {1: MADE}
    again.note(replace(MADE, step="uploaded", file_id="f"))
    assert path.read_bytes().startswith(whole)
    assert BatchLog(path).parts[1].step == "uploaded"


def test_a_line_that_was_changed_is_refused(path: Path) -> None:
    """With its number: what stands there is at the provider."""
    log = BatchLog(path)
    log.note(SUBMISSION, MADE)
    path.write_bytes(path.read_bytes().replace(b'"requests":10', b'"requests":11'))
    with pytest.raises(JournalDamaged, match="line 2"):
        BatchLog(path)


def test_fields_of_later_versions_are_passed_over(path: Path) -> None:
    """So that an older program can still say what waits."""
    from vqa_async.journal import batch_log

    body = b'{"kind":"part","number":1,"step":"made","requests":1,"bytes":2,"at":0,"colour":"red"'
    path.write_bytes(body + batch_log._CRC % batch_log.zlib.crc32(body) + b"\n")
    assert BatchLog(path).parts[1].requests == 1


def test_who_would_ask_again_is_told_how_many_wait(path: Path) -> None:
    """And nothing is said once they are fetched."""
    log = BatchLog(path)
    log.require_none_pending(path)
    log.note(SUBMISSION, MADE)
    with pytest.raises(BatchesPending, match="10 records .* in 1 batch. "):  # noqa: RUF043
        log.require_none_pending(path)
    log.note(replace(MADE, step="fetched"))
    log.require_none_pending(path)


def test_files_that_no_step_needs_are_removed(path: Path) -> None:
    """Those of what is being filled only when asked, by who alone may fill."""
    log = BatchLog(path)
    steps = ("uploading", "created", "fetched")
    log.note(SUBMISSION, *(replace(MADE, number=n, step=step) for n, step in enumerate(steps, 1)))
    for number in range(1, 5):
        log.requests_of(number).touch()
        log.records_of(number).touch()
    log.remove_leftovers()
    names = {file.name.removeprefix("out.batch-000") for file in path.parent.glob("out.batch-*")}
    assert names == {
        "1.requests.jsonl", "1.records.jsonl", "2.records.jsonl", "4.requests.jsonl", "4.records.jsonl",
    }  # fmt: skip
    log.remove_unfinished()
    assert not log.requests_of(4).exists()
    assert not log.records_of(4).exists()


def test_a_disk_that_fails_is_said(path: Path) -> None:
    """Reading and writing."""
    log = BatchLog(path)
    path.symlink_to("/dev/full")
    with pytest.raises(DiskError):
        log.note(SUBMISSION)
    path.unlink()
    path.mkdir()
    with pytest.raises(DiskError):
        BatchLog(path)
