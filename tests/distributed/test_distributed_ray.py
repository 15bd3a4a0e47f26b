"""Runs on a Ray of their own, with two workers: killed, stopped, resumed; and pipelines of others."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vqa_async.config import Config
from vqa_async.distributed import DistributedRun, VQAActor, arun, cluster
from vqa_async.errors import ConfigError, InputError
from vqa_async.server import RunningServer
from vqa_async.testing import vqa_server

__all__ = ["vqa_server"]

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed (extra 'ray')"
)


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "COV_"))}


def command(folder: Path, url: str, output: str, *flags: str) -> list[str]:
    return [
        sys.executable, "-m", "vqa_async", "run", "in.jsonl", "-o", output, "--base-url", url,
        "--model", "looks-1", "--max-workers", "8", *flags,
    ]  # fmt: skip


@needs_ray
@pytest.mark.slow
@pytest.mark.timeout(150)
def test_each_record_is_there_once_whoever_was_killed(tmp_path: Path) -> None:
    """A worker, then the driver; the same command again, until it gets SIGTERM; the rest by a plain run.

    Failures are rows, ids and positions those of a plain run, standard output holds results alone, and no
    process is left. `scripts/distributed` is the long form.
    """
    rows = ["[1]", '{"image": "no.png", "conversation": "?"}']
    rows += [json.dumps({"conversation": f"{n % 300}?"}) for n in range(900)]
    (tmp_path / "in.jsonl").write_text("\n".join(rows) + "\n")
    with serving() as url:
        killed = kill_worker_and_driver(tmp_path, url)
        code, out, err = terminate(tmp_path, url)
        assert code == 143, err
        assert out.splitlines()[0] == str(tmp_path / "ray.jsonl")
        assert len(out.splitlines()) <= 2
        assert re.search(r"Took in \d+ answers", err)
        assert "Interrupted by SIGTERM" in err
        assert not (tmp_path / "ray.parts").exists()
        before = len(identities(tmp_path / "ray.jsonl"))
        assert before < 900
        assert plain(tmp_path, url, "ray.jsonl")["skipped"] in (before, before + 1, before + 2)
        sent = requests(url)
        plain(tmp_path, url, "plain.jsonl")
    assert sent <= 900 + 4 + 8  # in flight when the worker was killed, and the driver
    assert identities(tmp_path / "ray.jsonl") == identities(tmp_path / "plain.jsonl")
    failures = identities(tmp_path / "plain.failures.jsonl")
    assert identities(tmp_path / "ray.failures.jsonl") == failures
    assert len(failures) == 2
    wait_for_the_end_of(killed)


def wait_for_the_end_of(processes: list[int]) -> None:
    """Of all that is Ray's: some of them look only now and then whether they are still wanted."""
    deadline = time.monotonic() + 40
    while alive := [pid for pid in processes if is_ray(pid)]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.1)


def is_ray(pid: int) -> bool:
    return any(mark in command_line(pid) for mark in (b"raylet/raylet", b"gcs_server", b"ray::MapWorker"))


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """The embedded endpoint, in a process of its own."""
    serve = [sys.executable, "-m", "vqa_async", "serve", "--port", "0", "--no-decode", "--latency", "0.05"]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


def requests(url: str) -> int:
    with urllib.request.urlopen(url.removesuffix("/v1") + "/stats", timeout=30) as reply:
        return int(json.load(reply)["received"])


@contextlib.contextmanager
def distributed(folder: Path, url: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command(folder, url, "ray.jsonl", "--engine", "ray"),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def kill_worker_and_driver(folder: Path, url: str) -> list[int]:
    """SIGKILL for both, one after the other; the processes that there were."""
    with distributed(folder, url) as process:
        wait_for_answers(folder, process, 150)
        processes = descendants(process.pid)
        workers = [pid for pid in processes if command_line(pid).startswith(b"ray::MapWorker")]
        os.kill(workers[0], signal.SIGKILL)
        wait_for_answers(folder, process, 400)
    return processes


def terminate(folder: Path, url: str) -> tuple[int, str, str]:
    """A distributed run that gets SIGTERM when some answers are there."""
    with distributed(folder, url) as process:
        while process.poll() is None and (folder / "ray.parts").exists():
            time.sleep(0.02)  # until those of the killed one are taken in
        wait_for_answers(folder, process, 50)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err


def wait_for_answers(folder: Path, process: subprocess.Popen[str], wanted: int) -> None:
    while answered(folder) < wanted:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def answered(folder: Path) -> int:
    parts = (folder / "ray.parts").glob("part-*[0-9].jsonl")
    return sum(path.read_bytes().count(b"\n") for path in parts)


def plain(folder: Path, url: str, output: str) -> dict[str, Any]:
    done = subprocess.run(
        command(folder, url, output, "--json"), cwd=folder, capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 1, done.stderr  # two rows are no records
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


def identities(path: Path) -> dict[str, int]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    found = {line["_meta"]["id"]: line["_meta"]["index"] for line in lines}
    assert len(found) == len(lines)
    return found


def descendants(pid: int) -> list[int]:
    """The processes that came of this one."""
    parents: dict[int, int] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{name}/stat").read_text()
            parents[int(name)] = int(stat.rpartition(")")[2].split()[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def command_line(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


PIPELINE = """
import os, sys
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
from vqa_async.distributed import VQAActor
from vqa_async.distributed.cluster import cluster
with cluster("", 2):
    import ray
    rows = ray.data.from_items([{"number": n, "conversation": f"What is {n}?"} for n in range(60)])
    rows = rows.repartition(6).map_batches(
        VQAActor,
        fn_constructor_kwargs={"base_url": sys.argv[1], "model": "looks-1", "actors": 2},
        concurrency=(1, 2), batch_size=10, num_cpus=0.25,
    )
    found = rows.take_all()
assert sorted(row["number"] for row in found) == list(range(60))
assert all(row["qa_pairs"] and row["error"] is None for row in found), found[0]
print("good")
"""


@needs_ray
@pytest.mark.slow
@pytest.mark.timeout(90)
async def test_the_actor_answers_in_a_pipeline_of_its_own(vqa_server: RunningServer) -> None:
    """Over a pool that grows, with the columns of the rows kept."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PIPELINE, vqa_server.base_url,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment(),
    )  # fmt: skip
    said, _ = await process.communicate()
    assert said.decode().splitlines()[-1] == "good", said.decode()


@needs_ray
async def test_the_actor_gives_failures_as_rows(vqa_server: RunningServer) -> None:
    """A batch has the same columns of the same types whatever became of its rows."""
    import pyarrow as pa

    actor = VQAActor(base_url=vqa_server.base_url, model="looks-1", max_attempts=1)
    good = pa.Table.from_pylist([{"conversation": "What?", "image": None}])
    bad = pa.Table.from_pylist(
        [{"conversation": "What?", "image": "no.png"}, {"conversation": "", "image": ""}]
    )
    tables = [await anext(actor(batch)) for batch in (good, bad)]
    await actor.aclose()
    assert tables[0].schema.names == ["conversation", "image", "vqa", "qa_pairs", "record_id", "error"]
    assert tables[0].schema.field("qa_pairs") == tables[1].schema.field("qa_pairs")
    assert tables[0].schema.field("error") == tables[1].schema.field("error")
    assert tables[0].to_pylist()[0]["error"] is None
    assert tables[0].to_pylist()[0]["vqa"]
    rows = tables[1].to_pylist()
    assert [row["vqa"] for row in rows] == [None, None]
    assert rows[0]["error"]["code"] == "file_not_found"
    assert rows[0]["error"]["retryable"] is False


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "No model is named"),
        ({"model": "m", "actors": 0}, "actors must be at least 1"),
        ({"config": Config(), "model": "m"}, "not both"),
        ({"modle": "m"}, "Did you mean 'model'"),
    ],
)
def test_options_that_cannot_work_end_the_pipeline_at_its_start(options: dict[str, Any], said: str) -> None:
    """They are wrong for every row."""
    with pytest.raises(ConfigError, match=said):
        VQAActor(**options)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a sentence that can be copied."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'vqa-async\[ray\]'"), cluster.cluster("", 2):
        pass


def test_files_of_a_ray_whose_driver_was_killed_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the next run; those of one that lives are not."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "vqa-ray-dead").mkdir()
    (tmp_path / "vqa-ray-dead" / "held").touch()
    with cluster._own_folder() as first, cluster._own_folder() as second:
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
            os.path.basename(folder) for folder in (first, second)
        )
    assert not list(tmp_path.iterdir())


@needs_ray
def test_a_cluster_that_is_not_there_is_told_at_once() -> None:
    """Ray itself would try for minutes."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        refused = pytest.raises(ConfigError, match=f"No Ray cluster answers at {address}")
        with refused, cluster.cluster(address, 2):
            pass


@pytest.mark.parametrize(
    ("options", "said"),
    [({"accept": 5}, "--accept does not go"), ({"verify": True}, "vqa-async verify OUT.jsonl")],
)
def test_what_has_no_meaning_over_many_processes_is_refused(options: dict[str, Any], said: str) -> None:
    """With what to do instead."""
    with pytest.raises(ConfigError, match=said):
        DistributedRun(Config.of(engine="ray", model="m", **options))


async def test_what_cannot_be_run_is_refused_before_ray_is_started(tmp_path: Path) -> None:
    """Standard input, a limit of nothing, a missing input, input and output in one, no model."""
    (tmp_path / "in.jsonl").write_text('{"conversation": "?"}\n')
    source, output = str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl")
    with pytest.raises(ConfigError, match="cannot read '-'"):
        await arun("-", output, model="m")
    with pytest.raises(ConfigError, match="limit must be at least 1"):
        await arun(source, output, model="m", limit=0)
    with pytest.raises(InputError, match=r"nothing\.jsonl"):
        await arun(str(tmp_path / "nothing.jsonl"), output, model="m")
    with pytest.raises(ConfigError, match="same file"):
        await arun(source, source, model="m")
    with pytest.raises(ConfigError, match="No model is named"):
        await arun(source, output)
