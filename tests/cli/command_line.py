"""The command line as its users have it: processes, their streams and their files."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

COMMAND = (sys.executable, "-m", "vqa_async")
KEY = "sk-canary-cli-0123456789"


def environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment without what would change the outcome, with ``changes``."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.endswith("_API_KEY")
        and not name.startswith(("VQA_", "OPENAI_", "COV_"))
        and name != "PYTHONUNBUFFERED"  # with it nothing is left to be written when Python ends
    }
    return {**kept, "COLUMNS": "200", **(changes or {})}


def vqa_async(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=cwd,
        env=environment(env),
        text=True,
        timeout=30,
        **{"capture_output": True, **options},
    )


@contextlib.contextmanager
def started(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, **options: Any
) -> Iterator[subprocess.Popen[str]]:
    """A command that goes on; killed with the block."""
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(
        [*COMMAND, *arguments], cwd=cwd, env=environment(env), text=True, **{**piped, **options}
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def serving(*flags: str) -> Iterator[str]:
    """The embedded endpoint as a process of its own; gives its base URL."""
    with started("serve", "--port", "0", *flags, cwd=Path.cwd(), stderr=subprocess.DEVNULL) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()


def write_records(path: Path, count: int) -> None:
    """A JSONL file of records that only have a question."""
    rows = [{"id": f"r{n}", "conversation": f"What comes after {n}?"} for n in range(count)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def answers(path: Path) -> list[dict[str, Any]]:
    """The lines of an output, each of which must be whole."""
    content = path.read_bytes()
    assert not content or content.endswith(b"\n")
    return [json.loads(line) for line in content.decode("utf-8", "strict").splitlines()]


def ids(path: Path) -> list[str]:
    """The ids in an output, sorted."""
    return sorted((line["id"] for line in answers(path)), key=lambda id: int(id[1:]))


def all_text(folder: Path) -> str:
    """Everything in the files below ``folder``."""
    return "".join(path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file())
