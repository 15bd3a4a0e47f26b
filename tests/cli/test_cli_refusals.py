"""Everything that people get wrong: one clear sentence, the right exit code, promptly, and no traceback."""

from __future__ import annotations

import http.server
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from command_line import KEY, all_text, serving, started, vqa_async, write_records

from vqa_async.cli.exits import EXIT_SOME_FAILED, EXIT_STOPPED, EXIT_USAGE

pytestmark = pytest.mark.slow

LONGEST_S = 6.0  # about one alone; here several start at once


@dataclass(frozen=True)
class Mistake:
    """A command line that cannot work, its exit code, and words that its sentence must have."""

    arguments: str
    code: int
    says: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)


RUN = "run in.jsonl -o out.jsonl --model looks-1 --base-url {url}"
WITH_KEY = {"DF_API_KEY": KEY}

MISTAKES = {
    "wrong key": Mistake(
        "run in.jsonl -o key.jsonl --model looks-1 --base-url {locked}",
        EXIT_STOPPED,
        ("401", "DF_API_KEY", "OPENAI_API_KEY", "--api-key-env"),
        WITH_KEY,
    ),
    "no key": Mistake(
        "run in.jsonl -o nokey.jsonl --model looks-1 --base-url {locked}",
        EXIT_STOPPED,
        ("401", "DF_API_KEY and OPENAI_API_KEY are not set", "export one"),
    ),
    "named key variable not set": Mistake(
        f"{RUN} --api-key-env MY_KEY", EXIT_USAGE, ("MY_KEY", "is not set")
    ),
    "key with a line break": Mistake(
        RUN, EXIT_USAGE, ("DF_API_KEY", "line break"), {"DF_API_KEY": f"{KEY}\n2"}
    ),
    "unknown model": Mistake(
        "run in.jsonl -o model.jsonl --model nope --base-url {url}",
        EXIT_STOPPED,
        ("'nope'", "Check --model"),
        WITH_KEY,
    ),
    "nothing listening": Mistake(
        "run in.jsonl -o dead.jsonl --model m --base-url http://127.0.0.1:9/v1",
        EXIT_STOPPED,
        ("127.0.0.1:9", "refused", "--base-url"),
    ),
    "host that does not exist": Mistake(
        "run in.jsonl -o dns.jsonl --model m --base-url http://nowhere.invalid/v1",
        EXIT_STOPPED,
        ("nowhere.invalid", "does not resolve", "--base-url"),
    ),
    "wrong path": Mistake(
        "run in.jsonl -o path.jsonl --model looks-1 --base-url {url}/nope",
        EXIT_STOPPED,
        ("no chat API", "404", "--base-url"),
    ),
    "a web page": Mistake(
        "run in.jsonl -o html.jsonl --model m --base-url {page}", EXIT_STOPPED, ("web page", "--base-url")
    ),
    "no input": Mistake(
        "run gone.jsonl -o out.jsonl --model m --base-url {url}", EXIT_USAGE, ("gone.jsonl", "no such file")
    ),
    "empty input": Mistake(
        "run empty.jsonl -o out.jsonl --model m --base-url {url}",
        EXIT_USAGE,
        ("empty.jsonl", "holds no records"),
    ),
    "no output folder": Mistake(
        "run in.jsonl -o nowhere/out.jsonl --model m --base-url {url}",
        EXIT_USAGE,
        ("nowhere", "does not exist", "-o"),
    ),
    "output is a folder": Mistake(
        "run in.jsonl -o folder --model m --base-url {url}", EXIT_USAGE, ("folder", "file name")
    ),
    "output is the input": Mistake(
        "run in.jsonl -o ./in.jsonl --model m --base-url {url}", EXIT_USAGE, ("same file", "-o")
    ),
    "output of something else": Mistake(
        "run in.jsonl -o foreign.jsonl --model m --base-url {url}",
        EXIT_USAGE,
        ("foreign.jsonl", "not written by vqa-async", "-o"),
    ),
    "bad value": Mistake(f"{RUN} --max-workers many", EXIT_USAGE, ("--max-workers", '"many"')),
    "value out of range": Mistake(f"{RUN} --max-workers 0", EXIT_USAGE, ("max_workers", "from 1 to 100000")),
    "unknown option": Mistake(f"{RUN} --max-worker 3", EXIT_USAGE, ("--max-worker", "--max-workers?")),
    "unknown command": Mistake("rum", EXIT_USAGE, ('"rum"', '"run"?')),
    "bad variable": Mistake(RUN, EXIT_USAGE, ("VQA_MAX_WORKERS", '"many"'), {"VQA_MAX_WORKERS": "many"}),
    "no settings file": Mistake(f"{RUN} --config gone.toml", EXIT_USAGE, ("gone.toml", "--config")),
    "settings no TOML": Mistake(
        f"{RUN} --config syntax.toml", EXIT_USAGE, ("syntax.toml", "not TOML", "line 1")
    ),
    "settings no text": Mistake(f"{RUN} --config latin.toml", EXIT_USAGE, ("latin.toml", "not TOML")),
    "unknown setting": Mistake(
        f"{RUN} --config unknown.toml", EXIT_USAGE, ("'max_workerz'", "unknown.toml", "'max_workers'?")
    ),
    "bad setting": Mistake(f"{RUN} --config value.toml", EXIT_USAGE, ("max_workers", "value.toml")),
    "no model": Mistake("run in.jsonl -o out.jsonl --base-url {url}", EXIT_USAGE, ("--model NAME",)),
    "bad header": Mistake(f"{RUN} --header nocolon", EXIT_USAGE, ("--header", "'Name: value'")),
    "password in the address": Mistake(
        f"run in.jsonl -o out.jsonl --model m --base-url http://me:{KEY}@host/v1",
        EXIT_USAGE,
        ("user name or password", "--api-key-env"),
    ),
    "no address": Mistake(
        "run in.jsonl -o out.jsonl --model m --base-url localhost", EXIT_USAGE, ("'localhost'", "http://")
    ),
    "no records to take": Mistake(f"{RUN} --limit 0", EXIT_USAGE, ("limit",)),
    "status of nothing": Mistake("status gone.jsonl", EXIT_USAGE, ("gone.jsonl",)),
    "export of nothing": Mistake("export gone.jsonl -o x.json", EXIT_USAGE, ("gone.jsonl",)),
    "export into a form that is none": Mistake(
        "export foreign.jsonl -o x.yaml", EXIT_USAGE, ("'yaml'", "--format")
    ),
    "check of nothing": Mistake("check gone.jsonl", EXIT_USAGE, ("gone.jsonl", "no such file")),
    "check of no records": Mistake("check in.jsonl --limit 0", EXIT_USAGE, ("limit",)),
    "serve where it cannot": Mistake("serve --host 203.0.113.1 --port 0", EXIT_USAGE, ("203.0.113.1",)),
    "init in a file": Mistake("init in.jsonl", EXIT_USAGE, ("in.jsonl",)),
    "demo in a file": Mistake("demo in.jsonl", EXIT_USAGE, ("in.jsonl",)),
}


class _Page(http.server.BaseHTTPRequestHandler):
    """Answers everything with a web page, as an address without its /v1 often does."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><html><body>Welcome</body></html>")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def page() -> Iterator[str]:
    """Base URL of a web server that has no API."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all the mistakes are made."""
    folder = tmp_path_factory.mktemp("mistakes")
    write_records(folder / "in.jsonl", 3)
    (folder / "empty.jsonl").touch()
    (folder / "folder").mkdir()
    (folder / "foreign.jsonl").write_text('{"a": 1}\n')
    (folder / "syntax.toml").write_text("model = = 1\n")
    (folder / "latin.toml").write_bytes(b'model = "\xe9"\n')
    (folder / "unknown.toml").write_text("max_workerz = 3\n")
    (folder / "value.toml").write_text('max_workers = "many"\n')
    return folder


@pytest.fixture(scope="module")
def outcomes(
    endpoint: str, page: str, folder: Path
) -> dict[str, tuple[subprocess.CompletedProcess[str], float]]:
    """How each mistake ends, and after how many seconds; made together, because most of it is starting."""
    with serving("--no-decode", "--api-key", "another-key") as locked:

        def make(mistake: Mistake) -> tuple[subprocess.CompletedProcess[str], float]:
            arguments = mistake.arguments.format(url=endpoint, locked=locked, page=page).split()
            begun = time.monotonic()
            return vqa_async(*arguments, cwd=folder, env=mistake.env), time.monotonic() - begun

        with ThreadPoolExecutor(os.cpu_count()) as threads:
            return dict(zip(MISTAKES, threads.map(make, MISTAKES.values()), strict=True))


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_answered_with_one_sentence(
    name: str, outcomes: dict[str, tuple[subprocess.CompletedProcess[str], float]]
) -> None:
    """It names what is wrong and what to do, is said once, and comes with its exit code and no traceback."""
    mistake, (done, seconds) = MISTAKES[name], outcomes[name]
    lines = done.stderr.splitlines()
    sentences = [line for line in lines if line.startswith(("vqa-async: ", "Cause: "))]
    assert len(sentences) == 1, done.stderr
    assert done.returncode == mistake.code, done.stderr
    assert [word for word in mistake.says if word not in sentences[0]] == []
    assert "Traceback" not in done.stdout + done.stderr
    assert KEY not in done.stdout + done.stderr
    assert seconds < LONGEST_S


@pytest.mark.parametrize("name", [name for name, m in MISTAKES.items() if m.code == EXIT_USAGE])
def test_wrong_usage_says_nothing_else(
    name: str, outcomes: dict[str, tuple[subprocess.CompletedProcess[str], float]]
) -> None:
    """Where nothing was sent, the sentence is all there is."""
    done, _ = outcomes[name]
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", [name for name, m in MISTAKES.items() if m.code == EXIT_STOPPED])
def test_a_run_that_cannot_go_on_ends_with_what_to_do(
    name: str, outcomes: dict[str, tuple[subprocess.CompletedProcess[str], float]]
) -> None:
    """The last line says that the same command goes on; the cause stands in one line before it."""
    done, _ = outcomes[name]
    *_, cause, last = done.stderr.splitlines()
    assert cause.startswith("Cause: ")
    assert last == "Next: mend that and run the same command again; nothing is answered yet."
    assert done.stderr.count(cause.removeprefix("Cause: ")) == 1


def test_no_mistake_leaves_the_key_in_a_file(
    folder: Path, outcomes: dict[str, tuple[subprocess.CompletedProcess[str], float]]
) -> None:
    """Neither outputs nor run files nor locks have it."""
    assert len(outcomes) == len(MISTAKES)
    assert KEY not in all_text(folder)


def test_a_second_run_on_the_same_output_is_refused(tmp_path: Path) -> None:
    """It names the process that holds the output; that one is not disturbed."""
    write_records(tmp_path / "in.jsonl", 2)
    command = ("run", "in.jsonl", "-o", "out.jsonl", "--model", "looks-1", "--base-url")
    with (
        serving("--no-decode", "--latency", "2.5") as url,
        started(*command, url, cwd=tmp_path) as first,
    ):
        while not (tmp_path / "out.run.json").exists():
            time.sleep(0.01)
        second = vqa_async(*command, url, cwd=tmp_path)
        assert second.returncode == EXIT_USAGE
        assert f"Another run (process {first.pid}) is writing" in second.stderr
        assert "choose another -o" in second.stderr
        assert first.wait(timeout=20) == 0


def test_failed_records_make_exit_code_1(endpoint: str, tmp_path: Path) -> None:
    """The good ones are answered; the last line names the failures file and what the next run does."""
    (tmp_path / "in.jsonl").write_text(
        '{"image": "gone.png", "conversation": "What?"}\n{"conversation": "Well?"}\n'
    )
    done = vqa_async(
        *("run", "in.jsonl", "-o", "out.jsonl", "--model", "looks-1", "--base-url", endpoint), cwd=tmp_path
    )
    assert done.returncode == EXIT_SOME_FAILED
    assert done.stdout.splitlines() == [str(tmp_path / "out.jsonl"), str(tmp_path / "out.failures.jsonl")]
    assert "Done: 1 answered, 1 failed (" in done.stderr
    assert done.stderr.count("gone.png") == 1
    assert "\nNext: --retry-failed tries the failures again" in done.stderr
