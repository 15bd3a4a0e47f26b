"""`vqa-async status` of several outputs."""

from __future__ import annotations

import asyncio
import fcntl
import json
from pathlib import Path

import pytest
from shard_runs import COUNT, alter_run, run_shards

from vqa_async import merge
from vqa_async.cli.app import run_command


async def made(folder: Path) -> list[Path]:
    outputs = await run_shards(folder, 3)
    alter_run(outputs[1], state="stopped", reason="budget reached")
    alter_run(outputs[2], state="running", counts=None)
    return outputs


async def shown(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:

    assert await asyncio.to_thread(run_command, ["status", *map(str, arguments)]) == 0
    return capsys.readouterr().out


async def test_each_output_has_a_row_and_all_have_a_sum(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the numbers of the shards; below, what stopped them."""
    await made(tmp_path)
    text = await shown(capsys, tmp_path / "out.*.jsonl")
    head, first, second, third, total, stopped, killed = text.splitlines()
    assert head.split() == ["Output", "Shard", "State", "Done", "Failed", "Left", "Rate"]
    assert first.split()[:3] == ["out.1.jsonl", "1/3", "finished"]
    assert second.split()[1:3] == ["2/3", "stopped"]
    assert third.split()[1:3] == ["3/3", "killed"]
    assert third.split()[-1] == "-"
    assert total.startswith("Sum")
    assert "1 finished, 1 stopped, 1 killed" in total
    assert total.split()[-4:] == ["54", "6", "0", "-"]
    assert stopped.endswith("out.2.jsonl: budget reached")
    assert "killed; run its command again" in killed


async def test_the_same_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that goes on has a rate; an input that is gone leaves what is left unknown."""
    outputs = await made(tmp_path)
    with outputs[2].with_name("out.3.jsonl.lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        facts = json.loads(await shown(capsys, *outputs[::-1], "--json"))
    assert [one["shard"] for one in facts["outputs"]] == ["1/3", "2/3", "3/3"]
    assert facts["outputs"][2]["state"] == "running"
    assert facts["outputs"][2]["rate_s"] > 0
    total = facts["total"]
    assert total["done"] + total["failed"] == COUNT
    assert (total["outputs"], total["left"]) == (3, 0)
    assert total["rate_s"] == facts["outputs"][2]["rate_s"]
    (tmp_path / "in.jsonl").unlink()
    alter_run(outputs[0], selection={}, counts={"succeeded": 1, "elapsed_s": 0})
    facts = json.loads(await shown(capsys, *outputs, "--json"))
    assert facts["total"]["left"] is None
    assert (facts["outputs"][0]["shard"], facts["outputs"][0]["rate_s"]) == ("", None)
    assert " unknown " in await shown(capsys, *outputs)


async def test_a_merged_output_beside_its_parts_is_not_counted_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has its row, last or first."""
    outputs = await run_shards(tmp_path, 2)
    merge(outputs, tmp_path / "out.all.jsonl")
    facts = json.loads(await shown(capsys, tmp_path / "out.*.jsonl", "--json"))
    assert sorted(one["shard"] for one in facts["outputs"]) == ["1/2", "2/2", "merged"]
    assert facts["total"]["done"] + facts["total"]["failed"] == COUNT


async def test_an_input_that_cannot_be_read_to_its_end_leaves_it_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As when it is being written."""
    outputs = await made(tmp_path)
    (tmp_path / "in.jsonl").write_bytes(b"\x1f\x8b broken")
    facts = json.loads(await shown(capsys, *outputs[:2], "--json"))
    assert facts["total"]["left"] is None


async def test_one_output_is_shown_as_ever(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No table of one row."""
    outputs = await made(tmp_path)
    assert (await shown(capsys, outputs[0])).startswith("State      finished")
