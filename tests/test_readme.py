"""The README is true: commands run and print what it shows, its Python runs, its options are complete."""

from __future__ import annotations

import asyncio
import os
import re
import runpy
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

import vqa_async
from vqa_async.server import running_server
from vqa_async.workspace import create_workspace

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()

CHECKOUT_COMMANDS = {"scripts/demo", "scripts/test", "scripts/format"}
"""What is run in a checkout, not in a workspace. scripts/test is what runs this very test."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def transcript() -> Iterator[tuple[str, list[str]]]:
    """Each command of the README with the lines that it is shown to print."""
    command, shown = "", []
    for line in "".join(blocks("console")).splitlines():
        if line.startswith("$ "):
            if command:
                yield command, shown
            command, shown = line[2:], []
        else:
            shown.append(line)
    yield command, shown


def shape(line: str) -> str:
    """A line without what differs from run to run: numbers, and the folder that paths stand in."""
    return re.sub(r"\d[\d.,]*", "N", re.sub(r"/\S*/(?=[\w.-]+$)", "", line)).strip()


def test_the_readme_has_commands_of_every_kind() -> None:
    """The transcript below is not empty by mistake."""
    names = {command.split()[0] for command, _ in transcript()}
    assert names >= {"vqa-async", "scripts/demo", "scripts/test"}
    subcommands = {c.split()[1] for c, _ in transcript() if c.startswith("vqa-async")}
    assert subcommands == {"init", "serve", "demo", "check", "run", "export", "report", "status", "prompts"}


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_every_command_runs_and_prints_what_is_shown(tmp_path: Path) -> None:
    """The commands are typed into one shell, in order; each exits 0 and prints the lines below it."""
    asyncio.run(_type_transcript(tmp_path))


async def _type_transcript(folder: Path) -> None:
    steps = [(c, s) for c, s in transcript() if c not in CHECKOUT_COMMANDS]
    port = _free_port()
    script = ["set -e", "trap 'kill $(jobs -p) 2>/dev/null' EXIT"]
    for command, _ in steps:
        command = command.replace("localhost:8000", f"127.0.0.1:{port}")
        script += [f"echo '@@@'; {command.replace(' serve ', f' serve --port {port} ')}"]
        if "serve" in command:  # its own output is not part of the transcript
            script[-1] = script[-1].replace(" & ", " >/dev/null 2>&1 & ")
        if command.startswith("cd "):
            script += [f"sed -i 's/localhost:8000/127.0.0.1:{port}/' image_vqa.py"]
    shell = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        "\n".join(script),
        cwd=folder,
        env={
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),  # what is tried is this checkout, whatever is installed
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await asyncio.wait_for(shell.communicate(), 150))[0].decode()
    output = output.replace(f"127.0.0.1:{port}", "localhost:8000")
    assert shell.returncode == 0, output
    for (command, shown), printed in zip(steps, output.split("@@@\n")[1:], strict=True):
        lines = [shape(line) for line in printed.splitlines()]
        missing = [line for line in shown if shape(line) not in lines]
        assert not missing, f"{command} printed:\n{printed}"


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
def test_the_demo_script_does_what_is_shown() -> None:
    """scripts/demo prints the lines of the first screen and leaves the files that it names."""
    if Path(sys.prefix) != ROOT / ".venv":
        pytest.skip("not in the checkout's own environment, which scripts/demo would have to make first")
    shown = next(lines for command, lines in transcript() if command == "scripts/demo")
    done = subprocess.run(
        [ROOT / "scripts" / "demo"], capture_output=True, text=True, cwd=ROOT, check=True, timeout=100
    )
    printed = [shape(line) for line in (done.stderr + done.stdout).splitlines()]
    again = "17 answered before" in done.stderr  # the demo was run here before, and resumes
    of_this_run = ("Done", "Answered", "Requests", "Tokens")
    expected = [line for line in shown if not (again and line.startswith(of_this_run))]
    assert not [line for line in expected if shape(line) not in printed], done.stderr + done.stdout
    assert all(Path(ROOT / line).exists() for line in done.stdout.splitlines())


def test_the_scripts_that_are_named_exist() -> None:
    """Each script that the README speaks of is there and can be run."""
    for name in set(re.findall(r"`?(scripts/\w+)", README)):
        assert os.access(ROOT / name, os.X_OK), name


async def test_the_python_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first block answers records, the second is a service that answers through one engine."""
    create_workspace(tmp_path)
    monkeypatch.chdir(tmp_path)
    async with running_server() as server:
        first, second = (
            block.replace("http://localhost:8000/v1", server.base_url) for block in blocks("python")[:2]
        )
        shown: list[tuple[object, ...]] = []
        names: dict[str, object] = {"print": lambda *values: shown.append(values)}
        exec(f"async def example():\n{textwrap.indent(first, '    ')}", names)
        await names["example"]()  # type: ignore[operator]
        assert "red" in str(shown[0][0])
        assert len(shown) == 22
        assert shown[-1] == ("finished", 17)

        names["__name__"] = "example"
        exec(second, names)
        app = names["app"]
        assert isinstance(app, web.Application)
        async with TestServer(app) as service, aiohttp.ClientSession() as session:
            row = {"image": "data/image_vqa/blue_square.png", "conversation": "Colour?"}
            async with session.post(service.make_url("/describe"), json=row) as answer:
                assert "blue" in (await answer.json())["text"]


def test_the_option_table_is_current() -> None:
    """scripts/options has been run since an option changed."""
    module = runpy.run_path(str(ROOT / "scripts" / "options"))
    assert module["with_table"](README) == README, "run scripts/options"


def test_the_architecture_is_the_packages_own_map() -> None:
    """The README shows the map that the imports are held to."""
    rows = [line for line in (vqa_async.__doc__ or "").splitlines() if line.startswith("    ")]
    assert "\n".join(rows) in README


def test_the_changelog_has_a_line_for_this_version() -> None:
    """The version that is built is the one that is described."""
    assert f"## [{vqa_async.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
