"""`run --verify`, `verify` and `quality` as their users have them."""

from __future__ import annotations

import json
from pathlib import Path

from command_line import serving, vqa_async
from PIL import Image

from vqa_async.cli.reviewing import review_line, review_lines
from vqa_async.quality import Review


def written(folder: Path) -> None:
    for number in range(3):
        Image.new("RGB", (8, 8 + number), (255, 0, 0)).save(folder / f"{number}.png")
    rows = [{"id": f"r{n}", "image": f"{n}.png", "conversation": "Ask."} for n in range(3)]
    (folder / "in.json").write_text(json.dumps(rows))


def test_a_run_is_verified_and_says_what_is_kept(tmp_path: Path) -> None:
    """Both stages in one command; the same again asks nothing; `quality` shows it as a table and as JSON."""
    written(tmp_path)
    with serving() as url:
        command = ("run", "in.json", "-o", "out.jsonl", "--base-url", url, "--model", "looks-1", "--verify")
        first = vqa_async(*command, cwd=tmp_path)
        again = vqa_async(*command, "--json", cwd=tmp_path)
        alone = vqa_async("verify", "out.jsonl", "--base-url", url, "--model", "looks-1", cwd=tmp_path)
    assert first.returncode == again.returncode == alone.returncode == 0, first.stderr + alone.stderr
    assert "Verification: Done: 18 answered" in first.stderr
    assert "Quality: 3 of 3 records accepted; 18 of 18 pairs kept, 18 verified, 0 dropped." in first.stderr
    facts = json.loads(again.stdout)
    assert facts["verification"]["skipped"] == 18
    assert facts["quality"]["kept"] == 18
    assert "0 answered, 18 answered before" in alone.stderr
    shown = vqa_async("quality", "out.jsonl", "--checks", "common", cwd=tmp_path)
    assert [line.split()[:2] for line in shown.stdout.splitlines()] == [
        ["Records", "3"],
        ["Pairs", "18"],
        ["Kept", "9"],
        ["Dropped", "9"],
        ["common", "9"],
    ]
    told = json.loads(vqa_async("quality", "out.jsonl", "--json", cwd=tmp_path).stdout)
    assert (told["pairs"], told["kept"], told["reasons"]) == (18, 18, {})


def test_enough_is_said(tmp_path: Path) -> None:
    """What ended the run, and afterwards that there is nothing to do."""
    written(tmp_path)
    with serving() as url:
        command = ("run", "in.json", "-o", "out.jsonl", "--base-url", url, "--model", "looks-1")
        first = vqa_async(*command, "--accept", "1", "--max-workers", "1", cwd=tmp_path)
        again = vqa_async(*command, "--accept", "1", cwd=tmp_path)
    assert first.returncode == again.returncode == 0, first.stderr
    assert "Ended because 1 record is accepted, as many as --accept wants." in first.stderr
    assert "from earlier runs" in again.stderr


def test_an_answer_without_pairs_is_counted_apart() -> None:
    """It is neither kept nor dropped, and its record is not accepted."""
    review = Review(records=2, accepted=1, without_pairs=1, pairs=2, kept=1)
    review.reasons["refusal"] += 1
    assert review_lines(review) == [
        "Records            2  1 accepted",
        "  no pairs         1",
        "Pairs              2",
        "Kept               1  50.0%",
        "Dropped            1  50.0%",
        "  refusal          1",
    ]
    assert review_line(review).endswith("1 dropped (1 refusal).")


def test_there_must_be_an_output(tmp_path: Path) -> None:
    """A name that is wrong is said with its path."""
    missing = vqa_async("quality", "none.jsonl", cwd=tmp_path)
    assert missing.returncode == 2
    assert "none.jsonl" in missing.stderr


def test_a_check_that_is_none_is_refused(tmp_path: Path) -> None:
    """Before anything is read, with the names that there are."""
    refused = vqa_async("quality", "out.jsonl", "--checks", "spelling", cwd=tmp_path)
    assert refused.returncode == 2
    assert "near_duplicate_run" in refused.stderr
