"""Reading back after a stop of any kind: torn ends are cut and kept, damage is refused, repair is exact."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_results import (
    PERMANENT,
    RETRYABLE,
    contents,
    failure,
    finished,
    ids,
    journal,
    keep,
    objects,
    success,
)

from vqa_async.errors import JournalDamaged
from vqa_async.journal.codec import encode_failure, encode_success
from vqa_async.journal.replay import FAILED, SUCCEEDED, TO_RETRY, Replayed, replay
from vqa_async.journal.scanning import Abandoned

SUCCESSES = [encode_success(success(n, {"q": "é🖼️"}, id=f"s{n}"), "vqa") for n in range(3)]
FAILURES = [
    encode_failure(failure(7, RETRYABLE, {}, id="f7")),
    encode_failure(failure(8, PERMANENT, {}, id="f8")),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an output of three answers and two failures."""
    (tmp_path / "out.jsonl").write_bytes(b"".join(SUCCESSES))
    (tmp_path / "out.failures.jsonl").write_bytes(b"".join(FAILURES))
    return tmp_path


def read_back(folder: Path, *, repair: bool = False, known: bool = True) -> Replayed:
    return replay(
        folder / "out.jsonl",
        folder / "out.failures.jsonl",
        folder / "out.damaged.jsonl",
        repair=repair,
        known=known,
    )


def side_files(folder: Path, what: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob(f"*{what}*"))]


def refused(folder: Path, **how: bool) -> str:
    """The message of the refusal, which leaves every file as it was."""
    before = contents(folder)
    with pytest.raises(JournalDamaged) as caught:
        read_back(folder, **how)
    assert contents(folder) == before
    return str(caught.value)


def test_what_was_written_is_read_back(folder: Path) -> None:
    """Each record's state; nothing is changed."""
    before = contents(folder)
    result = read_back(folder)
    assert [result.state.get(id) for id in ("s0", "s1", "s2", "f7", "f8", "x")] == [
        *[SUCCEEDED] * 3,
        TO_RETRY,
        FAILED,
        None,
    ]
    assert (result.succeeded, result.superseded, result.notices) == (3, 0, [])
    assert contents(folder) == before


def test_missing_and_empty_files_hold_nothing(tmp_path: Path) -> None:
    """A first run starts from nothing, whichever of the files is there."""
    assert read_back(tmp_path, known=False).succeeded == 0
    (tmp_path / "out.jsonl").touch()
    assert len(read_back(tmp_path, known=False).state) == 0


def test_reading_stops_when_nobody_wants_to_know_any_more(folder: Path) -> None:
    """A run that is cancelled while it reads back a large output need not wait for it."""
    asked = []

    def abandoned() -> bool:
        asked.append(True)
        return len(asked) == 2

    paths = (folder / "out.jsonl", folder / "out.failures.jsonl", folder / "out.damaged.jsonl")
    with pytest.raises(Abandoned):
        replay(*paths, repair=False, known=True, abandoned=abandoned)
    assert len(asked) == 2


def whole_lines(prefix: bytes, lines: list[bytes]) -> int:
    """How many of ``lines`` a prefix of them holds; the newline of the last may be missing."""
    return sum(len(b"".join(lines[: n + 1])) - 1 <= len(prefix) for n in range(len(lines)))


def check_prefix(folder: Path, name: str, lines: list[bytes], cut: int, tail: bytes = b"") -> None:
    """What reading back must do with the first ``cut`` bytes of a file, and with junk behind them."""
    data = b"".join(lines)[:cut]
    path = folder / name
    path.write_bytes(data + tail)
    count = whole_lines(data, lines) if not tail else data.count(b"\n")
    result = read_back(folder)
    whole = b"".join(lines[:count])
    assert path.read_bytes() == whole
    assert (result.succeeded if name == "out.jsonl" else len(result.state) - 3) == count
    torn = [] if len(data + tail) <= len(whole) else [(data + tail)[len(whole) :]]
    assert side_files(folder, ".torn-") == torn
    assert len(result.notices) == len(torn)
    after = contents(folder)
    assert read_back(folder).notices == []
    assert contents(folder) == after
    for side in folder.glob("*.torn-*"):
        side.unlink()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "lines"), [("out.jsonl", SUCCESSES), ("out.failures.jsonl", FAILURES)])
def test_every_prefix_keeps_its_whole_lines(
    folder: Path, name: str, lines: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut at every byte: whole lines stay, the rest goes aside, and reading back again changes nothing."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)  # thousands of them, and none is what is tested here
    for cut in range(len(b"".join(lines)) + 1):
        check_prefix(folder, name, lines, cut)


def cuts_around_the_ends() -> Iterator[int]:
    """The cuts at which something is different: at and next to every line's end, and in their middles."""
    end = 0
    for line in SUCCESSES:
        yield from (end, end + 1, end + len(line) // 2, end + len(line) - 2, end + len(line) - 1)
        end += len(line)
    yield end


TAILS = {
    "a NUL": b"\0",
    "a sector of NULs": b"\0" * 512,
    "4096 NULs": b"\0" * 4096,
    "garbage": random.Random(1).randbytes(100).replace(b"\n", b""),
    "garbage with newlines": b"\xde\xad\n\n\xbe\xef\nrest",
    "a hole and the end of a line": b"\0" * 512 + SUCCESSES[1][-100:],
    "half a character": b"\xf0\x9f",
    "CRLF": b"\r\n",
    "blanks": b" \t",
    "the beginning of JSON": b'{"image": ["',
    "nesting without end": b"[" * 5_000,
}


@pytest.mark.parametrize("tail", TAILS.values(), ids=TAILS)
def test_junk_behind_any_prefix_is_cut_off_with_the_torn_line(folder: Path, tail: bytes) -> None:
    """Whatever a crash left at the end: the whole lines before it are kept as they are."""
    for cut in cuts_around_the_ends():
        check_prefix(folder, "out.jsonl", SUCCESSES, cut, tail)


@settings(deadline=None)
@given(cut=st.integers(0, len(b"".join(SUCCESSES))), tail=st.binary(min_size=1, max_size=40), data=st.data())
def test_random_junk_is_cut_off(
    tmp_path_factory: pytest.TempPathFactory, cut: int, tail: bytes, data: st.DataObject
) -> None:
    """Any prefix, any bytes behind it, as long as those are no object of their own."""
    folder = tmp_path_factory.mktemp("junk")
    (folder / "out.failures.jsonl").write_bytes(b"".join(FAILURES))
    tail = tail.replace(b"{", b"[")
    whole = b"".join(SUCCESSES)
    if (whole[:cut] + tail).startswith(whole[: cut + 1]) or whole[:cut].count(b"\n") < whole[: cut + 1].count(
        b"\n"
    ):
        tail = b"\xff" + tail  # else it would go on where the prefix ends
    check_prefix(folder, "out.jsonl", SUCCESSES, cut, tail)


def test_a_line_that_lost_only_its_newline_is_kept(folder: Path) -> None:
    """It is whole: the newline is put back, no record runs again."""
    path = folder / "out.jsonl"
    path.write_bytes(b"".join(SUCCESSES)[:-1])
    assert read_back(folder).succeeded == 3
    assert path.read_bytes() == b"".join(SUCCESSES)
    assert side_files(folder, ".torn-") == []


def test_the_notice_names_the_file_and_where_the_end_went(folder: Path) -> None:
    """Whoever wonders about a missing answer can look."""
    (folder / "out.jsonl").write_bytes(b"".join(SUCCESSES)[:-5])
    (notice,) = read_back(folder).notices
    (torn,) = folder.glob("out.jsonl.torn-*")
    assert str(folder / "out.jsonl") in notice
    assert str(torn) in notice
    assert torn.read_bytes() == SUCCESSES[2][:-5]


def test_ends_torn_in_the_same_second_are_both_kept(folder: Path) -> None:
    """Each cut has a file of its own."""
    for n in range(4):
        with (folder / "out.jsonl").open("ab") as file:
            file.write(b"torn %d" % n)
        read_back(folder)
    assert sorted(side_files(folder, ".torn-")) == [b"torn 0", b"torn 1", b"torn 2", b"torn 3"]
    assert (folder / "out.jsonl").read_bytes() == b"".join(SUCCESSES)


@pytest.mark.parametrize("name", ["out.jsonl", "out.failures.jsonl"])
def test_both_files_are_read_before_either_is_touched(folder: Path, name: str) -> None:
    """Damage in one file leaves the torn end of the other where it is."""
    for other in ("out.jsonl", "out.failures.jsonl"):
        with (folder / other).open("ab") as file:
            file.write(b"torn")
    lines = (folder / name).read_bytes()
    (folder / name).write_bytes(lines.replace(b'"q"', b'"p"').replace(b'"attempts":3', b'"attempts":4'))
    assert f"{folder / name}, line 1, was changed" in refused(folder)


DAMAGE = {
    "a letter": lambda line: line.replace(b'"A: This."', b'"A: That."').replace(b"This", b"That"),
    "a number": lambda line: line.replace(b'"attempts":2', b'"attempts":1'),
    "a bracket": lambda line: line.replace(b"{", b"[", 1),
    "half a line": lambda line: line[: len(line) // 2] + b"\n",
    "no newline": lambda line: line[:-1],
    "CRLF": lambda line: line[:-1] + b"\r\n",
    "an inserted word": lambda line: b"oops\n" + line,
    "an inserted object": lambda line: b'{"image": "a.png"}\n' + line,
    "an inserted blank line": lambda line: b"\n" + line,
    "NULs": lambda line: b"\0" * (len(line) - 1) + b"\n",
    "nesting": lambda line: b'{"a":' * 1_020 + b"1" + b"}" * 1_020 + b"\n" + line,
    "nesting without end": lambda line: b"[" * 100_000 + b"\n" + line,
    "an answer given twice": lambda line: line + line,
    "a failure": lambda line: FAILURES[0] + line,
}


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE)
def test_damage_in_the_middle_is_refused_with_its_place(folder: Path, change) -> None:  # type: ignore[no-untyped-def]
    """File, line, the way out; nothing is changed."""
    (folder / "out.jsonl").write_bytes(SUCCESSES[0] + change(SUCCESSES[1]) + SUCCESSES[2])
    message = refused(folder)
    line = 3 if change(b"a\n") == b"a\na\n" else 2
    assert message.startswith(f"{folder / 'out.jsonl'}, line {line}, ")
    assert "--repair" in message


def test_a_file_that_an_editor_gave_other_line_ends_is_refused(folder: Path) -> None:
    """None of its answers is cut off as if it were a torn end."""
    data = b"".join(SUCCESSES).replace(b"\n", b"\r\n")
    (folder / "out.jsonl").write_bytes(data)
    assert "line 1" in refused(folder)


def test_every_changed_byte_of_an_earlier_line_is_refused(folder: Path) -> None:
    """Newlines included; only a changed end of the last line can look torn."""
    path, whole = folder / "out.jsonl", b"".join(SUCCESSES)
    for at in range(0, len(whole) - len(SUCCESSES[2])):
        path.write_bytes(b"%b%c%b" % (whole[:at], whole[at] ^ 1, whole[at + 1 :]))
        with pytest.raises(JournalDamaged):
            read_back(folder)
    assert side_files(folder, ".torn-") == []


def test_a_line_that_was_taken_out_means_that_its_record_runs_again(folder: Path) -> None:
    """The other lines do not depend on it."""
    (folder / "out.jsonl").write_bytes(SUCCESSES[0] + SUCCESSES[2])
    result = read_back(folder)
    assert [result.state.get(id) for id in ("s0", "s1", "s2")] == [SUCCEEDED, None, SUCCEEDED]


def test_a_second_answer_names_its_record(folder: Path) -> None:
    """Which of the two is right, nobody can tell but the user."""
    (folder / "out.jsonl").write_bytes(b"".join(SUCCESSES) + SUCCESSES[1])
    assert "line 4, answers record 's1' a second time" in refused(folder)


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE)
def test_repair_moves_the_damaged_lines_and_nothing_else(folder: Path, change) -> None:  # type: ignore[no-untyped-def]
    """Every line of the file is in one of the two afterwards, as it was."""
    before = SUCCESSES[0] + change(SUCCESSES[1]) + SUCCESSES[2]
    (folder / "out.jsonl").write_bytes(before)
    result = read_back(folder, repair=True)
    good = [line for line in before.splitlines(keepends=True) if line in SUCCESSES]
    good = list(dict.fromkeys(good))
    assert (folder / "out.jsonl").read_bytes() == b"".join(good)
    assert result.succeeded == len(good)
    (moved,) = side_files(folder, "damaged")
    left = list(before.split(b"\n")[:-1])
    for line in good:
        left.remove(line[:-1])
    assert moved == b"".join(line + b"\n" for line in left)
    assert f"moved {len(left)} damaged line(s) to {folder / 'out.damaged.jsonl'}" in result.notices[0]
    assert read_back(folder).notices == []


def test_repair_takes_the_torn_end_along(folder: Path) -> None:
    """A file with damage and a torn end is whole again in one go."""
    (folder / "out.jsonl").write_bytes(SUCCESSES[0] + b"oops\n" + SUCCESSES[1] + SUCCESSES[2][:-9])
    assert read_back(folder, repair=True).succeeded == 2
    assert side_files(folder, "damaged") == [b"oops\n" + SUCCESSES[2][:-9] + b"\n"]
    assert (folder / "out.jsonl").read_bytes() == SUCCESSES[0] + SUCCESSES[1]


def test_repair_adds_to_what_was_moved_before(folder: Path) -> None:
    """Nothing that was once an answer is thrown away."""
    for word in (b"one\n", b"two\n"):
        (folder / "out.jsonl").write_bytes(SUCCESSES[0] + word + SUCCESSES[1])
        read_back(folder, repair=True)
    assert side_files(folder, "damaged") == [b"one\ntwo\n"]


def test_repair_mends_the_failures_too(folder: Path) -> None:
    """The record of a lost failure line runs again."""
    (folder / "out.failures.jsonl").write_bytes(FAILURES[0].replace(b"503", b"504") + FAILURES[1])
    result = read_back(folder, repair=True)
    assert (result.state.get("f7"), result.state.get("f8")) == (None, FAILED)
    assert (folder / "out.failures.jsonl").read_bytes() == FAILURES[1]


def test_repair_keeps_the_permissions(folder: Path) -> None:
    """An output that others may not read stays so."""
    path = folder / "out.jsonl"
    path.write_bytes(SUCCESSES[0] + b"oops\n" + SUCCESSES[1])
    path.chmod(0o600)
    read_back(folder, repair=True)
    assert path.stat().st_mode & 0o777 == 0o600


FOREIGN = {
    "text": b"shopping list\nmilk\n",
    "JSON": b'{"image": "a.png"}\n{"image": "b.png"}\n',
    "no newline": b"notes",
    "NULs": b"\0" * 100,
    "nesting": b"[" * 100_000,
    "failures": FAILURES[0],
}


@pytest.mark.parametrize("repair", [False, True])
@pytest.mark.parametrize("data", FOREIGN.values(), ids=FOREIGN)
def test_a_file_that_was_never_ours_is_refused_and_not_touched(
    tmp_path: Path, data: bytes, repair: bool
) -> None:
    """Not even with --repair: there is nothing of ours in it to save."""
    (tmp_path / "out.jsonl").write_bytes(data)
    message = refused(tmp_path, known=False, repair=repair)
    assert "out.jsonl exists and was not written by vqa-async (line 1)" in message


def test_without_its_run_file_an_output_can_still_be_repaired(folder: Path) -> None:
    """Good lines prove that it is ours."""
    (folder / "out.jsonl").write_bytes(b"oops\n" + b"".join(SUCCESSES))
    assert "line 1" in refused(folder, known=False)
    assert read_back(folder, known=False, repair=True).succeeded == 3


def test_the_order_of_answers_and_failures_does_not_matter(folder: Path) -> None:
    """A record with an answer is answered; of its failures the newest counts."""
    (folder / "out.failures.jsonl").write_bytes(
        encode_failure(failure(id="s1"))
        + encode_failure(failure(0, PERMANENT, id="x"))
        + encode_failure(failure(0, RETRYABLE, id="x"))
    )
    result = read_back(folder)
    assert (result.state.get("s1"), result.state.get("x")) == (SUCCEEDED, TO_RETRY)
    assert result.superseded == 2


# --- the same through a journal, as a run does it --------------------------------------------------------


async def test_a_run_resumes_from_every_kind_of_end(tmp_path: Path) -> None:
    """After any torn end the missing records run again, and then the output is as if nothing had been."""
    results = [success(n) for n in range(3)]
    out = tmp_path / "out.jsonl"
    await keep(out, *results)
    whole = out.read_bytes()
    for cut in range(0, len(whole), 97):
        out.write_bytes(whole[:cut])
        async with journal(out) as opened:
            for result in results:
                if finished(opened, result.id) is None:
                    await opened.append(result)
        assert out.read_bytes() == whole


async def test_a_refused_journal_changes_nothing(tmp_path: Path) -> None:
    """No answer, no run file, no lock that stays: as if nobody had tried."""
    out = tmp_path / "out.jsonl"
    await keep(out, *(success(n) for n in range(3)))
    out.write_bytes(out.read_bytes().replace(b'"r0"', b'"r9"'))
    before = contents(tmp_path)
    for _ in range(2):
        with pytest.raises(JournalDamaged, match=r"line 1, .*--repair"):
            await keep(out)
    assert contents(tmp_path) == before


async def test_repair_runs_the_damaged_record_again(tmp_path: Path) -> None:
    """And only that."""
    out = tmp_path / "out.jsonl"
    await keep(out, *(success(n) for n in range(3)))
    out.write_bytes(out.read_bytes().replace(b'"1.png"', b'"2.png"'))
    async with journal(out, repair=True) as opened:
        assert [finished(opened, f"r{n}") for n in range(3)] == [SUCCEEDED, None, SUCCEEDED]
        assert "moved 1 damaged line(s)" in opened.notices[0]
        await opened.append(success(1))
    assert ids(out) == ["r0", "r2", "r1"]


async def test_an_answer_drops_the_failures_before_it(tmp_path: Path) -> None:
    """After each run every failed record has one line, its newest, and answered ones have none."""
    out = tmp_path / "out.jsonl"
    paths = await keep(out, failure(0), failure(1), failure(2, PERMANENT))
    assert ids(paths.failures) == ["r0", "r1", "r2"]
    await keep(out, success(0), failure(1, PERMANENT))
    assert ids(paths.failures) == ["r2", "r1"]
    assert [line["error"]["type"] for line in objects(paths.failures)] == ["ImageError", "ImageError"]
    await keep(out, success(1), success(2), retry_failed=True)
    assert not paths.failures.exists()
    assert ids(out) == ["r0", "r1", "r2"]


async def test_a_killed_run_leaves_the_tidying_to_the_next(tmp_path: Path) -> None:
    """Lines that were void before are dropped by a run that adds none."""
    out = tmp_path / "out.jsonl"
    paths = await keep(out, failure(0), failure(1))
    async with journal(out) as opened:
        await opened.append(success(0))  # and no close
    assert ids(paths.failures) == ["r0", "r1"]
    await keep(out)
    assert ids(paths.failures) == ["r1"]


async def test_permanent_failures_run_again_only_when_asked(tmp_path: Path) -> None:
    """Retryable ones always do."""
    out = tmp_path / "out.jsonl"
    await keep(out, failure(0), failure(1, PERMANENT), success(2))
    for retry_failed in (False, True):
        async with journal(out, retry_failed=retry_failed) as opened:
            assert opened.finished_before == 1
            states = [finished(opened, f"r{n}") for n in range(4)]
            assert states == [None, None if retry_failed else FAILED, SUCCEEDED, None]
