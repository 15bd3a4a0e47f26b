"""Shards that were run one by one are one output afterwards, or nothing is."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import random
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from shard_runs import COUNT, SHARDS, alter_run, answers, lines, run, run_shards, write_input

from vqa_async import merge, open_engine
from vqa_async.errors import (
    ConfigError,
    DiskError,
    InputError,
    JournalDamaged,
    JournalLocked,
    SettingsChanged,
)
from vqa_async.server import running_server

COMMAND = (sys.executable, "-m", "vqa_async")
FAILED = COUNT // 10


def command(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        text=True,
        capture_output=True,
        timeout=30,
        env=os.environ | {"COLUMNS": "200"},
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the outputs of all shards, made once."""
    folder = tmp_path_factory.mktemp("shards")
    asyncio.run(run_shards(folder))
    return folder


@pytest.fixture
def parts(made: Path, tmp_path: Path) -> list[Path]:
    """The outputs of all shards, copied, so that a test may spoil them."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return [tmp_path / f"out.{k}.jsonl" for k in range(1, SHARDS + 1)]


def nothing_was_made(folder: Path, name: str = "all") -> bool:
    """No file of the output but its lock, not even one with a temporary name."""
    return not [path for path in folder.iterdir() if name in path.name and path.suffix != ".lock"]


async def test_shards_merged_are_one_run_over_the_whole(tmp_path: Path) -> None:
    """One of them killed and resumed: same ids, same answers, once each; a run then has nothing to do."""
    input, whole, merged = write_input(tmp_path), tmp_path / "whole.jsonl", tmp_path / "all.jsonl"
    async with running_server() as server:
        await run(input, whole, server.base_url)
        for k in range(1, SHARDS + 1):
            if k == 2:  # its first run is killed
                output = tmp_path / "out.2.jsonl"
                await run(input, output, server.base_url, shard=f"2/{SHARDS}")
                data = output.read_bytes()
                output.write_bytes(data[: len(data) // 2])
                alter_run(output, state="running", counts={})
            await run(input, tmp_path / f"out.{k}.jsonl", server.base_url, shard=f"{k}/{SHARDS}")
        summary = merge([tmp_path / "out.*.jsonl"], merged)
        assert answers(merged) == answers(whole)
        assert (summary.succeeded, summary.failed) == (COUNT - FAILED, FAILED)
        failures = [line["_meta"]["id"] for line in lines(tmp_path / "all.failures.jsonl")]
        assert sorted(failures) == sorted(f"r{n}" for n in range(9, COUNT, 10))
        exported = command("export", merged, "-o", "all.json", cwd=tmp_path)
        assert exported.returncode == 0, exported.stderr
        rows = json.loads((tmp_path / "all.json").read_text())
        assert [row["id"] for row in rows] == [f"r{n}" for n in range(COUNT) if n % 10 != 9]
        status = json.loads(command("status", merged, "--json", cwd=tmp_path).stdout)
        assert (status["state"], status["done"], status["failed"], status["left"]) == ("finished", 54, 6, 0)
        again = await run(input, merged, server.base_url)
        assert (again.statistics.skipped, again.statistics.succeeded) == (COUNT, 0)
    with pytest.raises(ConfigError, match="not a merge of these parts"):
        merge([tmp_path / "out.*.jsonl"], merged)  # a run has gone over it


def test_the_order_of_parts_is_all_the_same_and_a_merge_may_be_made_again(parts: list[Path]) -> None:
    """A pattern that catches side files and the merged output too is understood."""
    output = parts[0].with_name("out.all.jsonl")
    first = merge(parts[::-1], output)
    content = output.read_bytes()
    assert merge([parts[0].with_name("out.*.jsonl")], output) == first
    assert merge(str(parts[0].with_name("out.*")) + "l", output) == first
    assert output.read_bytes() == content


@pytest.mark.parametrize("of", [SHARDS, 2_000_000])
def test_a_missing_shard_is_named(parts: list[Path], of: int) -> None:
    """And merged without it when that is said; with it, when it is there."""
    output = parts[0].with_name("all.jsonl")
    for part in parts:
        selection = json.loads(part.with_name(f"{part.stem}.run.json").read_text())["selection"]
        alter_run(part, selection=selection | {"shard": f"{selection['shard'][0]}/{of}"})
    named = "shard 3/4 missing" if of == SHARDS else "1,999,997 of 2,000,000 shards missing"
    with pytest.raises(ConfigError, match=named):
        merge([parts[0], parts[1], parts[3]], output)
    assert nothing_was_made(output.parent)
    summary = merge([parts[0], parts[1], parts[3]], output, allow_gaps=True)
    assert named in summary.notices[0]
    assert json.loads(output.with_name("all.run.json").read_text())["state"] == "stopped"
    if of == SHARDS:
        assert merge(parts, output).notices == ()


def test_a_shard_that_was_stopped_or_killed_is_a_gap(parts: list[Path]) -> None:
    """A torn end, and a copy cut short between two lines, are found too."""
    output = parts[0].with_name("all.jsonl")
    alter_run(parts[1], state="running")
    with pytest.raises(ConfigError, match=r"shard 2/4 \(.*\) not finished: killed"):
        merge(parts, output)
    alter_run(parts[1], state="finished")
    data = parts[1].read_bytes()
    parts[1].write_bytes(data[:-5])
    with pytest.raises(ConfigError, match=r"out.2.jsonl ends in the middle of a line"):
        merge(parts, output)
    whole = len(lines(parts[0])) + len(data.splitlines()) - 1
    parts[1].write_bytes(b"".join(data.splitlines(keepends=True)[:-1]))
    with pytest.raises(ConfigError, match=r"out.2.jsonl holds \d+ answers and its run counted"):
        merge(parts, output)
    assert nothing_was_made(output.parent)
    parts[1].write_bytes(data[:-5])
    summary = merge(parts, output, allow_gaps=True)
    assert summary.succeeded == COUNT - FAILED - 1 >= whole
    assert "asks for it again" in summary.notices[0]


def test_a_line_that_lost_only_its_newline_counts(parts: list[Path]) -> None:
    """It is whole."""
    parts[0].write_bytes(parts[0].read_bytes()[:-1])
    assert merge(parts, parts[0].with_name("all.jsonl")).succeeded == COUNT - FAILED
    answers(parts[0].with_name("all.jsonl"))


def test_the_same_bytes_in_two_parts_count_once_and_other_bytes_are_refused(parts: list[Path]) -> None:
    """With the record, both files and the line."""
    output = parts[0].with_name("all.jsonl")
    first = parts[0].read_bytes().splitlines(keepends=True)[0]
    with parts[2].open("ab") as file:
        file.write(first)
    summary = merge(parts, output)
    assert (summary.succeeded, summary.copies) == (COUNT - FAILED, 1)
    assert "1 answers stood in two parts" in summary.notices[0]
    output.unlink()
    with parts[3].open("ab") as file:
        file.write(resealed(first, b'"attempts":1', b'"attempts":2'))
    with pytest.raises(
        InputError, match=r"out.4.jsonl, line \d+, answers record 'r\d+' a second time: .*out.1"
    ):
        merge(parts, output)
    assert not output.exists()


def resealed(line: bytes, old: bytes, new: bytes) -> bytes:
    """A line with another content, as if it had been written so."""
    body = line[: line.rindex(b',"crc"')].replace(old, new)
    return body + b',"crc":"%08x"}}\n' % zlib.crc32(body)


def test_an_answer_supersedes_a_failure_in_another_part_and_of_failures_the_newest_counts(
    parts: list[Path],
) -> None:
    """Wherever they stand."""
    output, side = parts[0].with_name("all.jsonl"), [p.with_name(f"{p.stem}.failures.jsonl") for p in parts]
    there = next(path for path in side if path.exists())
    line = there.read_bytes().splitlines(keepends=True)[0]
    meta = orjson.loads(line)["_meta"]
    answered = orjson.loads(parts[0].read_bytes().splitlines()[0])["_meta"]
    other = next(path for path in reversed(side) if path != there)
    with other.open("ab") as file:
        file.write(
            resealed(line, b'"finished_at":%s' % orjson.dumps(meta["finished_at"]), b'"finished_at":1.5')
        )
        file.write(
            resealed(
                line,
                b'"_meta":{"id":"%s"' % meta["id"].encode(),
                b'"_meta":{"id":"%s"' % answered["id"].encode(),
            )
        )
    summary = merge(parts, output)
    assert (summary.succeeded, summary.failed) == (COUNT - FAILED, FAILED)
    newest = {one["_meta"]["id"]: one for one in lines(output.with_name("all.failures.jsonl"))}
    assert newest[meta["id"]]["_meta"]["finished_at"] == meta["finished_at"]
    assert answered["id"] not in newest


def test_parts_that_do_not_belong_together_are_refused(parts: list[Path]) -> None:
    """With what differs."""
    output = parts[0].with_name("all.jsonl")

    def refused(said: str, error: type[Exception] = ConfigError, **changes: Any) -> None:
        path = parts[1].with_name("out.2.run.json")
        before = path.read_bytes()
        alter_run(parts[1], **changes)
        with pytest.raises(error, match=said):
            merge(parts, output)
        path.write_bytes(before)

    settings = json.loads(parts[1].with_name("out.2.run.json").read_text())["settings"]
    refused(
        "different settings: temperature",
        SettingsChanged,
        settings=settings | {"temperature": 0.123},
        fingerprint="other",
    )
    refused("differ in --where", SettingsChanged, selection={"shard": "2/4", "where": ["a=b"]})
    refused("differ in --limit", SettingsChanged, limit=7)
    refused("differ in the input", SettingsChanged, input="/elsewhere/other.jsonl")
    refused("is there twice", selection={"shard": "1/4"})
    refused("of one number only", selection={"shard": "2/5"})
    refused("without --shard", InputError, selection={})
    refused("without --shard", InputError, selection=None)
    alter_run(parts[1], input="/elsewhere/in.jsonl")  # another folder on another machine
    assert merge(parts, output).succeeded == COUNT - FAILED


def test_what_is_no_part_is_refused(parts: list[Path]) -> None:
    """And named."""
    output = parts[0].with_name("all.jsonl")
    for given, said in (
        ([], "No output is named"),
        ([output], "cannot be a part of itself"),
        (["no-*.jsonl"], "There is no output no-"),
        ([*parts, "no.jsonl"], "There is no output .*no.jsonl"),
    ):
        with pytest.raises(InputError, match=said):
            merge(given, output)
    parts[0].rename(parts[0].with_name("kept"))
    parts[0].mkdir()
    with pytest.raises(InputError, match=r"out.1.jsonl cannot be read"):
        merge(parts, output)
    parts[0].rmdir()
    parts[0].with_name("kept").rename(parts[0])
    parts[1].with_name("out.2.run.json").unlink()
    with pytest.raises(InputError, match=r"out.2.run.json is missing"):
        merge(parts, output)


def test_a_shard_that_runs_is_refused(parts: list[Path]) -> None:
    """Its lock is held."""
    with parts[2].with_name("out.3.jsonl.lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(JournalLocked, match=r"A run .* is writing .*out.3.jsonl"):
            merge(parts, parts[0].with_name("all.jsonl"))
    parts[2].with_name("out.3.jsonl.lock").unlink()  # as after a copy
    assert merge(parts, parts[0].with_name("all.jsonl")).parts == SHARDS


@pytest.mark.parametrize("kind", ["changed", "failure", "twice", "answer"])
def test_a_damaged_line_is_refused_with_its_place(parts: list[Path], kind: str) -> None:
    """And nothing is made."""
    good = parts[1].read_bytes().splitlines(keepends=True)
    failures = next(path for p in parts if (path := p.with_name(f"{p.stem}.failures.jsonl")).exists())
    wrong, said = {
        "changed": (good[1].replace(b"What", b"Whut"), "was changed after it was written"),
        "failure": (failures.read_bytes().splitlines(keepends=True)[0], "is a failure among answers"),
        "twice": (good[0], "a second time"),
        "answer": (good[0], "is an answer among failures"),
    }[kind]
    name = "out.2.jsonl"
    if kind == "answer":
        failures.write_bytes(wrong)
        name, place = failures.name, 1
    else:
        parts[1].write_bytes(b"".join([good[0], wrong, *good[2:]]))
        place = 2
    with pytest.raises(JournalDamaged, match=f"{name}, line {place}, .*{said}.*Nothing was merged"):
        merge(parts, parts[0].with_name("all.jsonl"))
    assert nothing_was_made(parts[0].parent)


def test_an_output_that_exists_is_never_replaced(parts: list[Path]) -> None:
    """Whatever it is: a run's, a stranger's, the merge of other parts."""
    output = parts[0].with_name("all.jsonl")
    output.write_text("precious\n")
    with pytest.raises(ConfigError, match="is left as it is"):
        merge(parts, output)
    assert output.read_text() == "precious\n"
    output.unlink()
    with pytest.raises(ConfigError, match="is left as it is"):
        merge(parts[1:], parts[0], allow_gaps=True)
    merge(parts, output)
    with pytest.raises(ConfigError, match="is left as it is"):
        merge(parts[1:], output, allow_gaps=True)  # it holds more


def test_the_run_file_of_the_whole_keeps_what_all_shards_were_told(parts: list[Path]) -> None:
    """But no shard; and what they counted, together. Counts that a run file lacks are no gap."""
    for k, part in enumerate(parts, 1):
        alter_run(part, selection={"shard": f"{k}/{SHARDS}", "where": ["a=b"]})
    alter_run(parts[0], counts=None)
    alter_run(parts[1], counts={"succeeded": "many"})
    output = parts[0].with_name("all.jsonl")
    merge(parts, output)
    run = json.loads(output.with_name("all.run.json").read_text())
    assert run["selection"] == {"where": ["a=b"]}
    there = sum(len(lines(part)) for part in parts[2:])
    assert run["counts"]["succeeded"] == there
    assert run["state"] == "finished"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this test mounts a small disk, and that is not permitted here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_leaves_nothing(parts: list[Path], small_disk: Path) -> None:
    """Not half an output, not a temporary file."""
    with pytest.raises(DiskError, match="No space left"):
        merge(parts, small_disk / "all.jsonl")
    assert nothing_was_made(small_disk)


def test_a_merge_killed_at_any_moment_leaves_all_or_nothing(parts: list[Path]) -> None:
    """And the same command makes it whole."""
    output, draw = parts[0].with_name("all.jsonl"), random.Random(7)
    expected = COUNT - FAILED
    code = f"from vqa_async import merge as m; print(flush=True); m({[*map(str, parts)]!r}, {str(output)!r})"
    for _ in range(5):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            deadline = time.monotonic() + draw.uniform(0.0, 0.03)
            while time.monotonic() < deadline:
                pass
            process.kill()
        assert not output.exists() or len(answers(output)) == expected
    assert merge(parts, output).succeeded == expected
    assert json.loads(output.with_name("all.run.json").read_text())["state"] == "finished"


def test_an_interrupted_merge_is_not_gone_on_with_by_a_run(parts: list[Path]) -> None:
    """It would ask, and pay, once more for what the parts have."""
    output = parts[0].with_name("all.jsonl")
    merge(parts, output)
    output.unlink()
    alter_run(output, state="merging")
    options = ("--base-url", "http://127.0.0.1:9/v1", "--model", "looks-1")
    refused = command("run", "in.jsonl", "-o", "all.jsonl", *options, cwd=output.parent)
    assert refused.returncode == 2
    assert "a merge was interrupted" in refused.stderr
    shown = command("status", "all.jsonl", cwd=output.parent)
    assert "run the same merge again" in shown.stdout
    assert merge(parts, output).succeeded == COUNT - FAILED


def test_the_command_says_what_was_made(parts: list[Path]) -> None:
    """For people and for programs."""
    folder = parts[0].parent
    done = command("merge", "out.*.jsonl", "-o", "all.jsonl", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "54 answers and 6 failures, of 4 of 4 shards." in done.stderr
    assert done.stdout.strip() == str(folder / "all.jsonl")
    facts = json.loads(
        command("merge", *parts[:2], "-o", "two.jsonl", "--allow-gaps", "--json", cwd=folder).stdout
    )
    assert facts["parts"] == 2
    refused = command("merge", *parts[:2], "-o", "gap.jsonl", cwd=folder)
    assert refused.returncode == 2
    assert "shards 3/4, 4/4 missing" in refused.stderr


async def test_tasks_of_a_slurm_array_of_which_one_is_killed_make_one_output(tmp_path: Path) -> None:
    """With ``kill -9`` while it sends; its task, run again, goes on. The output's name tells the part."""
    input, merged = write_input(tmp_path), tmp_path / "all.jsonl"
    array = {"SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_MAX": "2", "SLURM_ARRAY_TASK_COUNT": "2"}
    async with running_server(latency=0.02) as server:

        def task(number: int) -> asyncio.Task[asyncio.subprocess.Process]:
            options = ["--base-url", server.base_url, "--model", "looks-1", "--max-workers", "1", "-q"]
            words = ["run", str(input), "-o", str(tmp_path / "out.{k}-of-{n}.jsonl"), "--shard", "auto"]
            env = os.environ | array | {"SLURM_ARRAY_TASK_ID": str(number)}
            out = asyncio.subprocess.DEVNULL
            started = asyncio.create_subprocess_exec(
                *COMMAND, *words, *options, env=env, stdout=out, stderr=out
            )
            return asyncio.ensure_future(started)

        killed, output = await task(1), tmp_path / "out.1-of-2.jsonl"
        async with asyncio.timeout(20):
            while not (output.exists() and output.stat().st_size):
                await asyncio.sleep(0.005)
        with pytest.raises(JournalLocked, match="is writing"):
            merge([output], merged, allow_gaps=True)
        killed.kill()
        await killed.wait()
        assert await (await task(2)).wait() == 1  # some of the records cannot be asked
        with pytest.raises(ConfigError, match=r"shard 1/2 \(.*\) not finished: killed"):
            merge([tmp_path / "out.*.jsonl"], merged)
        assert await (await task(1)).wait() == 1
    summary = merge([tmp_path / "out.*.jsonl"], merged)
    assert (summary.succeeded, summary.failed) == (COUNT - FAILED, FAILED)
    assert len(answers(merged)) == COUNT - FAILED


async def test_a_shard_says_that_its_limits_are_its_own(caplog: pytest.LogCaptureFixture) -> None:
    """Where there are any, and other shards."""
    for shard, rpm in (("1/1", 60.0), ("1/2", 0.0), ("", 60.0)):
        async with open_engine(base_url="http://127.0.0.1:9/v1", model="m", shard=shard, rpm=rpm):
            assert not caplog.messages
    async with open_engine(base_url="http://127.0.0.1:9/v1", model="m", shard="1/3", tpm=60.0):
        assert "this shard alone: 3 at once may send 3 times as much" in caplog.text


async def test_what_was_verified_is_merged_too(tmp_path: Path) -> None:
    """And a verification of the whole asks only for the rest."""
    outputs, merged = await run_shards(tmp_path, 2), tmp_path / "all.jsonl"
    async with running_server() as server:
        where = ("--base-url", server.base_url, "--model", "looks-1", "--json")
        first = await asyncio.to_thread(command, "verify", outputs[0], *where, cwd=tmp_path)
        asked = json.loads(first.stdout)["succeeded"]
        summary = merge(outputs, merged)
        assert summary.checked == asked > 0
        assert "1 of 2 parts have no all.checks.jsonl" in summary.notices[0]
        rest = await asyncio.to_thread(command, "verify", merged, *where, cwd=tmp_path)
        found = json.loads(rest.stdout)
    assert found["skipped"] == asked
    assert found["succeeded"] > 0
