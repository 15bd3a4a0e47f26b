"""The reference part of the README is true: commands, recipes, sentences, exit codes, fields of files."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import vqa_async
from vqa_async import open_engine
from vqa_async.cli import exits
from vqa_async.cli.app import _bare, app
from vqa_async.config import Config, Prompting
from vqa_async.export import ExportOptions, export_dataset
from vqa_async.prompts.packs import domain_pack
from vqa_async.server import running_server
from vqa_async.workspace import create_workspace

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
PACKAGE = ROOT / "vqa_async"

OTHERS = {"vllm", "python", "python3", "ollama", "llama-server", "litellm", "docker", "scripts", "#SBATCH"}
OTHERS |= {"cd", "head", "timeout", "OLLAMA_NUM_PARALLEL", "export", "curl", "pip"}
"""What command lines may begin with beside our own command."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def block(language: str, mark: str) -> str:
    """The one block of code that ``mark`` stands in."""
    (found,) = (code for code in blocks(language) if mark in code)
    return found


def command_lines() -> list[str]:
    """Every command line of the README: in blocks for a shell, indented, and in the text."""
    shell = "".join(blocks("sh")).replace("\\\n", " ").splitlines()
    typed = [line[2:] for line in "".join(blocks("console")).splitlines() if line.startswith("$ ")]
    indented = re.findall(r"^    (vqa-async .+)$", README, re.MULTILINE)
    inline = [
        text for text in re.findall(r"`(vqa-async [a-z][^`]*)`", README) if " --" in text or " -o" in text
    ]
    return [*shell, *typed, *indented, *inline]


def own_arguments(line: str) -> Iterator[list[str]]:
    """The arguments of each call of our command in ``line``."""
    line = re.sub(r"\$\(.*?\)|\$\w+", "1", line)
    for part in re.split(r"\s[&|]+\s", line):
        words = shlex.split(part, comments=True)
        if "vqa-async" in words and words[0] in ("vqa-async", "exec", "timeout", "docker", "for"):
            after = words[len(words) - words[::-1].index("vqa-async") :]
            yield [word for word in after if word not in ("&", "||")]


def test_every_command_line_is_one_that_the_command_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands, flags and values are parsed as when they are typed, in a Slurm array; nothing is run."""
    for name, value in {"ID": "3", "MIN": "1", "MAX": "8", "COUNT": "8"}.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    app.config = ()
    seen = 0
    for line in command_lines():
        for arguments in own_arguments(line):
            if arguments and arguments != ["."]:
                app.parse_args(_bare(arguments), exit_on_error=False, print_error=False)
                seen += 1
    assert seen > 40


THEIR_FLAGS = {"--limit-mm-per-prompt", "--limit-mm-data-per-request", "--mmproj", "--network", "--build-arg"}
OF_SCRIPTS = {"--only", "--kills", "--signal", "--seed", "--jobs", "--minutes"}


def test_every_flag_that_is_named_exists() -> None:
    """In text and tables as in commands; other programs' flags are few, and listed."""
    commands = [app[name] for name in app if not name.startswith("-")]
    inner = [one[name] for one in commands for name in one if not name.startswith("-")]
    known = {
        name
        for command in [*commands, *inner]
        if command.default_command is not None
        for argument in command.assemble_argument_collection()
        for name in argument.names
    }
    named = {
        flag
        for text in re.findall(r"`([^`\n]+)`", README)
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)
    }
    assert named - known - THEIR_FLAGS - OF_SCRIPTS - {"--help", "--version"} == set()
    assert len(named) > 60


def test_other_programs_are_those_that_the_readme_is_about() -> None:
    """A line for a shell begins with our command or with one that is known here."""
    lines = "".join(blocks("sh")).replace("\\\n", " ").splitlines()
    begins = {re.split(r"[ /=]", line)[0] for line in lines if line}
    assert begins <= OTHERS | {"vqa-async", "exec", "for"}


@pytest.mark.parametrize(
    "server", ["vLLM", "SGLang", "Ollama", "llama.cpp server", "OpenAI", "LiteLLM", "OpenRouter"]
)
def test_each_server_has_its_row_and_its_commands(server: str) -> None:
    """In the table, and below it with a command of ours."""
    assert re.search(rf"^\| {re.escape(server)}.*\|.*\|.*\|.*\|$", README, re.MULTILINE)
    text = README[README.index(f"**{server}") :]
    assert "vqa-async run" in text[: text.index("```\n\n")]


# --- recipes in Python ---------------------------------------------------------------------------------


async def test_the_recipe_for_a_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a loop that runs already, as a notebook has one."""
    create_workspace(tmp_path)
    monkeypatch.chdir(tmp_path)
    async with running_server() as server:
        code = block("python", "notebook.jsonl").replace("http://localhost:8000/v1", server.base_url)
        shown: list[tuple[object, ...]] = []
        names = {"print": lambda *values: shown.append(values)}
        await asyncio.to_thread(exec, code, names)
    assert shown == [("finished", 17)]


async def test_the_recipe_for_fastapi_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in of FastAPI's form: its lifespan opens one engine, its route answers by it."""
    create_workspace(tmp_path)
    monkeypatch.chdir(tmp_path)

    class FastAPI:
        def __init__(self, lifespan: Any) -> None:
            self.lifespan, self.state, self.routes = lifespan, SimpleNamespace(), {}

        def post(self, path: str) -> Any:
            return lambda function: self.routes.setdefault(path, function)

    class HTTPException(Exception):
        pass

    module = ModuleType("fastapi")
    module.__dict__.update(FastAPI=FastAPI, HTTPException=HTTPException)
    monkeypatch.setitem(sys.modules, "fastapi", module)
    async with running_server() as server:
        names: dict[str, Any] = {"__name__": "service"}
        exec(block("python", "FastAPI").replace("http://localhost:8000/v1", server.base_url), names)
        service = names["app"]
        async with service.lifespan(service):
            describe = service.routes["/describe"]
            row = {"image": "data/image_vqa/blue_square.png", "conversation": "Colour?"}
            assert "blue" in (await describe(row))["text"]
            with pytest.raises(HTTPException) as refused:
                await describe(row | {"image": "nothing.png"})
    assert refused.value.args[0] == 502


# --- what it says ---------------------------------------------------------------------------------------


@cache
def said() -> tuple[str, ...]:
    """Every text of the package's code; where something is filled in, a gap."""
    texts: list[str] = []
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = (str(p.value) if isinstance(p, ast.Constant) else "\0" for p in node.values)
                texts.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(re.sub(r"\{[\w.:,]*\}|%[.\d]*[sdf]", "\0", node.value))
    return tuple(texts)


def sentences() -> list[str]:
    table = README[README.index("| it says | why | what to do |") :]
    return re.findall(r"^\| `(.+?)` \|", table[: table.index("</details>")], re.MULTILINE)


@pytest.mark.parametrize("sentence", sentences())
def test_a_sentence_of_the_table_is_one_that_the_code_says(sentence: str) -> None:
    """Its fixed parts stand in one text of the code, in this order."""
    parts = [re.escape(part) for part in sentence.split("…")]
    pattern = re.compile(".*".join(parts), re.DOTALL)
    assert any(pattern.search(re.sub(r"'\0'|\0", "", text)) or pattern.search(text) for text in said())


def test_the_exit_codes_are_all_there_are() -> None:
    """Each code of the command has its row, and the signals have theirs."""
    table = README[README.index("| code | it means |") : README.index("### Files")]
    shown = {int(code) for cell in re.findall(r"^\| ([\d, ]+) \|", table, re.M) for code in cell.split(",")}
    own = {value for name, value in vars(exits).items() if name.startswith("EXIT_")}
    assert shown == own | {130, 143, 129}


# --- files -----------------------------------------------------------------------------------------------


def fields_of(title: str) -> tuple[set[str], set[str]]:
    """The fields of the table below ``title``: all of them, and those that are always there."""
    text = README[README.index(title) :]
    table = text[text.index("| field |") :]
    rows = re.findall(r"^\| `(\w+)` \| (yes)? ?\|", table[: table.index("\n\n")], re.MULTILINE)
    return {name for name, _ in rows}, {name for name, always in rows if always}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with outputs that between them have every field: out, cut and schema, each with its files."""
    folder = tmp_path_factory.mktemp("files")
    create_workspace(folder)
    source = json.loads((folder / "data/image_vqa/text_data.json").read_bytes())
    rows = [
        *source,
        {"image": "nothing.png", "conversation": "x"},
        {"image": "no.png", "questions": ["a", "b"]},
    ]
    data = folder / "data/image_vqa/in.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    schema = {"type": "object", "properties": {"size": {"type": "string"}}, "required": ["size"]}
    (folder / "schema.json").write_text(json.dumps(schema))

    async def make() -> None:
        async with running_server() as server:
            options: dict[str, Any] = {"base_url": server.base_url, "model": "looks-1"}
            for name, more in {
                "out": {"style": "mixed"},
                "cut": {"max_tokens": 20},
                "schema": {"schema": str(folder / "schema.json")},
            }.items():
                async with open_engine(**options, **more) as engine:
                    await engine.run(str(data), str(folder / f"{name}.jsonl"))

    asyncio.run(make())
    return folder


def verified(folder: Path) -> None:
    """OUT.checks.jsonl beside out.jsonl, by the command."""

    async def make() -> None:
        async with running_server() as server:
            command = ["verify", "out.jsonl", "--base-url", server.base_url, "--model", "looks-1"]
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "vqa_async",
                *command,
                cwd=folder,
                env=os.environ,
                stderr=subprocess.PIPE,
            )
            _, told = await process.communicate()
            assert process.returncode in (0, 1), told

    asyncio.run(make())


def test_the_fields_of_an_answer_are_those_of_the_table(outputs: Path) -> None:
    """All that a run writes is named, and all that is named is written."""
    answers = [line for name in ("out", "cut", "schema") for line in lines(outputs / f"{name}.jsonl")]
    everything, always = fields_of("**`OUT.jsonl`**")
    given = {"image", "conversation", "questions"}
    assert set().union(*answers) - given == everything
    assert all(line.keys() >= always for line in answers)
    everything, always = fields_of("**`_meta` of an answer**")
    assert set().union(*(line["_meta"] for line in answers)) == everything
    assert set.intersection(*(set(line["_meta"]) for line in answers)) == always


def test_the_fields_of_a_failure_are_those_of_the_table(outputs: Path) -> None:
    """The error, and what is known of a record that failed."""
    failures = [line for name in ("out", "cut") for line in lines(outputs / f"{name}.failures.jsonl")]
    everything, _ = fields_of("**`OUT.failures.jsonl`**")
    assert set().union(*failures) - {"image", "conversation", "questions"} == everything
    assert set().union(*(line["error"] for line in failures)) == fields_of("**`error` of a failure**")[1]
    row = README[README.index("**`OUT.failures.jsonl`**") :]
    named = set(re.findall(r"`(\w+)`", next(ln for ln in row.splitlines() if ln.startswith("| `_meta`"))))
    assert set().union(*(line["_meta"] for line in failures)) == named - {"_meta"}


def test_the_fields_of_a_run_file_are_those_of_the_table(outputs: Path) -> None:
    """With a run that has ended."""
    assert set(json.loads((outputs / "out.run.json").read_bytes())) == fields_of("**`OUT.run.json`**")[0]


@pytest.mark.slow
def test_the_fields_of_a_check_are_those_of_the_table(outputs: Path) -> None:
    """As `verify` writes them, the first pair being number 1."""
    verified(outputs)
    checks = lines(outputs / "out.checks.jsonl")
    assert set().union(*checks) == fields_of("**`OUT.checks.jsonl`**")[0]
    assert min(check["pair"] for check in checks) == 1


def test_every_side_file_is_named(outputs: Path) -> None:
    """Whatever stands beside an output is told of."""
    kinds = {path.name.replace("out.", "OUT.", 1) for path in outputs.glob("out.*")}
    kinds = {re.sub(r"^OUT\.checks\.(?!jsonl$)", "OUT.", kind) for kind in kinds}  # an output like any other
    assert all(f"`{kind}`" in README for kind in kinds), kinds


def test_the_decisions_shown_are_taken(outputs: Path) -> None:
    """Both forms, by `export`."""
    answers = lines(outputs / "out.jsonl")
    shown = block("json", "decision").replace("fdf65db247714dda4234f3b7d5e8edd5", answers[0]["_meta"]["id"])
    assert {key for line in shown.splitlines() for key in json.loads(line)} == fields_of("**Decisions**")[0]
    (outputs / "decisions.jsonl").write_text(shown)
    options = ExportOptions(decisions=str(outputs / "decisions.jsonl"))
    export_dataset(outputs / "out.jsonl", outputs / "decided.jsonl", options)
    decided = {line["_meta"]["id"]: line for line in lines(outputs / "decided.jsonl")}
    kept = decided[answers[0]["_meta"]["id"]]["qa_pairs"]
    assert len(kept) == len(answers[0]["qa_pairs"]) - 1


def test_the_domain_pack_shown_can_be_used(tmp_path: Path) -> None:
    """As a file of one's own."""
    path = tmp_path / "plants.toml"
    path.write_text(block("toml", "purpose"))
    assert "botanists" in domain_pack(Prompting(domain=str(path)).domain).system


def test_the_settings_shown_can_be_used() -> None:
    """Tables of endpoints in a settings file."""
    assert len(Config.of(**tomllib.loads(block("toml", "[[endpoints]]"))).endpoints) == 2


def test_the_package_names_its_version() -> None:
    """So that an issue can say which one it is about."""
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", vqa_async.__version__)
