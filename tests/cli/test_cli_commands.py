"""What each command prints, writes and returns when all goes well."""

from __future__ import annotations

import json
import re
import signal
import socket
import urllib.request
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from command_line import KEY, all_text, answers, serving, started, vqa_async, write_records
from PIL import Image, ImageOps

from vqa_async.cli.app import run_command

NAMES = {
    "red": (220, 20, 30),
    "blue": (20, 60, 220),
    "green": (20, 160, 50),
    "yellow": (255, 221, 0),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a test, with an input of three records."""
    monkeypatch.chdir(tmp_path)
    write_records(tmp_path / "in.jsonl", 3)
    return tmp_path


@pytest.fixture
def run_arguments(endpoint: str) -> list[str]:
    """`run` on that input."""
    return ["run", "in.jsonl", "-o", "out.jsonl", "--model", "looks-1", "--base-url", endpoint]


# --- run ----------------------------------------------------------------------------------------------


def test_run_prints_where_the_answers_are(
    here: Path, run_arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The path and nothing else on stdout; the counts on stderr."""
    assert run_command(run_arguments) == 0
    out, err = capsys.readouterr()
    assert out == f"{here / 'out.jsonl'}\n"
    assert "Done: 3 answered, 0 failed in " in err
    assert re.search(r"^Tokens +\d+ in, \d+ out$", err, re.MULTILINE)


def test_run_by_a_schema_of_ones_own(
    here: Path, run_arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The answer stands beside the pairs; the schema is among the settings."""
    schema = {"type": "object", "properties": {"caption": {"type": "string"}}, "required": ["caption"]}
    (here / "caption.json").write_text(json.dumps(schema))
    assert run_command([*run_arguments, "--schema", "caption.json"]) == 0
    assert all(isinstance(line["structured"]["caption"], str) for line in answers(here / "out.jsonl"))
    assert json.loads(json.loads((here / "out.run.json").read_text())["settings"]["schema"]) == schema
    (here / "caption.json").write_text('{"type": "caption"}')
    assert run_command([*run_arguments, "--schema", "caption.json"]) == 2
    assert "no valid JSON schema" in capsys.readouterr().err


def test_run_counts_answers_that_were_cut_off(
    here: Path, run_arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """At the end, and once when it happens."""
    assert run_command([*run_arguments, "--max-tokens", "4"]) == 0
    err = capsys.readouterr().err
    assert err.count("--max-tokens-ceiling") == 1
    assert "Cut off    3 answers at max_tokens" in err


def test_run_again_says_that_nothing_was_left(
    here: Path, run_arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A finished run costs no request the second time."""
    assert run_command(run_arguments) == run_command(run_arguments) == 0
    err = capsys.readouterr().err
    assert "Resuming: 3 records answered already." in err
    assert "Done: 0 answered, 3 answered before, 0 failed" in err


def test_run_json_is_one_object_on_stdout(
    here: Path, run_arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A program reads from it how the run ended and where everything is."""
    assert run_command([*run_arguments, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["state"] == "finished"
    assert (summary["exit_code"], summary["succeeded"], summary["failed"]) == (0, 3, 0)
    assert (summary["reason"], summary["error"]) == (None, None)
    assert summary["output"] == str(here / "out.jsonl")


def test_run_json_tells_why_a_run_stopped(
    here: Path, run_arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The error comes with its code, so that nobody has to read the sentence."""
    run_arguments[run_arguments.index("looks-1")] = "nope"
    assert run_command([*run_arguments, "--json"]) == 3
    summary = json.loads(capsys.readouterr().out)
    assert (summary["state"], summary["exit_code"]) == ("stopped", 3)
    assert summary["error"]["type"] == "ModelNotFound"
    assert summary["error"]["message"] == summary["reason"]


def test_quiet_run_says_nothing_when_all_is_well(
    here: Path, run_arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the path is left, for scripts."""
    assert run_command([*run_arguments, "-q"]) == run_command([*run_arguments, "-q"]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == (f"{here / 'out.jsonl'}\n" * 2, "")


def test_quiet_run_still_tells_what_went_wrong(
    here: Path, run_arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Quiet is not silent."""
    (here / "in.jsonl").write_text('{"image": "gone.png", "conversation": "What?"}\n')
    assert run_command([*run_arguments, "-q"]) == 1
    assert "Done: 0 answered, 1 failed (" in capsys.readouterr().err


def test_run_reads_standard_input(here: Path, endpoint: str) -> None:
    """INPUT may be a hyphen, before or after the flags."""
    rows = '{"conversation": "Well?"}\n'
    flags = ("-o", "out.jsonl", "--model", "looks-1", "--base-url", endpoint)
    assert vqa_async("run", "-", *flags, cwd=here, input=rows).returncode == 0
    assert vqa_async("run", *flags, "-", cwd=here, input=rows + rows).returncode == 0
    assert len(answers(here / "out.jsonl")) == 2


def test_limit_takes_only_the_first(here: Path, run_arguments: list[str]) -> None:
    """A trial on a few records; without the limit the rest follows."""
    assert run_command([*run_arguments, "--limit", "1"]) == 0
    assert [line["id"] for line in answers(here / "out.jsonl")] == ["r0"]
    assert run_command(run_arguments) == 0
    assert len(answers(here / "out.jsonl")) == 3


def test_what_an_id_holds_cannot_steer_the_terminal(
    here: Path, run_arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Escapes, line breaks and marks for colour come out as text, on one line."""
    row = {
        "id": "\x1b[2Jx\r\nDone: [red]all[/red] \u202e",
        "image": "go\x1b[1mne.png",
        "conversation": "What?",
    }
    (here / "in.jsonl").write_text(json.dumps(row) + "\n")
    assert run_command(run_arguments) == 1
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert "\u202e" not in err
    assert not [line for line in err.splitlines() if line.startswith("Done: [red]")]
    assert "[red]all[/red]" in err


@pytest.mark.slow
def test_no_key_image_or_error_gets_into_the_files(tmp_path: Path) -> None:
    """Whatever is written: no key, no base64, and no answer that is none."""
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    rows: list[dict[str, Any]] = [{"image": "red.png", "n": n} for n in range(20)] + [{"image": "gone.png"}]
    (tmp_path / "in.json").write_text(json.dumps(rows))
    with serving("--api-key", KEY, "--error-rate", "503=0.3", "--cut-rate", "0.2") as url:
        done = vqa_async(
            *("run", "in.json", "-o", "out.jsonl", "--model", "looks-1", "--base-url", url),
            # So many attempts that no record runs out of them, whatever is drawn.
            *("--backoff-base", "0.01", "--max-attempts", "40", "--prompt", "What is it?"),
            cwd=tmp_path,
            env={"DF_API_KEY": KEY},
        )
    assert done.returncode == 1, done.stderr
    written = all_text(tmp_path)
    assert KEY not in written + done.stdout + done.stderr
    assert "base64" not in written
    assert "sk-" not in written
    lines = answers(tmp_path / "out.jsonl")
    assert len(lines) == 20
    assert [line["vqa"] for line in lines if "40 x 30" not in line["vqa"]] == []


# --- status, export, init -----------------------------------------------------------------------------


def test_status_counts_done_failed_and_left(
    here: Path, run_arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """From the files alone, as lines for people and as JSON for programs."""
    with (here / "in.jsonl").open("a") as file:
        file.write('{"image": "gone.png"}\n{"conversation": "One more?"}\n')
    assert run_command([*run_arguments, "--limit", "4"]) == 1
    capsys.readouterr()
    assert run_command(["status", "out.jsonl"]) == 0
    lines = capsys.readouterr().out.splitlines()
    shown = {line[:11].strip(): line[11:] for line in lines}
    assert (shown["State"], shown["Done"], shown["Left"].split()[0]) == ("finished", "3", "1")
    assert shown["Failed"].startswith("1 (1 ")
    assert run_command(["status", "out.jsonl", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["state"], facts["done"], facts["failed"], facts["left"]) == ("finished", 3, 1, 1)


def test_status_repeats_why_a_run_stopped(
    here: Path, run_arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Who comes back later finds the same sentence."""
    run_arguments[run_arguments.index("looks-1")] = "nope"
    assert run_command(run_arguments) == 3
    capsys.readouterr()
    assert run_command(["status", "out.jsonl"]) == 0
    assert re.search(r"^Stopped +.*'nope'", capsys.readouterr().out, re.MULTILINE)


def test_export_writes_the_guides_form(
    here: Path, run_arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """In input order: the input's fields and the answer."""
    assert run_command(run_arguments) == 0
    capsys.readouterr()
    assert run_command(["export", "out.jsonl", "-o", "out.json"]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("out.json\n", "3 answers, in input order.\n")
    rows = json.loads(Path("out.json").read_bytes())
    assert [set(row) for row in rows] == [{"id", "vqa"}] * 3
    assert [row["id"] for row in rows] == ["r0", "r1", "r2"]


def test_init_names_what_it_wrote_and_writes_nothing_twice(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder with square brackets in its name is shown as it is."""
    assert run_command(["init", "my [red] work"]) == 0
    written = capsys.readouterr().out.splitlines()
    assert "my [red] work/vqa.toml" in written
    assert [path for path in written if not Path(path).is_file()] == []
    assert run_command(["init", "my [red] work"]) == 0
    assert capsys.readouterr() == ("", "Everything is there already.\n")


# --- demo ---------------------------------------------------------------------------------------------


def measured(path: Path) -> tuple[str, str]:
    """An image's size as a viewer shows it, and the name of the colour that most of it is nearest to."""
    with Image.open(path) as stored:
        image = ImageOps.exif_transpose(stored).convert("RGB")
    names: Counter[str] = Counter()
    for count, colour in image.getcolors(1 << 24) or []:
        distance = {
            name: sum((a - b) ** 2 for a, b in zip(colour, known, strict=True))  # type: ignore[arg-type]
            for name, known in NAMES.items()
        }
        names[min(distance, key=distance.__getitem__)] += count
    return f"{image.width} x {image.height} pixels", names.most_common(1)[0][0]


@pytest.mark.slow
def test_demo_answers_each_image_by_what_it_shows(tmp_path: Path) -> None:
    """Exit code 0, two paths on stdout, and in the export every answer fits the image it stands with."""
    done = vqa_async("demo", "demo", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        str(Path("demo") / name) for name in ("out.jsonl", "out.json", "report.html")
    ]
    rows = json.loads((tmp_path / "demo/out.json").read_bytes())
    data = tmp_path / "demo/data/image_vqa"
    asked = json.loads((data / "sample_data.json").read_bytes())
    assert [row.get("image") for row in rows] == [record.get("image") for record in asked]
    for row in rows:
        for name in row.get("image", []):
            assert measured(data / name)[0] in row["vqa"]
    for name in ("red_circle.png", "blue_square.png", "green_triangle.png"):
        [answer] = [row["vqa"] for row in rows if row.get("image") == [name]]
        assert f"Mostly {measured(data / name)[1]} (" in answer
        assert name.partition("_")[0] in answer


@pytest.mark.slow
def test_a_second_demo_asks_nothing_again(tmp_path: Path) -> None:
    """The folder has the answers, so the demo resumes like any run."""
    assert vqa_async("demo", cwd=tmp_path).returncode == 0
    before = (tmp_path / "demo/out.jsonl").read_bytes()
    again = vqa_async("demo", cwd=tmp_path)
    assert again.returncode == 0
    assert f"Done: 0 answered, {len(before.splitlines())} answered before, 0 failed" in again.stderr
    assert (tmp_path / "demo/out.jsonl").read_bytes() == before


# --- serve --------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_prints_its_address_and_ends_with_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    """The first line of stdout can be given to --base-url; a signal is how it is meant to end."""
    with started("serve", "--port", "0", "--model", "a", "--model", "b", cwd=tmp_path) as server:
        assert server.stdout is not None
        base_url = server.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1", base_url)
        with urllib.request.urlopen(f"{base_url}/models") as reply:
            assert [model["id"] for model in json.load(reply)["data"]] == ["a", "b"]
        server.send_signal(number)
        out, err = server.communicate(timeout=10)
    assert (server.returncode, out) == (0, "")
    assert err == "Serving a, b. It measures pixels and is no model. Ctrl-C ends it.\n"


@pytest.mark.slow
def test_serve_keeps_its_usual_port_whatever_else_is_ordered(tmp_path: Path) -> None:
    """8000, as people expect: told by the refusal when somebody sits there already."""
    with socket.socket() as taken:
        with suppress(OSError):  # then somebody else does
            taken.bind(("127.0.0.1", 8000))
            taken.listen()
        done = vqa_async("serve", "--latency", "0.2", cwd=tmp_path)
    assert done.returncode == 2
    assert "Cannot listen on 127.0.0.1 port 8000" in done.stderr
