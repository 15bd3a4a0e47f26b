"""Failures that are called by name are tried again, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest
from journal_results import failure, journal, success

from vqa_async.config import JournalOptions
from vqa_async.errors import ConfigError, ImageError, RecordError, Rejected, TransportError
from vqa_async.journal.replay import FAILED, TO_RETRY

ERRORS = {
    1: ImageError("gone", code="file_not_found"),
    2: TransportError("late", code="timeout"),
    3: Rejected("no", status=400, code="out_of_luck"),
    4: RecordError("what?"),
}


async def again(out: Path, names: object) -> set[int]:
    """The numbers of the failed records that a run tries again."""
    async with journal(out) as opened:
        for number, error in ERRORS.items():
            await opened.append(failure(number, error))
        await opened.append(success(5))
        await opened.close("finished", "", {})
    async with journal(out, retry_failed=names) as opened:
        states = {n: opened.known.get(failure(n, ERRORS[n]).id) for n in ERRORS}
        assert set(states.values()) <= {FAILED, TO_RETRY}
        return {n for n, state in states.items() if state is not None and not opened.is_finished(state)}


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        (False, {2}),
        (True, {1, 2, 3, 4}),
        ("timeout", {2}),
        (("file_not_found", "timeout"), {1, 2}),
        ("image, transport", {1, 2}),
        ("ImageError", {1}),
        ("record", {1, 4}),
        ("request-error", {2, 3}),
        ("status", {3}),
        (["out_of_luck"], {3}),
        ("not_json", set()),
    ],
)
async def test_names_choose_what_is_tried_again(tmp_path: Path, names: object, numbers: set[int]) -> None:
    """By code, or by class with all below it; spelled as in Python or as words."""
    assert await again(tmp_path / "out.jsonl", names) == numbers


async def test_a_name_that_no_failure_has_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    """Before anything is changed; a code of an endpoint's own is known where the output holds one."""
    out = tmp_path / "out.jsonl"
    with pytest.raises(ConfigError, match=r"called 'tymeout'.*there are: .*timeout.*All kinds: .*ImageError"):
        await again(out, "timeout,tymeout")
    with pytest.raises(ConfigError, match="In this output there are: none"):
        async with journal(tmp_path / "new.jsonl", retry_failed="out_of_luck"):
            pass


def test_an_empty_list_of_names_is_refused() -> None:
    """It would try nothing again, which nobody means."""
    for nothing in ((), "", " , "):
        with pytest.raises(ConfigError, match="names no kind"):
            JournalOptions(retry_failed=nothing)  # type: ignore[arg-type]
