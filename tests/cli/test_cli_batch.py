"""`vqa-async batch` as its users have it, and the short form of `scripts/batch`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pytest
from command_line import answers, serving, vqa_async, write_records

from vqa_async.cli.app import run_command

SCRIPT = Path(__file__).parents[2] / "scripts" / "batch"


class Said(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


Command: TypeAlias = Callable[..., Said]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """A command run here, which takes a tenth of the time of a process."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, env: Mapping[str, str] | None = None) -> Said:
        with monkeypatch.context() as changed:
            for name, value in (env or {}).items():
                changed.setenv(name, value)
            code = run_command(arguments)
        return Said(code, *capsys.readouterr())

    return run


def test_records_are_handed_in_waited_for_and_the_failed_asked_live(tmp_path: Path, command: Command) -> None:
    """The commands say what to do next; exit codes are those of a run."""
    write_records(tmp_path / "in.jsonl", 30)
    with serving("--batch-delay", "1.5", "--batch-expiry", "0.2") as url:
        submit = ("batch", "submit", "in.jsonl", "-o", "out.jsonl", "--batch-requests", "20")
        done = command(*submit, "--base-url", url, "--model", "looks-1")
        assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'out.jsonl'}\n")
        assert "Handed in: 30 records in 2 batches." in done.stderr
        assert "Next: vqa-async batch fetch out.jsonl --wait" in done.stderr
        again = command(*submit, "--json", env={"VQA_BASE_URL": url, "VQA_MODEL": "looks-1"})
        assert json.loads(again.stdout) == {
            "records": 0, "failures_by_type": {}, "skipped": 30, "batches": [],
        }  # fmt: skip
        live = command("run", "in.jsonl", "-o", "out.jsonl", "--base-url", url, "--model", "looks-1")
        assert live.returncode == 2
        assert "--despite-batches" in live.stderr
        state = command("status", "out.jsonl")
        assert "30 records wait in batches" in state.stdout
        # An address in the shell is for what comes next, and the batches are where they were handed in.
        elsewhere = {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
        listed = json.loads(command("batch", "status", "out.jsonl", "--json").stdout)
        assert [(one["number"], one["step"], one["requests"]) for one in listed] == [
            (1, "created", 20), (2, "created", 10),
        ]  # fmt: skip
        done = command("batch", "fetch", "out.jsonl", "--wait", "--json", env=elsewhere)
        assert done.returncode == 1, done.stderr
        fetched = json.loads(done.stdout)
        assert (fetched["succeeded"], fetched["failures_by_type"]) == (24, {"batch_expired": 6})
        assert "--live asks about 6 of the failed live" in done.stderr
        listing = command("batch", "status", "out.jsonl")
        assert "Batch 1  20 records, 0.0 MB: fetched (expired), 16 answered, 4 failed" in listing.stdout
        done = command("batch", "fetch", "out.jsonl", "--live", env=elsewhere)
        assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'out.jsonl'}\n")
        assert "Done: 6 answered, 24 answered before, 0 failed" in done.stderr
    assert len({line["id"] for line in answers(tmp_path / "out.jsonl")}) == 30


def test_batches_that_are_not_over_are_exit_code_three_until_cancelled(
    tmp_path: Path, command: Command
) -> None:
    """As with a run that the same command goes on with."""
    write_records(tmp_path / "in.jsonl", 3)
    (tmp_path / "no.jsonl").write_text('{"id": "r3"}\n')
    with serving("--batch-delay", "60") as url:
        where = ("-o", "out.jsonl", "--base-url", url, "--model", "looks-1")
        assert command("batch", "submit", "in.jsonl", *where, "-q").stderr == ""
        done = command("batch", "submit", "no.jsonl", *where)
        assert done.returncode == 1
        assert "1 (1 no_conversation)" in done.stderr
        done = command("batch", "fetch", "out.jsonl", "--live")
        assert done.returncode == 3
        assert "1 batch not over yet, with 3 records" in done.stderr
        assert "in_progress, 0 answered" in command("batch", "status", "out.jsonl").stdout
        assert "1 batch cancelled" in command("batch", "cancel", "out.jsonl").stderr
        done = command("batch", "fetch", "out.jsonl", "--wait", "-q")
        assert "0 answered, 3 failed (3 batch_cancelled)" in done.stderr


def test_mistakes_are_answered_with_one_sentence(tmp_path: Path, command: Command) -> None:
    """Nothing was handed in, nobody is there, the input was a pipe."""
    done = command("batch", "fetch", "out.jsonl")
    assert done.returncode == 2
    assert "start with: vqa-async batch submit" in done.stderr
    write_records(tmp_path / "in.jsonl", 1)
    where = ("--base-url", "http://127.0.0.1:9/v1", "--model", "m", "--max-attempts", "1")
    done = command("batch", "submit", "in.jsonl", "-o", "out.jsonl", *where)
    assert done.returncode == 3
    assert "refuses connections" in done.stderr
    state = command("batch", "status", "out.jsonl")
    assert "not handed in yet (uploading)" in state.stdout
    done = command("batch", "fetch", "out.jsonl")
    assert done.returncode == 3
    assert "give the same 'vqa-async batch submit' again" in done.stderr
    with serving() as url:
        piped = ("batch", "submit", "-", "-o", "pipe.jsonl", "--base-url", url, "--model", "looks-1")
        done = vqa_async(*piped, cwd=tmp_path, input=(tmp_path / "in.jsonl").read_text())
        assert done.returncode == 0, done.stderr
        done = command("batch", "fetch", "pipe.jsonl", "--live")
        assert "standard input" in done.stderr
        assert command("batch", "fetch", "pipe.jsonl", "--wait").returncode == 0


def test_images_go_through_batches_and_a_fifth_of_them_fails() -> None:
    """Split right, fetched, the failed asked live, exported in the order of the input."""
    done = subprocess.run([sys.executable, SCRIPT, "--short"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every record once" in done.stdout
