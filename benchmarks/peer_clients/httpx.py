"""httpx alone: a semaphore and a gather, no SDK, no retry."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from benchmarks.peer_clients import API_KEY, MODEL, Job, line, messages, started


def run(job: Job) -> None:
    """POST each record."""
    asyncio.run(_gather(job))


async def _gather(job: Job) -> None:
    free = asyncio.Semaphore(job.workers)
    url = f"{job.url}/chat/completions"
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {API_KEY}"}, timeout=600) as client:
        with job.output.open("w") as out:

            async def ask(number: int, image: Path) -> None:
                async with free:
                    body = {"model": MODEL, "messages": messages(number, image)}
                    reply = (await client.post(url, json=body)).raise_for_status().json()
                out.write(line(number, image, reply["choices"][0]["message"]["content"]))

            started(job)
            await asyncio.gather(*(ask(*item) for item in job.items()))
