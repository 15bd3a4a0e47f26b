"""The flags of metrics and tracing: what they say, and when nothing is sent."""

from __future__ import annotations

import re
import socket
import urllib.request
from pathlib import Path

import pytest
from command_line import serving, started, vqa_async, write_records


@pytest.mark.slow
def test_a_run_tells_where_its_metrics_are(tmp_path: Path) -> None:
    """Also with --quiet; they can be read while it goes on, and not afterwards."""
    write_records(tmp_path / "in.jsonl", 200)
    flags = ["-o", "out.jsonl", "--model", "looks-1", "--max-workers", "2", "--quiet", "--metrics-port", "0"]
    with (
        serving("--latency", "0.2") as base_url,
        started("run", "in.jsonl", *flags, "--base-url", base_url, cwd=tmp_path) as run,
    ):
        assert run.stderr is not None
        said = run.stderr.readline()
        address = re.search(r"Metrics are at (http://127\.0\.0\.1:\d+/metrics)", said)
        assert address, said
        with urllib.request.urlopen(address[1], timeout=10) as page:
            assert "vqa_requests_in_flight{" in page.read().decode()
        run.terminate()
        run.communicate(timeout=20)
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(address[1], timeout=10)


@pytest.mark.slow
def test_what_cannot_be_watched_is_one_sentence_and_no_output(tmp_path: Path) -> None:
    """A port that is taken, and no SDK: wrong settings, before anything is opened."""
    write_records(tmp_path / "in.jsonl", 1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for flags, words in (
            (["--metrics-port", port], f"port {port}: address already in use"),
            (["--otel"], "no OpenTelemetry SDK is set up"),
        ):
            done = vqa_async("run", "in.jsonl", "-o", "out.jsonl", "--model", "m", *flags, cwd=tmp_path)
            assert done.returncode == 2
            assert words in done.stderr
            assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]
