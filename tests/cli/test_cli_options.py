"""Flags, help and where values come from: flag, environment, OPENAI_BASE_URL, settings file, default."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from command_line import write_records

from vqa_async.cli.app import run_command
from vqa_async.config import Config, option_groups
from vqa_async.server import ServerOptions

UNREACHABLE = "http://127.0.0.1:9/v1"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a test, with an input in it."""
    monkeypatch.chdir(tmp_path)
    write_records(tmp_path / "in.jsonl", 2)
    return tmp_path


def settings_of(output: Path) -> dict[str, Any]:
    """The settings that a run has noted beside its output."""
    run = json.loads(output.with_name(f"{output.stem}.run.json").read_bytes())
    settings: dict[str, Any] = run["settings"]
    return settings


def help_of(command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "100")
    assert run_command([*command.split(), "--help"]) == 0
    return capsys.readouterr().out


def flag(option: str) -> str:
    return "--" + option.replace("_", "-")


# --- help ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "batch submit"])
def test_every_option_is_a_flag_of_run_once_with_help(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever config has, `run --help` has, one time, with a text; `batch submit` has what is
    for batches in place of what watches a run."""
    line = re.compile(r"^│ \*? *(--[a-z-]+)(?: -\w)?(?: [A-Z|]+(?:\.\.\.)?)? {2,}\S", re.MULTILINE)
    flags = line.findall(help_of(command, capsys, monkeypatch))
    others = "batches" if command == "run" else "observability"
    wanted = [name for name, group in option_groups().items() if group != others]
    assert [option for option in wanted if flags.count(flag(option)) != 1] == []
    assert len(flags) == len(set(flags))


def test_every_option_of_the_endpoint_is_a_flag_of_serve(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can be ordered in Python can be ordered on the command line."""
    words = help_of("serve", capsys, monkeypatch).split()
    assert [f.name for f in fields(ServerOptions) if flag(f.name) not in words] == []


def test_the_groups_stand_in_the_order_in_which_people_need_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where, what, pace, budget, images, results, quality, watching."""
    titles = re.findall(r"^╭─ ([^─]+) ─", help_of("run", capsys, monkeypatch), re.MULTILINE)
    assert titles == [
        "Arguments",
        "Where",
        "What to ask",
        "Pace and patience",
        "Budget",
        "Images",
        "Results and resuming",
        "Checked answers",
        "Watched from outside",
    ]


def test_defaults_are_shown_where_they_say_something(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers with their size, but not that a switch is off."""
    text = " ".join(help_of("run", capsys, monkeypatch).replace("│", "").split())
    assert "[default: 10]" in text
    assert "[default: 600]" in text
    assert "[default: 8388608, 8 MiB]" in text
    assert "0: no limit. [default: 0]" in text
    assert "False" not in text
    assert "None" not in text


def test_help_flows_where_the_source_was_broken(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A help text that takes two lines in config has no gap in the middle."""
    text = help_of("run", capsys, monkeypatch)
    assert not [line for line in text.splitlines() if re.search(r"│ {34,}\S", line.removesuffix("│"))]


def test_help_loads_nothing_heavy() -> None:
    """Commands start quickly because what only a run needs is loaded when a run begins."""
    heavy = "('aiohttp', 'PIL', 'pyarrow', 'tenacity', 'uvloop', 'vqa_async.engine', 'vqa_async.server')"
    code = f"import sys, vqa_async.cli.app; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout == "[]\n", done.stderr


def test_no_command_shows_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """Someone who types the name alone learns what there is, and how to try it."""
    assert run_command([]) == 0
    out = capsys.readouterr().out
    assert "vqa-async demo" in out
    assert all(f" {name} " in out for name in ("run", "check", "status", "export", "init", "demo", "serve"))


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    """Asked for its version, it says just that."""
    from vqa_async import __version__

    assert run_command(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


# --- precedence ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "variable", "setting", "wanted"),
    [
        (["--seed", "1"], "2", "3", 1),
        ([], "2", "3", 2),
        ([], None, "3", 3),
        ([], None, None, None),
        (["--seed", "1"], None, "3", 1),
        (["--seed", "1"], "2", None, 1),
    ],
)
def test_the_nearest_value_wins(
    flags: list[str],
    variable: str | None,
    setting: str | None,
    wanted: int | None,
    here: Path,
    endpoint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Flag before environment before settings file before default."""
    if variable:
        monkeypatch.setenv("VQA_SEED", variable)
    lines = ['model = "looks-1"', f'base_url = "{endpoint}"', *([f"seed = {setting}"] if setting else [])]
    (here / "vqa.toml").write_text("\n".join(lines))
    assert run_command(["run", "in.jsonl", "-o", "out.jsonl", "--config", "vqa.toml", *flags]) == 0
    assert settings_of(here / "out.jsonl")["seed"] == wanted


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("--base-url", ["VQA_BASE_URL", "OPENAI_BASE_URL", "--config"]),
        ("VQA_BASE_URL", ["OPENAI_BASE_URL", "--config"]),
        ("OPENAI_BASE_URL", ["--config"]),
        ("--config", []),
    ],
)
def test_the_nearest_address_wins(
    right: str, wrong: list[str], here: Path, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for the address, with the variable that other tools use between ours and the file."""
    arguments = ["run", "in.jsonl", "-o", "out.jsonl", "--model", "looks-1"]
    for place, url in [(right, endpoint), *((place, UNREACHABLE) for place in wrong)]:
        if place == "--config":
            (here / "vqa.toml").write_text(f'base_url = ["{url}"]\n')
            arguments += ["--config=vqa.toml"]
        elif place == "--base-url":
            arguments += [place, url]
        else:
            monkeypatch.setenv(place, url)
    assert run_command(arguments) == 0


@pytest.mark.parametrize("option", ["model", "system_prompt", "output_key", "prompt"])
def test_any_option_can_come_from_the_environment(
    option: str, here: Path, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """VQA_ and the option's name; a text stays whole, spaces and addresses included."""
    value = "looks-1" if option == "model" else "as in http://a b"
    monkeypatch.setenv("VQA_MODEL", "looks-1")
    monkeypatch.setenv(f"VQA_{option.upper()}", value)
    assert run_command(["run", "in.jsonl", "-o", "out.jsonl", "--base-url", endpoint]) == 0
    assert settings_of(here / "out.jsonl")[option] == value


def test_several_addresses_and_headers_fit_into_variables(
    here: Path, endpoint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Addresses stand apart by spaces, headers by line breaks, because a header has spaces of its own."""
    monkeypatch.setenv("VQA_BASE_URL", f"{endpoint} {endpoint}/")
    monkeypatch.setenv("VQA_HEADER", "X-One: a b\nX-Two: c")
    assert run_command(["run", "in.jsonl", "-o", "out.jsonl", "--model", "looks-1"]) == 0
    monkeypatch.setenv("VQA_HEADER", "X-One: a b\nnocolon")
    assert run_command(["run", "in.jsonl", "-o", "out.jsonl", "--model", "looks-1"]) == 2
    assert "'Name: value'" in capsys.readouterr().err


def test_variables_are_for_run_and_check_alone(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """VQA_FORMAT=folder is about an input and must not reach `export`, whose formats are others."""
    monkeypatch.setenv("VQA_FORMAT", "folder")
    assert run_command(["export", "gone.jsonl", "-o", "out.json"]) == 2
    err = capsys.readouterr().err
    assert "gone.jsonl" in err
    assert "VQA_FORMAT" not in err


def test_the_settings_file_of_init_works_as_it_is(here: Path, endpoint: str) -> None:
    """Every line of it is an option, and with its comment marks removed still one that is known."""
    assert run_command(["init", "work"]) == 0
    file = here / "work" / "vqa.toml"
    opened = re.sub(r"^#(\w+ = .+)$", r"\1", file.read_text(), flags=re.MULTILINE)
    file.write_text(re.sub(r"^base_url = .*$", f'base_url = ["{endpoint}"]', opened, flags=re.MULTILINE))
    assert run_command(["run", "in.jsonl", "-o", "out.jsonl", "--config", str(file)]) == 0
    said = Config.of(**tomllib.loads(file.read_text())).answer_settings()
    kept = settings_of(here / "out.jsonl")  # with the instructions that the style adds
    assert {name: kept[name] for name in said} == json.loads(json.dumps(said))


def test_a_settings_file_may_hold_what_only_run_knows(here: Path, endpoint: str) -> None:
    """The output, the limit and how much is said."""
    (here / "vqa.toml").write_text(
        f'base_url = "{endpoint}"\nmodel = "looks-1"\noutput = "out.jsonl"\nlimit = 1\nquiet = true\n'
    )
    assert run_command(["run", "in.jsonl", "--config", "vqa.toml"]) == 0
    assert (here / "out.jsonl").read_bytes().count(b"\n") == 1


def test_check_takes_the_settings_file_of_run(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Options that are of no matter to a check are passed over; those that are, apply."""
    (here / "rows.jsonl").write_text('{"asked": "What is this, please?"}\n')
    (here / "vqa.toml").write_text('model = "m"\nmax_workers = 3\nconversation_key = "asked"\n')
    arguments = ["check", "rows.jsonl", "--config", "vqa.toml", "--offline"]
    assert run_command([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["good"], found["bad"]) == (1, 0)
    monkeypatch.setenv("VQA_CONVERSATION_KEY", "nothing")
    assert run_command(arguments) == 1


@pytest.mark.parametrize("flags", [["--max-worker", "3"], ["--api-key", "sk-on-the-command-line"]])
def test_an_unknown_flag_is_named_wherever_it_stands(
    flags: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before or after the input; its value, which may be a key, is not repeated."""
    for arguments in (["run", *flags, "in.jsonl"], ["run", "in.jsonl", *flags]):
        assert run_command([*arguments, "-o", "out.jsonl", "--model", "m"]) == 2
        err = capsys.readouterr().err
        assert f"Unknown option: {flags[0]}." in err
        assert "sk-on-the-command-line" not in err
