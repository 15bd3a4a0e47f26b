"""A run that is watched: events for programs, status from another terminal, help and completion."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import COMMAND, environment, serving, started, vqa_async, write_records

from vqa_async.cli.again import typed_again
from vqa_async.cli.app import app, run_command
from vqa_async.cli.facts import failure_rows, table
from vqa_async.cli.menu import in_short


def test_events_are_one_json_object_a_line(endpoint: str, tmp_path: Path) -> None:
    """From start to end, each with its time and the same run; stdout is what it always was."""
    write_records(tmp_path / "in.jsonl", 3)
    with (tmp_path / "in.jsonl").open("a") as file:
        file.write('{"image": "gone-ü.png", "conversation": "What?"}\n')
    flags = ("--model", "looks-1", "--base-url", endpoint, "--events", "json")
    done = vqa_async(
        "run", "in.jsonl", "-o", "out.jsonl", *flags, cwd=tmp_path, env={"PYTHONIOENCODING": "ascii"}
    )
    assert done.returncode == 1
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert [event["event"] for event in events] == ["run_started", "record_failed", "finished"]
    assert len({event["run_id"] for event in events}) == 1
    assert all(event["time"].endswith("Z") for event in events)
    assert events[1]["code"] == "file_not_found"
    assert (events[2]["succeeded"], events[2]["failed"], events[2]["exit_code"]) == (3, 1, 1)
    assert done.stdout.splitlines() == [
        str(tmp_path / "out.jsonl"),
        str(tmp_path / "out.failures.jsonl"),
    ]


@pytest.mark.slow
def test_status_follows_a_run_from_another_terminal(tmp_path: Path) -> None:
    """While it goes on: its own counters; with --watch until it ends, then how it stands."""
    write_records(tmp_path / "in.jsonl", 40)
    with (
        serving("--no-decode", "--latency", "0.6") as url,
        started(
            *("run", "in.jsonl", "-o", "out.jsonl", "--model", "looks-1", "--base-url", url),
            *("--max-workers", "3", "--quiet"),
            cwd=tmp_path,
        ) as run,
    ):
        lock = tmp_path / "out.jsonl.lock"
        end = time.monotonic() + 20
        while not (lock.exists() and b"in_flight" in lock.read_bytes()):
            assert time.monotonic() < end
            time.sleep(0.05)
        with started("status", "out.jsonl", "--watch", cwd=tmp_path) as watch:
            shown = vqa_async("status", "out.jsonl", cwd=tmp_path).stdout
            facts = json.loads(vqa_async("status", "out.jsonl", "--json", cwd=tmp_path).stdout)
            out, err = watch.communicate(timeout=25)
        assert run.wait(timeout=5) == 0
    assert "State      running (process" in shown
    assert "In flight  3 of 3" in shown
    assert "Waits for  answers" in shown
    assert facts["state"] == "running"
    assert facts["progress"]["width"] == 3
    assert 0 < facts["done"] + facts["left"] == 40
    assert err.startswith("progress elapsed=")
    assert "State      finished" in out
    assert "Done       40" in out


def test_status_without_a_run_has_nothing_to_watch(endpoint: str, tmp_path: Path) -> None:
    """It shows how the output stands, at once: since when, rate, endpoints, files."""
    write_records(tmp_path / "in.jsonl", 3)
    vqa_async(
        *("run", "in.jsonl", "-o", "out.jsonl", "--model", "looks-1", "--base-url", endpoint), cwd=tmp_path
    )
    lines = vqa_async("status", "out.jsonl", "--watch", cwd=tmp_path).stdout.splitlines()
    names = [line[:11].strip() for line in lines]
    assert names == [
        *("State", "Started", "Done", "Failed", "Left", "Rate", "Tokens", "Endpoints", "Files", ""),
    ]


def test_the_end_of_a_run_names_what_to_do_next(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table, what to do about each kind of failure, the files, and commands to copy."""
    monkeypatch.chdir(tmp_path)
    write_records(tmp_path / "in.jsonl", 3)
    with (tmp_path / "in.jsonl").open("a") as file:
        file.write('{"image": "gone.png", "conversation": "What?"}\n')
    command = ["run", "in.jsonl", "-o", "out.jsonl", "--model", "looks-1", "--base-url", endpoint]
    assert run_command([*command, "--header", "X-Secret: abc"]) == 1
    err = capsys.readouterr().err
    assert "Failed     1 file_not_found: mend the input, then --retry-failed\n" in err
    assert "Files      out.jsonl (answers)\n           out.failures.jsonl (failures)\n" in err
    assert f"vqa-async {shlex.join(command)} --header 'X-Secret: ...' --retry-failed\n" in err
    assert "vqa-async report out.jsonl -o out.html\n" in err
    assert "vqa-async export out.jsonl -o out.json\n" in err
    assert "abc" not in err


def test_what_is_for_once_is_not_in_the_command_to_repeat() -> None:
    """Nor what a header holds."""
    typed = ["run", "a b", "--json", "-q", "--retry-failed=timeout", "--header=Key: s", "--model", "m"]
    assert typed_again(typed) == "vqa-async run 'a b' '--header=Key: ...' --model m"


def test_failures_come_with_what_to_do() -> None:
    """The most frequent first; what may pass, what must be mended."""
    assert table(failure_rows({"connect": 1, "not_an_image": 5, "timeout": 2})) == [
        "Failed     5 not_an_image: mend the input, then --retry-failed",
        "           2 timeout: the same command tries them again; --timeout gives them longer",
        "           1 connect: the same command tries them again",
    ]


# --- help and completion --------------------------------------------------------------------------------


def test_help_is_one_screen_with_groups_and_examples(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most 30 lines of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    assert run_command(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 30
    assert max(len(line) for line in lines) <= 80
    heads = [line[:12].strip() for line in lines if line[:12].strip() and line[12:13].strip()]
    assert [head for head in heads if head in ("Start here", "Run", "Look", "Pass on", "Serve")] == [
        *("Start here", "Run", "Look", "Pass on", "Serve"),
    ]
    assert lines.count("Examples") == 1
    assert sum(line.startswith("  vqa-async ") for line in lines) >= 3


COMMANDS = [name for name in app if not name.startswith("-")]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_examples_that_are_commands(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below its options; each parses, with what is said of it cut off."""
    monkeypatch.setenv("COLUMNS", "200")
    assert run_command([command, "--help"]) == 0
    _, _, below = capsys.readouterr().out.rpartition("\nExamples\n")
    lines = [line.strip() for line in below.splitlines() if line.strip()]
    assert lines
    assert all("vqa-async" in line for line in lines)
    assert any(f"vqa-async {command}" in line for line in lines)


@pytest.mark.parametrize(
    ("text", "room", "said"),
    [
        ("Do it. Then more.", 40, "Do it."),
        ("Make a thing: this, that and more.", 20, "Make a thing."),
        ("Make a thing: this and more.", 40, "Make a thing: this and more."),
        ("Nothing to cut in this one", 12, "Nothing t..."),
    ],
)
def test_what_a_command_does_is_said_in_a_line(text: str, room: int, said: str) -> None:
    """Cut where a reader would pause."""
    assert in_short(text, room) == said


def test_bash_completes_commands_and_options(tmp_path: Path) -> None:
    """In a real bash, as Tab does it."""
    script = tmp_path / "completion.bash"
    script.write_text(vqa_async("completion", "bash", cwd=tmp_path).stdout)
    typed = f"""
        source {shlex.quote(str(script))}
        complete -p vqa-async >/dev/null || exit 3
        function=$(complete -p vqa-async | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        try() {{ COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${{#COMP_LINE}}
                 COMPREPLY=(); $function vqa-async "${{@: -1}}" "${{@: -2:1}}"; echo "${{COMPREPLY[@]}}"; }}
        try vqa-async sta
        try vqa-async status --wat
        try vqa-async run --max-wor
    """
    done = subprocess.run(["bash", "-c", typed], capture_output=True, text=True, timeout=20)
    assert done.stdout.split() == ["status", "--watch", "--max-workers"], done.stderr
    for shell in ("zsh", "fish"):
        assert "vqa-async" in vqa_async("completion", shell, cwd=tmp_path).stdout


def test_zsh_takes_the_completion(tmp_path: Path) -> None:
    """Where there is one."""
    from shutil import which

    if which("zsh") is None:
        pytest.skip("no zsh here")
    script = tmp_path / "_vqa-async"
    script.write_text(vqa_async("completion", "zsh", cwd=tmp_path).stdout)
    done = subprocess.run(["zsh", "-n", script], capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stderr) == (0, "")


def test_forced_colour_is_honoured_without_a_terminal(tmp_path: Path) -> None:
    """FORCE_COLOR for CI logs, NO_COLOR for the rest."""
    for env, coloured in (({"FORCE_COLOR": "1"}, True), ({"NO_COLOR": "1"}, False), ({}, False)):
        done = subprocess.run(
            [*COMMAND, "run", "gone.jsonl", "-o", "o.jsonl", "--model", "m"],
            cwd=tmp_path,
            env=environment(env) | {"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert ("\x1b[" in done.stderr) is coloured, (sys.executable, done.stderr)
