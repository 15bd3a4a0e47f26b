"""Terminals, pipes, closed streams and other surroundings: what is shown, and that results do not suffer."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import resource
import shlex
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from command_line import COMMAND, answers, environment, ids, serving, started, vqa_async, write_records

pytestmark = pytest.mark.slow

COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-7]m")


def run_flags(url: str, output: str = "out.jsonl") -> list[str]:
    return ["run", "in.jsonl", "-o", output, "--model", "looks-1", "--base-url", url]


def in_shell(arguments: list[str], redirection: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command in bash, with ``redirection`` after it; the exit code is the command's own."""
    line = f"{shlex.join([*COMMAND, *arguments])} {redirection}; exit ${{PIPESTATUS[0]}}"
    return subprocess.run(
        ["bash", "-c", line], cwd=cwd, env=environment(), capture_output=True, text=True, timeout=30
    )


def plain(shown: str) -> str:
    """What was shown, without colours and movements."""
    return re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", shown)


class Terminal:
    """A pseudo terminal in which one command runs."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self.shown = ""
        self.master = master
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self.master, 4096)
            except OSError:  # the command has ended and nobody holds the other side
                return
            if not data:
                return
            self.shown += data.decode()

    def wait_for(self, pattern: str, timeout_s: float = 15.0) -> re.Match[str]:
        """Until ``pattern`` was shown."""
        end = time.monotonic() + timeout_s
        while not (found := re.search(pattern, self.shown)):
            assert time.monotonic() < end, self.shown
            time.sleep(0.02)
        return found

    def end(self) -> str:
        """Everything that was shown, once the command has ended."""
        self.process.wait(timeout=20)
        self._reader.join(timeout=5)
        return self.shown


@contextmanager
def in_terminal(arguments: list[str], cwd: Path, env: Mapping[str, str] | None = None) -> Iterator[Terminal]:
    """A command whose stderr is a terminal of 120 columns."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
    changes = {"TERM": "xterm", "COLUMNS": "120", **(env or {})}
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=cwd,
        env=environment(changes),
        stdin=slave,
        stdout=subprocess.DEVNULL,
        stderr=slave,
    )
    os.close(slave)
    terminal = Terminal(process, master)
    try:
        yield terminal
    finally:
        process.kill()
        process.wait()
        terminal.end()
        os.close(master)


# --- terminals ----------------------------------------------------------------------------------------


def test_a_terminal_shows_a_live_panel(tmp_path: Path) -> None:
    """Done, left, rate, in flight, endpoints, and the summary in its place at the end."""
    write_records(tmp_path / "in.jsonl", 30)
    with serving("--no-decode", "--latency", "0.3") as url, in_terminal(run_flags(url), tmp_path) as terminal:
        assert int(terminal.wait_for(r"Records .*?(\d+) done of 30")[1]) < 30
        terminal.wait_for(r"In flight .*10 of 10")
        terminal.wait_for(rf"Endpoints .*{url.split('/')[2]}.* up")
        terminal.wait_for(r"In flight .*10 of 10[\s\S]*In flight .*10 of 10")  # drawn again
        shown = plain(terminal.end())
    assert terminal.process.returncode == 0
    assert "Done: 30 answered, 0 failed" in shown
    assert "\x1b[2K" in terminal.shown  # the panel was erased
    assert terminal.shown.count("\x1b[?25l") == terminal.shown.count("\x1b[?25h") == 1  # and its cursor
    assert shown.rindex("In flight") < shown.index("Done: 30")


def test_the_panel_follows_the_size_of_the_terminal(tmp_path: Path) -> None:
    """Made narrow and short while the run goes on: no line is wider, no frame higher."""
    write_records(tmp_path / "in.jsonl", 60)
    flags = [*run_flags("URL"), "--max-workers", "5"]
    with serving("--no-decode", "--latency", "0.3") as url:
        arguments = [url if flag == "URL" else flag for flag in flags]
        with in_terminal(arguments, tmp_path, {"COLUMNS": "", "LINES": ""}) as terminal:
            terminal.wait_for(r"Tokens ")
            before = len(terminal.shown)
            fcntl.ioctl(terminal.master, termios.TIOCSWINSZ, struct.pack("HHHH", 5, 36, 0, 0))
            terminal.wait_for(r"(?s)\x1b\[4A.*\x1b\[4A.*\x1b\[4A")
            shown = terminal.shown[before:]
    last = plain(shown.split("\x1b[4A")[-2]).splitlines()
    assert 1 <= len([line for line in last if line]) <= 4
    assert max(len(line) for line in last) <= 35


def test_another_terminal_shows_the_same_panel_until_the_run_ends(tmp_path: Path) -> None:
    """With what only the run knows, and gone with it."""
    write_records(tmp_path / "in.jsonl", 40)
    with (
        serving("--no-decode", "--latency", "0.6") as url,
        started(*run_flags(url), "-q", "--max-workers", "4", cwd=tmp_path) as run,
    ):
        end = time.monotonic() + 20
        while not (tmp_path / "out.jsonl").exists():
            assert time.monotonic() < end
            time.sleep(0.02)
        with in_terminal(["status", "out.jsonl", "--watch"], tmp_path) as watching:
            watching.wait_for(r"In flight .*4 of 4")
            watching.wait_for(rf"Endpoints .*{url.split('/')[2]}.* up")
            watching.end()
        assert watching.process.returncode == 0
        assert run.wait(timeout=5) == 0
    assert watching.shown.endswith("\x1b[?25h")


def test_a_terminal_shows_what_a_run_waits_for(tmp_path: Path) -> None:
    """After a 429 with Retry-After everything at that endpoint pauses, and the line says so."""
    write_records(tmp_path / "in.jsonl", 30)
    limited = ("--no-decode", "--error-rate", "429=1", "--retry-after", "30")
    with serving(*limited) as url, in_terminal(run_flags(url), tmp_path) as terminal:
        host = re.escape(url.split("/")[2])
        terminal.wait_for(rf"Waits for .*{host}, \d+(\.\d)? s \(rate limit\)")
        terminal.wait_for(r"limited for \d+ s")
        terminal.wait_for(r"Retrying: .*429")
        assert terminal.shown.count("Retrying: ") == 1


def test_a_retry_that_is_over_at_once_is_not_mentioned_twice(tmp_path: Path) -> None:
    """Where the error of the first attempts ends the run, its sentence stands there alone."""
    write_records(tmp_path / "in.jsonl", 30)
    with in_terminal(run_flags("http://127.0.0.1:9/v1"), tmp_path) as terminal:
        shown = terminal.end()
    assert shown.rpartition("\x1b[?25h")[2].count("127.0.0.1:9") == 1  # below the panel, if it was shown
    assert "Retrying" not in shown


@pytest.mark.parametrize(("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colour_is_left_out_on_request(tmp_path: Path, env: dict[str, str], coloured: bool) -> None:
    """NO_COLOR is honoured."""
    with in_terminal(["run", "gone.jsonl", "-o", "out.jsonl", "--model", "m"], tmp_path, env) as terminal:
        shown = terminal.end()
    assert bool(COLOUR.search(shown)) is coloured
    assert "gone.jsonl" in shown


def test_without_a_good_terminal_there_is_a_plain_line_now_and_then(tmp_path: Path) -> None:
    """In a pipe and on a dumb terminal whole lines every few seconds; with -q none."""
    write_records(tmp_path / "in.jsonl", 3)
    with (
        serving("--no-decode", "--latency", "10.5") as url,
        started(*run_flags(url, "pipe.jsonl"), cwd=tmp_path) as piped,
        started(*run_flags(url, "quiet.jsonl"), "-q", cwd=tmp_path) as quiet,
        started(*run_flags(url, "forced.jsonl"), cwd=tmp_path, env={"FORCE_COLOR": "1"}) as forced,
        in_terminal(run_flags(url, "dumb.jsonl"), tmp_path, {"TERM": "dumb"}) as dumb,
    ):
        err = piped.communicate(timeout=20)[1]
        assert quiet.communicate(timeout=20)[1] == ""
        coloured = forced.communicate(timeout=20)[1]
        shown = dumb.end()
    line = r"progress elapsed=10s done=0 failed=0 left=3 rate=0.0/s .* in_flight=3/10 "
    assert re.match(line, err)
    assert re.match(line, shown)
    assert re.match(line, coloured)  # FORCE_COLOR makes no terminal of a pipe
    assert COLOUR.search(coloured)
    assert "\x1b" not in err + shown


@pytest.mark.parametrize("env", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_a_poor_encoding_is_no_reason_to_fail(endpoint: str, tmp_path: Path, env: dict[str, str]) -> None:
    """A path that cannot be shown as it is, is shown as well as it can be."""
    write_records(tmp_path / "in.jsonl", 1)
    done = vqa_async(*run_flags(endpoint, "ü.jsonl"), cwd=tmp_path, env=env, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert ".jsonl" in done.stdout


# --- streams that are closed or full ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("redirection", "code"),
    [
        ("2>&-", 0),
        (">&- 2>&- <&-", 0),
        ("2>/dev/full", 0),
        ("| true", 141),
        ("2>&1 | true", 141),
        (">/dev/full", 3),
    ],
)
def test_results_do_not_depend_on_who_reads_along(
    redirection: str, code: int, endpoint: str, tmp_path: Path
) -> None:
    """Whatever happened to the streams: every record is in the file, and nothing else is."""
    write_records(tmp_path / "in.jsonl", 50)
    done = in_shell(run_flags(endpoint), redirection, tmp_path)
    assert done.returncode == code, done.stderr
    assert ids(tmp_path / "out.jsonl") == [f"r{n}" for n in range(50)]
    assert "Traceback" not in done.stdout + done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_stdout_that_is_full_is_named(endpoint: str, tmp_path: Path) -> None:
    """The sentence tells that it is not the results' disk."""
    write_records(tmp_path / "in.jsonl", 1)
    err = in_shell(run_flags(endpoint), ">/dev/full", tmp_path).stderr
    assert err.splitlines()[-1] == "vqa-async: Standard output cannot be written: No space left on device."


# --- surroundings -------------------------------------------------------------------------------------


def test_a_removed_working_directory_is_named(endpoint: str, tmp_path: Path) -> None:
    """With relative paths it is said; with absolute ones there is nothing to say."""
    write_records(tmp_path / "in.jsonl", 1)
    relative = shlex.join([*COMMAND, *run_flags(endpoint)])
    absolute = relative.replace("in.jsonl", f"{tmp_path}/in.jsonl").replace(
        "out.jsonl", f"{tmp_path}/out.jsonl"
    )
    script = f"mkdir gone; cd gone; rmdir ../gone; {relative}; echo $?; {absolute}; echo $?"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=environment({"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout.split() == ["2", str(tmp_path / "out.jsonl"), "0"], done.stderr
    assert done.stderr.splitlines()[0] == (
        "vqa-async: The working directory was removed. Change to one that exists."
    )


def with_few_files(limit: int) -> Callable[[], None]:
    """Something for a new process to do first: no more open files than ``limit``, for good."""
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


def test_few_open_files_are_enough(tmp_path: Path) -> None:
    """More workers than sockets: fewer are used, that is said once, and no record fails for it."""
    write_records(tmp_path / "in.jsonl", 200)
    with serving("--no-decode", "--latency", "0.02") as url:
        done = vqa_async(
            *run_flags(url), "--max-workers", "1000", cwd=tmp_path, preexec_fn=with_few_files(80)
        )
    assert done.returncode == 0, done.stderr
    assert len(answers(tmp_path / "out.jsonl")) == 200
    assert done.stderr.count("max_workers lowered from 1000 to 16") == 1
    assert done.stderr.count("ulimit -n") == 1


def test_a_low_soft_limit_is_raised_without_a_word(endpoint: str, tmp_path: Path) -> None:
    """Where the system allows more than the shell asks for, the run takes it."""
    write_records(tmp_path / "in.jsonl", 20)

    def few_at_first() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 1024))

    done = vqa_async(*run_flags(endpoint), "--max-workers", "500", cwd=tmp_path, preexec_fn=few_at_first)
    assert done.returncode == 0, done.stderr
    assert "lowered" not in done.stderr
