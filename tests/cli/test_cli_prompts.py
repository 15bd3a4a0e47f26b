"""`prompts`, and what `run` and `check` say of styles and templates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import answers, vqa_async

from vqa_async.cli.app import run_command
from vqa_async.config import Prompting
from vqa_async.prompts import DEFAULT_SYSTEM_PROMPT, DOMAINS, Asking, styles


def printed(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """What one command prints, run in this process."""
    assert run_command(arguments) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out


def test_styles_and_domains_are_listed_with_what_they_are_for(capsys: pytest.CaptureFixture[str]) -> None:
    """All of them, in lines that fit a screen."""
    out = printed(capsys, "prompts")
    for name in (*styles(), *DOMAINS):
        assert f"\n  {name} " in out
    assert "benchmarks and exams" in out
    assert max(map(len, out.splitlines())) <= 100


def test_the_prompt_is_printed_as_it_is_sent(capsys: pytest.CaptureFixture[str]) -> None:
    """To the letter, one for each style where they are mixed."""
    options = Prompting(style="counting", pairs=3, language="German")
    out = printed(capsys, "prompts", "--style", "counting", "--pairs", "3", "--language", "German")
    assert out == f"{Asking(None, options).system}\n"
    assert printed(capsys, "prompts", "--system-prompt", "Mine.") == "Mine.\n"
    mixed = printed(capsys, "prompts", "--style=mixed")
    assert mixed.count("=== ") == 7
    assert mixed.count(DEFAULT_SYSTEM_PROMPT) == 7


def test_a_domain_that_there_is_not_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """With the one that was meant."""
    assert "Did you mean 'medical'" in printed(capsys, "prompts", "--domain", "medcal", code=2)


def test_check_shows_what_a_record_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The messages of the first good record, where they are made by options; in full as JSON."""
    monkeypatch.chdir(tmp_path)
    row = {"colour": "red", "image": "http://h/a.png"}
    Path("in.jsonl").write_text(json.dumps(row))
    template = ("--prompt-template", "What is {{ colour }}?")
    out = printed(capsys, "check", "in.jsonl", *template)
    assert "\nAsked      system: You are an image" in out
    assert "\n           user: [image] What is red?\n" in out
    long = printed(capsys, "check", "in.jsonl", *template, "--style", "ocr")
    assert "...\n           user" in long
    found = json.loads(printed(capsys, "check", "in.jsonl", *template, "--json"))
    assert found["example"][1] == {"role": "user", "text": "[image] What is red?"}
    assert "Asked" not in printed(capsys, "check", "in.jsonl", "--prompt", "What?")
    own = [{"role": "system", "content": "Own."}, {"role": "user", "content": "Why?"}]
    Path("in.jsonl").write_text(json.dumps({"conversation": own}))
    out = printed(capsys, "check", "in.jsonl", "--style", "mixed")
    assert "Asked      system: Own.\n           user: Why?\n" in out
    Path("in.jsonl").write_text('{"conversation": 3}')
    assert run_command(["check", "in.jsonl", "--style", "ocr", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["example"] is None
    assert run_command(["check", "in.jsonl", "--style", "ocr"]) == 1
    assert "Asked" not in capsys.readouterr().out


def test_check_counts_the_system_prompt_that_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of each record its own."""
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_text('{"questions": ["Who?", "What?"]}\n')

    def tokens(*arguments: str) -> int:
        out = printed(capsys, "check", "in.jsonl", "--json", *arguments)
        count: int = json.loads(out)["estimated_system_tokens"]
        return count

    plain = tokens()
    assert tokens("--style", "ocr") == plain
    assert tokens("--language", "German") > plain
    assert tokens("--system-prompt", "12345678") == 4


def test_a_run_with_a_template_of_a_file_and_the_status_of_its_output(tmp_path: Path, endpoint: str) -> None:
    """The run file holds all that is needed to read the input again."""
    (tmp_path / "ask.txt").write_text("What is {{ thing }}?\n")
    rows = [{"thing": "this"}, {"questions": ["Who?", "What?"], "thing": "x"}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ("run", "in.jsonl", "-o", "out.jsonl", "--base-url", endpoint, "--model", "looks-1")
    done = vqa_async(*command, "--prompt-template", "@ask.txt", "--language", "German", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(answers(tmp_path / "out.jsonl")) == 3
    (tmp_path / "ask.txt").unlink()
    facts = json.loads(vqa_async("status", "out.jsonl", "--json", cwd=tmp_path).stdout)
    assert (facts["done"], facts["left"]) == (3, 0)
    assert facts["settings"]["prompt_template"] == "What is {{ thing }}?\n"
    exported = vqa_async("export", "out.jsonl", "-o", "out.json", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    assert len(json.loads((tmp_path / "out.json").read_text())) == 2  # one of them with both its answers


def test_a_template_that_cannot_work_is_wrong_usage(tmp_path: Path, endpoint: str) -> None:
    """Exit code 2, and the column that was meant."""
    (tmp_path / "in.jsonl").write_text('{"color": "red"}\n')
    command = ("run", "in.jsonl", "-o", "out.jsonl", "--base-url", endpoint, "--model", "looks-1")
    refused = vqa_async(*command, "--prompt-template", "{{ colour }}?", cwd=tmp_path)
    assert refused.returncode == 2
    assert "Did you mean 'color'?" in refused.stderr
