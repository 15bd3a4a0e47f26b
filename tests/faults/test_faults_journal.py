"""Kills, power cuts, disks that fail and files that others touch: L of the fault matrix.

Faults of the system are injected by strace where it is installed: the real call fails, or the process is
killed at it.
"""

from __future__ import annotations

import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import answers, serving, started, vqa_async, write_records
from journal_results import contents, failure, ids, keep, success

from vqa_async.errors import JournalDamaged

HERE = Path(__file__)

KEEPER = """
import asyncio, sys, time
sys.path.insert(0, sys.argv[2])
from journal_results import finished, journal, success
from vqa_async.errors import VQAError

async def main():
    lags, over = [0.0], False
    async def look():
        while not over:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            lags.append(time.monotonic() - before - 0.005)
    looking = asyncio.create_task(look())
    try:
        async with journal(sys.argv[1], fsync=sys.argv[3]) as opened:
            for notice in opened.notices:
                print("notice", notice, flush=True)
            for n in range(int(sys.argv[4])):
                if finished(opened, f"r{n}") is None:
                    await opened.append(success(n))
                    print("kept", n, flush=True)
            await opened.close("finished", "", {})
            print("closed", flush=True)
    except VQAError as error:
        print("error", error.code, error, flush=True)
    over = True
    await looking
    print("lag", max(lags), flush=True)

asyncio.run(main())
"""
"""Keeps so many answers and says which; what it printed as kept was acknowledged."""


def keeper(output: Path, *, fsync: str = "always", count: int = 8) -> list[str]:
    script = output.with_name("keeper.py")
    script.write_text(KEEPER)
    journal_tests = str(HERE.parents[1] / "journal")
    return [sys.executable, str(script), str(output), journal_tests, fsync, str(count)]


def injected(
    output: Path, rules: list[str], command: list[str], *, alone: bool = False
) -> subprocess.CompletedProcess[str]:
    """The command under strace, with faults injected into its calls on the files of ``output``, or on that
    file alone."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    trace = output.with_name("trace")
    side = ("out.failures.jsonl", "out.run.json", ".out.run.json.new", ".out.failures.jsonl.new")
    names = [output] if alone else [output, output.parent, *map(output.with_name, side)]
    paths = [flag for name in names for flag in ("-P", str(name))]
    flags = [flag for rule in rules for flag in ("-e", f"inject={rule}")]
    done = subprocess.run(
        [strace, "-f", "-qq", "-o", str(trace), *paths, *flags, *command],
        cwd=HERE.parents[2],
        capture_output=True,
        text=True,
        timeout=30,
    )
    if "PTRACE" in done.stderr or "ptrace" in done.stderr:
        pytest.skip("strace may not trace here")
    return done


def kept(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The ids that were acknowledged."""
    return [f"r{line.split()[1]}" for line in done.stdout.splitlines() if line.startswith("kept ")]


def said(done: subprocess.CompletedProcess[str], word: str) -> str:
    found = [line for line in done.stdout.splitlines() if line.startswith(f"{word} ")]
    assert len(found) == 1, done.stdout + done.stderr
    return found[0].removeprefix(f"{word} ")


# --- L2, L14: killed at a system call --------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "when"),
    [
        ("write", 3),
        ("write", 7),
        ("fsync", 1),
        ("fsync", 6),
        ("ftruncate", 1),
        ("rename", 1),
        ("rename", 2),
        ("rename", 3),
        ("unlink", 1),
    ],
)
async def test_process_killed_at_a_system_call_loses_nothing_acknowledged(
    tmp_path: Path, call: str, when: int
) -> None:
    """SIGKILL at the k-th write, fsync, rename, removal or truncation of a run that cuts a torn end, appends
    and tidies: what was acknowledged is there, once, and the next run goes on."""
    out = tmp_path / "out.jsonl"
    await keep(out, success(0), failure(3), failure(4), fsync="always")
    before = out.read_bytes()
    out.write_bytes(before + b'{"torn')
    done = injected(out, [f"{call}:signal=KILL:when={when}"], keeper(out))
    assert done.returncode == -signal.SIGKILL, done.stdout
    acknowledged = kept(done)
    again = subprocess.run(
        keeper(out), cwd=HERE.parents[2], capture_output=True, text=True, timeout=30, check=True
    )
    assert "closed" in again.stdout, again.stdout
    assert out.read_bytes().startswith(before)
    found = ids(out)
    assert set(acknowledged) <= set(found)
    assert sorted(found) == [f"r{n}" for n in range(8)]
    assert not (tmp_path / "out.failures.jsonl").exists()
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_new_names_are_synced_with_their_folder(tmp_path: Path) -> None:
    """A power cut after a rename or a new file: the folder is synced after each, so the name survives."""
    out = tmp_path / "out.jsonl"
    injected(out, [], keeper(out, count=2))
    trace = (tmp_path / "trace").read_text()
    calls = re.findall(r"^\d+ +(openat|rename|fsync|write|close)\((.*)$", trace, re.MULTILINE)
    made = next(n for n, (name, rest) in enumerate(calls) if "O_CREAT" in rest and "out.jsonl" in rest)
    first_line = next(n for n, (name, _) in enumerate(calls) if name == "write" and n > made)
    folder_fd = [
        rest.rpartition("= ")[2]
        for name, rest in calls[made:first_line]
        if name == "openat" and f'"{tmp_path}"' in rest
    ]
    assert any(
        name == "fsync" and rest.startswith(f"{folder_fd[-1]})") for name, rest in calls[made:first_line]
    )


# --- L5: power cuts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(16))
async def test_power_cut_takes_no_line_that_was_synced(tmp_path: Path, seed: int) -> None:
    """A power cut: of what was not synced any sectors are zero and any end is missing. Synced lines are all
    there, byte for byte; the rest is cut off, or refused until --repair takes it out; nothing is there
    twice."""
    rng = random.Random(seed)
    out = tmp_path / "out.jsonl"
    await keep(out, *(success(n, text="x" * rng.randrange(900)) for n in range(6)))
    synced = out.read_bytes()
    await keep(out, *(success(n, text="y" * rng.randrange(900)) for n in range(6, 12)))
    data = bytearray(out.read_bytes())
    for sector in range(0, len(data), 512):
        if rng.random() < 0.3:
            start, end = max(sector, len(synced)), min(sector + 512, len(data))
            data[start:end] = bytes(max(0, end - start))
    out.write_bytes(data[: rng.randrange(len(synced), len(data) + 1)])
    try:
        await keep(out)
    except JournalDamaged:
        await keep(out, repair=True)
    assert out.read_bytes().startswith(synced)
    found = ids(out)
    assert found[:6] == [f"r{n}" for n in range(6)]
    assert len(found) == len(set(found))
    await keep(out, *(success(n) for n in range(12) if f"r{n}" not in found))
    assert sorted(ids(out), key=lambda id: int(id[1:])) == [f"r{n}" for n in range(12)]


# --- L6, L7: damage and a full disk, by the command ------------------------------------------------------


@pytest.mark.slow
def test_damaged_output_is_refused_by_the_command_before_anything_is_sent(tmp_path: Path) -> None:
    """A line in the middle of the output was changed: exit 2 with file, line and --repair; no request;
    repaired, only that record is asked again."""
    write_records(tmp_path / "in.jsonl", 6)
    with serving("--no-decode") as url:
        command = ("run", "in.jsonl", "-o", "out.jsonl", "--model", "looks-1", "--base-url", url)
        assert vqa_async(*command, cwd=tmp_path).returncode == 0
        lines = (tmp_path / "out.jsonl").read_bytes().splitlines(keepends=True)
        lines[2] = b"oops\n"
        (tmp_path / "out.jsonl").write_bytes(b"".join(lines))
        before = contents(tmp_path)
        refused = vqa_async(*command, cwd=tmp_path)
        assert refused.returncode == 2
        assert "out.jsonl" in refused.stderr
        assert re.search(r"line 3\b", refused.stderr), refused.stderr
        assert "--repair" in refused.stderr
        assert contents(tmp_path) == before
        repaired = vqa_async(*command, "--repair", cwd=tmp_path)
    assert repaired.returncode == 0, repaired.stderr
    assert "1 answered, 5 answered before" in repaired.stderr
    assert (tmp_path / "out.damaged.jsonl").read_bytes() == b"oops\n"
    assert len({line["id"] for line in answers(tmp_path / "out.jsonl")}) == 6


@pytest.mark.slow
def test_full_disk_stops_the_command_and_the_next_goes_on(small_disk: Path, tmp_path: Path) -> None:
    """The disk of the output fills up in the middle of a run: exit 3 with one sentence that names the file,
    whole lines only; with space again the same command finishes."""
    write_records(tmp_path / "in.jsonl", 200)
    out, ballast = small_disk / "out.jsonl", small_disk / "ballast"
    ballast.write_bytes(bytes(270 << 10))
    with serving("--no-decode") as url:
        command = ("run", "in.jsonl", "-o", str(out), "--model", "looks-1", "--base-url", url)
        full = vqa_async(*command, cwd=tmp_path)
        assert full.returncode == 3, full.stderr
        assert f"No space left for {out}" in full.stderr
        assert "Traceback" not in full.stderr
        before = answers(out)
        assert 10 < len(before) < 200
        ballast.unlink()
        done = vqa_async(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"Resuming: {len(before)} records answered already" in done.stderr
    found = [line["id"] for line in answers(out)]
    assert len(found) == len(set(found)) == 200
    assert answers(out)[: len(before)] == before


# --- L9, L10: disks that fail or are slow ----------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "rule", ["fsync:error=EIO:when=4", "fsync:error=EIO:when=4+", "write:error=EIO:when=3+"]
)
def test_failing_disk_ends_the_run_and_fsync_is_not_tried_again(tmp_path: Path, rule: str) -> None:
    """EIO from fsync or write, once or for ever: the run ends with the file's name; what was acknowledged is
    there; a failed fsync of the output is never repeated."""
    out = tmp_path / "out.jsonl"
    done = injected(out, [rule], keeper(out))
    error = said(done, "error")
    assert str(out) in error
    assert "Input/output error" in error
    acknowledged = kept(done)
    assert 0 < len(acknowledged) < 8
    assert ids(out)[: len(acknowledged)] == acknowledged
    assert out.read_bytes().endswith(b"\n")
    if rule.startswith("fsync"):
        failed = [line for line in (tmp_path / "trace").read_text().splitlines() if "EIO" in line]
        fds = re.findall(r"fsync\((\d+)", "\n".join(failed))
        assert len(fds) == len(set(fds)), failed  # one file each, once


@pytest.mark.slow
def test_error_on_closing_is_no_crash(tmp_path: Path) -> None:
    """EIO from close: the lines were synced before, so nothing is lost, and no raw exception comes out."""
    out = tmp_path / "out.jsonl"
    done = injected(out, ["close:error=EIO:when=1+"], keeper(out, count=4), alone=True)
    assert "EIO" in (tmp_path / "trace").read_text()
    assert "closed" in done.stdout, done.stdout + done.stderr
    assert ids(out) == ["r0", "r1", "r2", "r3"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "rule",
    ["write:error=EINTR:when=2+3", "fsync:delay_enter=500000:when=3", "write:delay_enter=500000:when=2"],
)
def test_interrupted_or_slow_disk_only_takes_longer(tmp_path: Path, rule: str) -> None:
    """EINTR from write, an fsync or a write that takes half a second: every line is there, and the event loop
    ran on."""
    out = tmp_path / "out.jsonl"
    done = injected(out, [rule], keeper(out))
    assert "closed" in done.stdout, done.stdout + done.stderr
    assert ids(out) == kept(done) == [f"r{n}" for n in range(8)]
    assert float(said(done, "lag")) < 0.4  # under strace, on a busy machine; half a second if it stood still


# --- L11, L12: locks -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_disk_without_locks_is_told_and_the_run_goes_on(tmp_path: Path) -> None:
    """flock fails with ENOLCK, as on some network disks: a warning that asks for care, and the run goes
    on."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    out = tmp_path / "out.jsonl"
    rule = ["-f", "-qq", "-o", "/dev/null", "-e", "trace=flock", "-e", "inject=flock:error=ENOLCK"]
    done = subprocess.run(
        [strace, *rule, *keeper(out, count=3)],
        cwd=HERE.parents[2],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert "cannot be locked on this disk" in said(done, "notice")
    assert ids(out) == kept(done) == ["r0", "r1", "r2"]


# --- L13: files that others touch ------------------------------------------------------------------------


@pytest.mark.slow
def test_output_that_is_taken_away_in_the_middle_stops_the_command(tmp_path: Path) -> None:
    """Somebody moves the output away while a run writes it: exit 3 with its name, soon; what was moved is
    whole."""
    write_records(tmp_path / "in.jsonl", 400)
    with serving("--no-decode", "--latency", "0.05") as url:
        command = ("run", "in.jsonl", "-o", "out.jsonl", "--model", "looks-1", "--base-url", url)
        with started(*command, "--fsync-interval", "0.1", cwd=tmp_path) as process:
            out = tmp_path / "out.jsonl"
            while not (out.exists() and out.stat().st_size > 4000):
                assert process.poll() is None, process.communicate()
                time.sleep(0.01)
            out.rename(tmp_path / "moved.jsonl")
            _, err = process.communicate(timeout=10)
    assert process.returncode == 3, err
    assert "removed or replaced while the run was writing" in err
    assert "Traceback" not in err
    assert len(answers(tmp_path / "moved.jsonl")) > 5
