"""Runs that are killed, and outputs damaged in between: the run after them ends with each record once.

What replay makes of every single byte stands in tests/journal; here whole runs are made of it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from json_mutation import mutated
from whole_runs import (
    ANSWERED,
    BUSY,
    FOR_GOOD,
    LOST,
    OUTCOMES,
    RECORDS,
    REJECTED,
    STOPPED,
    Output,
    new_output,
    whole_lines,
)

from vqa_async.errors import JournalDamaged, JournalError, SettingsChanged

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]  # a busy machine is no counterexample

EACH = RECORDS
ENDINGS = st.lists(st.sampled_from(OUTCOMES), min_size=EACH, max_size=EACH)
LASTING = st.lists(st.sampled_from([ANSWERED, REJECTED]), min_size=EACH, max_size=EACH)
MIXED = (ANSWERED, BUSY, ANSWERED, REJECTED, LOST, ANSWERED)
GOOD = [ANSWERED] * EACH
FILES = ("out.jsonl", "out.failures.jsonl", "out.run.json")


@cache
def mixed_output() -> dict[str, bytes]:
    """The files after a run with every kind of ending, as a kill before its end leaves them.

    In these the failures were not gone through yet, so some stand there twice.
    """
    with new_output() as output:
        output.run([LOST] * EACH)
        output.run(MIXED, killed_at=EACH - 1)
        output.run(MIXED)
        return output.contents()


def spoil(output: Output, name: str, data: bytes) -> None:
    (output.paths.successes.parent / name).write_bytes(data)


def resume(output: Output, outcomes: Sequence[str], **options: object) -> None:
    """Run until a run is not refused, each time doing what the refusal says; it must say one of these."""
    for _ in range(4):
        before = output.contents()
        try:
            output.run(outcomes, **options)
        except JournalError as error:
            assert output.requests == [], "nothing is sent before an output is understood"
            assert output.contents() == before, "what is refused is not touched"
            options |= obeyed(output, error)
        else:
            return
    raise AssertionError("refused again and again")


def obeyed(output: Output, error: JournalError) -> dict[str, object]:
    """The options that the refusal asks for; files are moved away where it says so."""
    if isinstance(error, SettingsChanged):
        return {"allow_changed_settings": True}
    assert isinstance(error, JournalDamaged)
    if str(output.paths.run) in error.message:
        output.paths.run.unlink()
    elif error.code == "foreign":
        path = output.paths.failures if "failures" in error.message else output.paths.successes
        path.unlink()
    else:
        assert "--repair" in error.message
        return {"repair": True}
    return {}


def place(data: bytes, where: float, line: int) -> int:
    """A place in ``data``: a share of it, or so many bytes from the end of one of its lines."""
    if isinstance(where, float):
        return round(where * len(data))
    ends = [at + 1 for at, byte in enumerate(data) if byte == ord("\n")]
    return min(len(data), ends[line % len(ends)] + where)


# --- one fault at a time ---------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(FILES[:2]),
    where=st.floats(0, 1) | st.integers(-3, 1),
    junk=st.sampled_from([b"", b"", b"\0" * 512, b"\xf0"]),
    line=st.integers(0, 9),
)
def test_a_run_goes_on_from_any_prefix(name: str, where: float, junk: bytes, line: int) -> None:
    """It is never refused, keeps what was whole byte for byte, and asks only about what was lost."""
    with new_output() as output:
        output.put_back(mixed_output())
        data = mixed_output()[name]
        cut = data[: place(data, where, line)]
        spoil(output, name, cut + junk)
        kept = whole_lines(output.paths.successes)
        finished = output.finished()
        output.run(GOOD)
        assert whole_lines(output.paths.successes)[: len(kept)] == kept
        # A line that lost only its newline is whole, and its record is finished.
        spared = {f"r{n}" for n in range(EACH)} - {f"r{n}" for n in output.requests}
        assert finished - {"bad"} <= spared | {id for id in finished if id.startswith("broken-")}
        assert len(spared - finished) <= 1
        output.check()


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(FILES), share=st.floats(0, 1, exclude_max=True), other=st.integers(1, 255))
def test_a_run_goes_on_after_any_changed_byte(name: str, share: float, other: int) -> None:
    """It mends the output or refuses it; once that is heeded, the damage has cost what it hit at most."""
    with new_output() as output:
        output.put_back(mixed_output())
        data = mixed_output()[name]
        at = int(share * len(data))
        spoil(output, name, b"%b%c%b" % (data[:at], data[at] ^ other, data[at + 1 :]))
        resume(output, GOOD)
        output.check()
        if name == "out.jsonl":  # two lines are one where the newline between them was changed
            lost = set(data.split(b"\n")[:-1]) - set(whole_lines(output.paths.successes))
            assert len(lost) <= 2


@settings(max_examples=30, deadline=None)
@given(name=st.sampled_from(FILES[:2]), junk=st.binary(min_size=1, max_size=60))
def test_a_run_goes_on_after_any_junk_behind_the_end(name: str, junk: bytes) -> None:
    """No line before it is changed, whatever it is."""
    with new_output() as output:
        output.put_back(mixed_output())
        spoil(output, name, mixed_output()[name] + junk)
        resume(output, GOOD)
        assert whole_lines(output.paths.successes)[:3] == mixed_output()["out.jsonl"].split(b"\n")[:3]
        output.check()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**64), times=st.integers(1, 3))
def test_a_run_goes_on_whatever_its_run_file_says(seed: int, times: int) -> None:
    """Values of other types, nested or missing: it is taken or refused, and the answers are not touched."""
    rng = random.Random(seed)
    data = mixed_output()["out.run.json"]
    for _ in range(times):
        data = mutated(data, rng) or data
    go_on_with_run_file(data)


# Without Hypothesis, which raises the limit that this is about.
def test_a_run_goes_on_after_a_run_file_that_is_nested_deeper_than_python_shows() -> None:
    """It is refused like any other setting that differs."""
    deep = b'"model": ' + b"[" * 1000 + b"]" * 1000
    data = mixed_output()["out.run.json"].replace(b'"model": "m"', deep)
    go_on_with_run_file(data.replace(b'"fingerprint": "', b'"fingerprint": "other'))


def go_on_with_run_file(data: bytes) -> None:
    with new_output() as output:
        output.put_back(mixed_output())
        spoil(output, "out.run.json", data)
        resume(output, GOOD)
        kept = mixed_output()["out.jsonl"]
        assert output.paths.successes.read_bytes()[: len(kept)] == kept
        output.check()


# --- any sequence of them --------------------------------------------------------------------------------


@st.composite
def faults(draw: st.DrawFn) -> tuple[str, str, float, bytes]:
    """What happens to one file between two runs: which, what, where (a share of it), with which bytes."""
    what = draw(st.sampled_from(["cut", "flip", "insert", "delete", "repeat", "swap", "append", "remove"]))
    return draw(st.sampled_from(FILES)), what, draw(st.floats(0, 1)), draw(st.binary(min_size=1, max_size=40))


def changed(data: bytes, what: str, share: float, junk: bytes) -> bytes:
    at = round(share * len(data))
    lines = data.splitlines(keepends=True)
    line = round(share * max(0, len(lines) - 1))
    match what:
        case "cut":
            return data[:at]
        case "flip":
            return data[:at] + bytes(byte ^ (junk[0] or 1) for byte in data[at : at + 1]) + data[at + 1 :]
        case "insert":
            return data[:at] + junk + data[at:]
        case "delete":
            return data[:at] + data[at + junk[0] :]
        case "repeat":
            return b"".join([*lines[: line + 1], *lines[line:]])
        case "swap":
            return b"".join([*lines[line:], *lines[:line]])
        case _:
            return data + junk


RUNS = st.lists(
    st.tuples(ENDINGS, st.none() | st.integers(0, EACH), st.lists(faults(), max_size=2)),
    min_size=1,
    max_size=3,
)


@settings(max_examples=30, deadline=None)
@given(runs=RUNS, last=LASTING)
def test_any_runs_kills_and_damages_end_with_each_record_once(runs: list, last: list[str]) -> None:  # type: ignore[type-arg]
    """Whatever came before: when the input has been gone through, each record has one line."""
    with new_output() as output:
        for outcomes, killed_at, spoilt in runs:
            resume(output, outcomes, killed_at=killed_at)
            for name, what, share, junk in spoilt:
                path = output.paths.successes.parent / name
                if path.exists() and what == "remove":
                    path.unlink()
                elif path.exists():
                    path.write_bytes(changed(path.read_bytes(), what, share, junk))
        resume(output, last)
        output.check()
        settled = output.contents()
        output.run([STOPPED] * EACH)
        assert output.requests == [], "who is finished is not asked again"
        assert {**output.contents(), "out.run.json": b""} == {**settled, "out.run.json": b""}


@settings(max_examples=30, deadline=None)
@given(runs=st.lists(ENDINGS, min_size=1, max_size=4), workers=st.sampled_from([1, 2, 8]), last=LASTING)
def test_any_interleaving_of_endings_is_told_as_it_was(
    runs: list[list[str]], workers: int, last: list[str]
) -> None:
    """Answers and failures for good stay from the run that they came in; all else is tried again."""
    settled: dict[int, str] = {}
    with new_output() as output:
        for outcomes in [*runs, last]:
            summary = output.run(outcomes, max_workers=workers)
            assert sorted(set(output.requests)) == sorted(output.requests)
            assert not settled.keys() & set(output.requests)
            kept = output.finished()
            for number in output.requests:
                if outcomes[number] in (ANSWERED, *FOR_GOOD):
                    settled[number] = outcomes[number]
            assert {f"r{n}" for n in settled} == {id for id in kept if id.startswith("r")}
            assert summary.state == "finished" or STOPPED in outcomes
        output.check([settled[n] for n in range(EACH)])
