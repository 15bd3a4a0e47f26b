"""`vqa-async report` and the page of the demo, as processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from report_outputs import answered, entries, keep

from vqa_async.cli.reporting import sentences
from vqa_async.report import ReportSummary


def vqa_async(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    command = [sys.executable, "-m", "vqa_async", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=30)


def test_a_page_that_browsers_will_not_like_is_said() -> None:
    """With what to do about it; a usual one needs no word."""
    assert len(sentences(ReportSummary(records=3, of=3, bytes=10_000))) == 1
    assert "--sample" in sentences(ReportSummary(records=3, of=3, bytes=1 << 30))[1]


@pytest.mark.slow
def test_the_command_writes_the_page_and_prints_where_it_is(tmp_path: Path) -> None:
    """What is in it is said on stderr; a mistake is one sentence and exit code 2."""
    row = {"id": "a", "image": ["gone.png"], "conversation": "?"}
    keep(tmp_path / "out.jsonl", [answered(n, {**row, "id": f"r{n}"}, [("q", "a")]) for n in range(5)])
    done = vqa_async("report", "out.jsonl", "-o", "page.html", "--sample", "2", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "page.html\n")
    assert "2 records, a sample of 5 records, 0 images" in done.stderr
    assert "2 images could not be shown" in done.stderr
    assert len(entries(tmp_path / "page.html")) == 2
    beside = vqa_async("report", "out.jsonl", "--thumbnails", "beside", cwd=tmp_path)
    assert beside.stdout == "report.html\n"
    assert "report.files, which belongs beside the page" in beside.stderr
    wrong = vqa_async("report", "none.jsonl", cwd=tmp_path)
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)
