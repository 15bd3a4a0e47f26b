"""Runs of shards with the embedded endpoint, for the tests of what is made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import vqa_async
from vqa_async.server import running_server

COUNT, SHARDS = 60, 4


def write_input(folder: Path, count: int = COUNT) -> Path:
    """Rows of which every tenth cannot be asked: a failure."""
    rows = [
        {"id": f"r{n}", "conversation": f"What comes after {n}?"}
        | ({"image": "no.png"} if n % 10 == 9 else {})
        for n in range(count)
    ]
    path = folder / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


async def run_shards(folder: Path, shards: int = SHARDS, **options: Any) -> list[Path]:
    """Run all shards of a new input; their outputs."""
    input, outputs = write_input(folder), []
    async with running_server() as server:
        for k in range(1, shards + 1):
            outputs.append(folder / f"out.{k}.jsonl")
            await run(input, outputs[-1], server.base_url, shard=f"{k}/{shards}", **options)
    return outputs


async def run(input: Path, output: Path, base_url: str, **options: Any) -> vqa_async.RunSummary:
    limit = options.pop("limit", None)
    return await vqa_async.arun(
        str(input), str(output), limit=limit, base_url=base_url, model="looks-1", **options
    )


def lines(path: Path) -> list[dict[str, Any]]:
    """The lines of an output; each must be whole."""
    text = path.read_text()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def answers(path: Path) -> dict[str, str]:
    """The answers in an output by id, each once."""
    found = lines(path)
    by_id = {line["_meta"]["id"]: line["vqa"] for line in found}
    assert len(by_id) == len(found)
    return by_id


def alter_run(output: Path, **changes: Any) -> None:
    """Change what the run file of ``output`` says."""
    path = output.with_name(f"{output.stem}.run.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
