"""Limits and budgets from the command line: endpoints in a file, rates kept, sums said, looks before."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path

import pytest
from command_line import serving, vqa_async, write_records


def stats(url: str) -> dict[str, object]:
    with urllib.request.urlopen(url.removesuffix("/v1") + "/stats") as reply:
        found: dict[str, object] = json.load(reply)
    return found


def test_unknown_model_is_found_before_any_record_is_sent(tmp_path: Path) -> None:
    """The list of models does not name it, and one small call settles it."""
    write_records(tmp_path / "in.jsonl", 30)
    with serving("--no-decode") as url:
        done = vqa_async(
            "run", "in.jsonl", "-o", "out.jsonl", "--base-url", url, "--model", "gone", cwd=tmp_path
        )
        assert stats(url)["received"] == 1
    assert done.returncode == 3
    assert "'gone'" in done.stderr
    assert "Check --model" in done.stderr


def test_wrong_key_is_found_before_any_record_is_sent(tmp_path: Path) -> None:
    """The list of models asks for the key too, and one small call settles it."""
    write_records(tmp_path / "in.jsonl", 30)
    with serving("--no-decode", "--api-key", "right-key-0123456789") as url:
        env = {"OPENAI_API_KEY": "wrong-key-0123456789"}
        flags = ["run", "in.jsonl", "-o", "out.jsonl", "--base-url", url, "--model", "looks-1"]
        done = vqa_async(*flags, cwd=tmp_path, env=env)
        assert stats(url)["received"] == 1
    assert done.returncode == 3
    assert "OPENAI_API_KEY" in done.stderr
    assert "wrong-key" not in done.stderr


def test_endpoints_of_a_settings_file_share_the_work(tmp_path: Path) -> None:
    """Each with its own model, key and weight."""
    write_records(tmp_path / "in.jsonl", 60)
    with (
        serving("--no-decode", "--model", "one", "--api-key", "key-one-0123456789") as first,
        serving("--no-decode", "--model", "two", "--latency", "0.05") as second,
    ):
        (tmp_path / "vqa.toml").write_text(
            f'max_workers = 8\n\n[[endpoints]]\nbase_url = "{first}"\nmodel = "one"\n'
            f'api_key_env = "KEY_ONE"\n\n[[endpoints]]\nbase_url = "{second}"\nmodel = "two"\nweight = 0.5\n'
        )
        flags = ["run", "in.jsonl", "-o", "out.jsonl", "--config", "vqa.toml", "--json"]
        done = vqa_async(*flags, cwd=tmp_path, env={"KEY_ONE": "key-one-0123456789"})
        counts = [stats(url)["answered"] for url in (first, second)]
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["succeeded"] == 60
    assert sum(int(str(count)) for count in counts) == 60
    assert all(counts)
    assert json.loads((tmp_path / "out.run.json").read_text())["settings"]["model"] == "one, two"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('[[endpoints]]\nbase_url = "http://a/v1"\nwieght = 1\n', "weight"),
        ('[endpoints]\nbase_url = "http://a/v1"\n', "[[endpoints]]"),
        ('base_url = ["http://a/v1"]\n[[endpoints]]\nbase_url = "http://b/v1"\n', "use one of the two"),
    ],
)
def test_mistake_in_the_endpoints_is_one_sentence(tmp_path: Path, content: str, says: str) -> None:
    """Exit 2, and nothing is sent."""
    write_records(tmp_path / "in.jsonl", 3)
    (tmp_path / "vqa.toml").write_text(content)
    flags = ["run", "in.jsonl", "-o", "out.jsonl", "--config", "vqa.toml", "--model", "m"]
    done = vqa_async(*flags, cwd=tmp_path)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_budget_ends_a_run_with_the_sum_and_the_way_on(tmp_path: Path) -> None:
    """Exit 3; the same command goes on; `status` says what stopped it."""
    write_records(tmp_path / "in.jsonl", 30)
    with serving("--no-decode") as url:
        flags = ["run", "in.jsonl", "-o", "out.jsonl", "--base-url", url, "--model", "looks-1"]
        flags += ["--max-requests", "20", "--price-input", "1", "--price-output", "2"]
        done = vqa_async(*flags, cwd=tmp_path)
        status = vqa_async("status", "out.jsonl", cwd=tmp_path)
        again = vqa_async(*flags, cwd=tmp_path)
    assert done.returncode == 3
    assert "20 answered" in done.stderr
    assert "20 requests were sent (--max-requests)" in done.stderr
    assert re.search(r"^Cost +\$0\.00", done.stderr, re.MULTILINE)
    assert "with as much again" in done.stderr
    assert "--max-requests" in status.stdout
    assert again.returncode == 0


@pytest.mark.slow
def test_rate_that_is_told_is_kept(tmp_path: Path) -> None:
    """600 a minute: 30 records take 3 s less the first few at least, and none is refused."""
    write_records(tmp_path / "in.jsonl", 30)
    with serving("--no-decode", "--rpm", "600") as url:
        flags = ["run", "in.jsonl", "-o", "out.jsonl", "--base-url", url, "--model", "looks-1", "--json"]
        done = vqa_async(*flags, "--rpm", "600", "--max-workers", "64", cwd=tmp_path)
        assert stats(url)["by_status"] == {"200": 30}
    assert json.loads(done.stdout)["elapsed_s"] >= 1.8


@pytest.mark.slow
def test_width_is_found(tmp_path: Path) -> None:
    """With --max-workers auto more is asked at once than at the start, and not all that there is."""
    write_records(tmp_path / "in.jsonl", 600)
    with serving("--no-decode", "--latency", "0.1", "--knee", "64") as url:
        flags = ["run", "in.jsonl", "-o", "out.jsonl", "--base-url", url, "--model", "looks-1", "--json"]
        done = vqa_async(*flags, "--max-workers", "auto", cwd=tmp_path)
        most = stats(url)["max_in_flight"]
    assert done.returncode == 0
    assert 30 <= int(str(most)) <= 300
