"""Signals: the first drains a run, the second ends it, and the last line says how to go on."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import KEY, ids, serving, started, vqa_async, write_records

pytestmark = pytest.mark.slow

WORKERS = 8
RECORDS = 100
EVERY = [f"r{n}" for n in range(RECORDS)]


@pytest.fixture
def slow() -> Iterator[str]:
    """An endpoint that takes its time."""
    with serving("--no-decode", "--latency", "0.6") as url:
        yield url


def run_flags(url: str, *more: str) -> tuple[str, ...]:
    flags = ("run", "in.jsonl", "-o", "out.jsonl", "--model", "looks-1", "--base-url", url)
    return (*flags, "--max-workers", str(WORKERS), *more)


def seen_by(url: str) -> dict[str, int]:
    """What the endpoint has counted."""
    with urllib.request.urlopen(url.removesuffix("/v1") + "/stats") as reply:
        counted: dict[str, int] = json.load(reply)
    return counted


def wait_for(url: str, *, in_flight: int = WORKERS, received: int = 0) -> None:
    """Until so many requests are at the endpoint."""
    end = time.monotonic() + 15
    while (seen := seen_by(url))["in_flight"] < in_flight or seen["received"] < received:
        assert time.monotonic() < end, seen
        time.sleep(0.02)


def wait_until_ready(process: subprocess.Popen[str]) -> None:
    """Until the process has a handler for SIGTERM: what comes earlier is Python's own affair."""
    bit = 1 << (signal.SIGTERM - 1)
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        caught = re.search(r"^SigCgt:\s*([0-9a-f]+)", status, re.MULTILINE)
        assert caught is not None
        if int(caught[1], 16) & bit:
            return
        time.sleep(0.002)


def stderr_of(process: subprocess.Popen[str], until: str) -> str:
    """Lines of stderr up to the one that has ``until``."""
    assert process.stderr is not None
    said = ""
    while until not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    return said


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_drains_the_run(number: signal.Signals, code: int, slow: str, tmp_path: Path) -> None:
    """Everything in flight is saved, nothing is sent twice, the exit code is the signal's."""
    write_records(tmp_path / "in.jsonl", RECORDS)
    with started(*run_flags(slow), cwd=tmp_path) as process:
        wait_for(slow, received=WORKERS + 1)
        process.send_signal(number)
        out, err = process.communicate(timeout=15)
    assert process.returncode == code, err
    assert out == f"{tmp_path / 'out.jsonl'}\n"
    assert len(ids(tmp_path / "out.jsonl")) == seen_by(slow)["received"]
    first, *_, last = err.splitlines()
    assert first == f"Stopping: waiting for {WORKERS} requests in flight. Ctrl-C stops at once."
    assert f"Interrupted by {number.name}: " in err
    assert last.startswith("Next: run the same command again to go on; every answer so far is in ")


def test_after_a_signal_the_same_command_goes_on(slow: str, endpoint: str, tmp_path: Path) -> None:
    """No record is asked about twice, and none is left out."""
    write_records(tmp_path / "in.jsonl", RECORDS)
    before = seen_by(endpoint)["received"]
    with started(*run_flags(slow), cwd=tmp_path) as process:
        wait_for(slow)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=15)
    done = vqa_async(*run_flags(endpoint), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert ids(tmp_path / "out.jsonl") == EVERY
    assert seen_by(slow)["received"] + seen_by(endpoint)["received"] - before == RECORDS


def test_a_second_signal_ends_the_run_at_once(endpoint: str, tmp_path: Path) -> None:
    """It does not wait for replies that take minutes; what was saved before stays whole."""
    write_records(tmp_path / "in.jsonl", RECORDS)
    assert vqa_async(*run_flags(endpoint, "--limit", "5"), cwd=tmp_path).returncode == 0
    with (
        serving("--no-decode", "--latency", "60") as stuck,
        started(*run_flags(stuck), cwd=tmp_path) as process,
    ):
        wait_for(stuck)
        process.send_signal(signal.SIGINT)
        stderr_of(process, until="Stopping: ")
        process.send_signal(signal.SIGINT)
        begun = time.monotonic()
        _, err = process.communicate(timeout=15)
        seconds = time.monotonic() - begun
    assert process.returncode == 130
    assert seconds < 1.5
    assert ids(tmp_path / "out.jsonl") == EVERY[:5]
    assert "run the same command again" in err.splitlines()[-1]


def test_one_signal_is_enough_where_the_run_is_stopping_already(tmp_path: Path) -> None:
    """While a run that was refused waits for its last requests, Ctrl-C means: do not wait."""
    write_records(tmp_path / "in.jsonl", RECORDS)
    # The first request is answered 401 at once; the others are on their way for a minute.
    with (
        serving("--no-decode", "--latency", "60", "--error-rate", "401=0.3", "--seed", "1") as url,
        started(*run_flags(url, "--drain-timeout", "30"), cwd=tmp_path) as process,
    ):
        stderr_of(process, until="Stopping: waiting for ")
        process.send_signal(signal.SIGINT)
        begun = time.monotonic()
        process.communicate(timeout=15)
        assert time.monotonic() - begun < 1.5
    assert process.returncode == 130


def test_a_hangup_is_ignored_under_nohup(slow: str, tmp_path: Path) -> None:
    """What was started to outlive its terminal does."""
    write_records(tmp_path / "in.jsonl", 20)

    def as_nohup() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with started(*run_flags(slow), cwd=tmp_path, preexec_fn=as_nohup) as process:
        wait_for(slow)
        process.send_signal(signal.SIGHUP)
        _, err = process.communicate(timeout=15)
    assert process.returncode == 0, err
    assert ids(tmp_path / "out.jsonl") == EVERY[:20]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_first_request_ends_it_cleanly(
    number: signal.Signals, endpoint: str, tmp_path: Path
) -> None:
    """While modules are loaded, the old output is read or the first records are: one line, and resumable."""
    write_records(tmp_path / "in.jsonl", 5_000)
    assert vqa_async(*run_flags(endpoint, "--limit", "1000"), cwd=tmp_path).returncode == 0
    for delay_s in (0.0, 0.15, 0.3, 0.45):
        with started(*run_flags(endpoint), cwd=tmp_path) as process:
            wait_until_ready(process)
            time.sleep(delay_s)
            process.send_signal(number)
            _, err = process.communicate(timeout=15)
        assert process.returncode == 128 + number, (delay_s, err)
        assert "Traceback" not in err
        assert "un the same command again to go on" in err.splitlines()[-1], (delay_s, err)
    answered = ids(tmp_path / "out.jsonl")
    assert len(answered) == len(set(answered)) >= 1_000


@pytest.mark.parametrize("arguments", [("check", "in.jsonl"), ("export", "out.jsonl", "-o", "out.json")])
def test_other_commands_end_with_a_signal_too(
    arguments: tuple[str, ...], endpoint: str, tmp_path: Path
) -> None:
    """One line, the signal's exit code, and nothing half done."""
    write_records(tmp_path / "in.jsonl", 100_000)
    assert vqa_async(*run_flags(endpoint, "--limit", "5"), cwd=tmp_path).returncode == 0
    before = {path.name for path in tmp_path.iterdir()}
    with started(*arguments, cwd=tmp_path) as process:
        wait_until_ready(process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=15)
    assert (process.returncode, out) == (130, "")
    assert err == "vqa-async: interrupted. Run the same command again to go on.\n"
    assert {path.name for path in tmp_path.iterdir()} == before


def test_status_knows_a_run_that_was_killed(slow: str, tmp_path: Path) -> None:
    """Nothing had time to note the end; that nobody holds the output any more tells it."""
    write_records(tmp_path / "in.jsonl", RECORDS)
    with started(*run_flags(slow), cwd=tmp_path) as process:
        wait_for(slow)
        running = vqa_async("status", "out.jsonl", cwd=tmp_path)
        process.kill()
        process.wait()
    assert f"State      running (process {process.pid})" in running.stdout
    killed = vqa_async("status", "out.jsonl", cwd=tmp_path)
    assert "State      killed: run the same command again to go on" in killed.stdout
    facts = json.loads(vqa_async("status", "out.jsonl", "--json", cwd=tmp_path).stdout)
    assert facts["state"] == "killed"


def test_the_key_is_not_on_the_command_line_of_a_run(slow: str, tmp_path: Path) -> None:
    """Others on the machine can read those."""
    write_records(tmp_path / "in.jsonl", RECORDS)
    with started(*run_flags(slow), cwd=tmp_path, env={"DF_API_KEY": KEY}) as process:
        wait_for(slow)
        assert KEY not in Path(f"/proc/{process.pid}/cmdline").read_text()
        assert KEY not in "".join(path.read_text() for path in tmp_path.iterdir())
