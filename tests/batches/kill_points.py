"""A process that hands records in and fetches them, killed at one moment after the other. Run as a script.

The moments are before and after each note in the log, and before and after each call of the provider that
makes something or is paid for. For each of them: a fork submits until it is killed there, another submits
again, a third fetches until it is killed there, and a last one fetches. Then everything must be there once.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import traceback
import urllib.request
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from vqa_async.api import open_batches
from vqa_async.batches import provider as providers
from vqa_async.batches.batches import Batches
from vqa_async.config import Config
from vqa_async.journal import BatchLog, JournalPaths
from vqa_async.transport import AiohttpTransport, Request, Response

providers._SETTLES_S = 0.05  # the endpoint is on this machine
_NEVER = 10_000
RECORDS, IN_A_BATCH = 3, 2


class Moments:
    """Counts moments, and ends the process at one of them."""

    def __init__(self, last: int) -> None:
        self.left = last

    def pass_one(self) -> None:
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1


def watch(moments: Moments) -> None:
    """Let notes and calls be moments."""
    note, send = BatchLog.note, AiohttpTransport.send

    def noted(self: BatchLog, *entries: Any) -> None:
        moments.pass_one()
        note(self, *entries)
        moments.pass_one()

    async def sent(self: AiohttpTransport, request: Request) -> Response:
        counts = request.method == "POST" or request.into is not None
        if counts:
            moments.pass_one()
        response = await send(self, request)
        if counts:
            moments.pass_one()
        return response

    os.fsync = lambda fd: None  # a killed process loses nothing that was written, and disks are slow
    BatchLog.note = noted  # type: ignore[method-assign]
    AiohttpTransport.send = sent  # type: ignore[method-assign]


def forked(work: Callable[[Batches], Coroutine[Any, Any, object]], config: Config, last: int) -> bool:
    """Do ``work`` in a process of its own, killed at moment ``last``; whether it got to its end."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            watch(Moments(last))
            asyncio.run(worked(work, config))
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    ended = os.waitstatus_to_exitcode(status)
    assert ended in (0, -signal.SIGKILL), ended
    return ended == 0


async def worked(work: Callable[[Batches], Coroutine[Any, Any, object]], config: Config) -> None:
    async with open_batches(config) as batches:
        await work(batches)


def listed(base_url: str, what: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{base_url}/{what}?limit=10000") as reply:
        items: list[dict[str, Any]] = json.load(reply)["data"]
    return items


def check(folder: Path, base_url: str, before: set[str]) -> None:
    """Each part is one batch, each record has one answer, and nothing is left lying about."""
    key = json.loads((folder / "out.batches.jsonl").read_text().splitlines()[0])["key"]
    made = [batch for batch in listed(base_url, "batches") if batch["id"] not in before]
    names = sorted(batch["metadata"]["vqa_async_part"] for batch in made)
    assert names == [f"vqa-{key}-{number:04}" for number in (1, 2)], names
    lines = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    assert sorted(line["id"] for line in lines) == [f"r{n}" for n in range(RECORDS)]
    assert {line["_meta"]["batch"] for line in lines} == {batch["id"] for batch in made}
    assert not (folder / "out.failures.jsonl").exists()
    left = {path.name for path in folder.iterdir()}
    assert left == {"out.jsonl", "out.batches.jsonl", "out.run.json", "out.jsonl.lock"}, left


def main(base_url: str, root: Path) -> int:
    """Go through all moments; returns how many there were."""
    source = root / "in.jsonl"
    rows = [{"id": f"r{n}", "conversation": f"What comes after {n}?"} for n in range(RECORDS)]
    source.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    config = Config.of(base_url=base_url, model="looks-1", batch_requests=IN_A_BATCH, batch_poll=0.01)
    moment, is_through = 0, False
    while not is_through:
        folder = root / str(moment)
        folder.mkdir()
        output = JournalPaths.of(folder / "out.jsonl").successes
        before = {batch["id"] for batch in listed(base_url, "batches")}

        async def submit(batches: Batches, output: Path = output) -> None:
            await batches.submit(str(source), output)

        async def fetch(batches: Batches, output: Path = output) -> None:
            await batches.fetch(output, wait=True)

        is_through = True
        for work in (submit, fetch):
            if not forked(work, config, moment):
                is_through = False
                assert forked(work, config, _NEVER)
        check(folder, base_url, before)
        moment += 1
    return moment


if __name__ == "__main__":
    print(main(sys.argv[1], Path(sys.argv[2])))
