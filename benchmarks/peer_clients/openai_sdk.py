"""The openai SDK: its synchronous client in a thread pool, its asynchronous one, that one over aiohttp."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI, DefaultAioHttpClient, OpenAI

from benchmarks.peer_clients import API_KEY, HELLO, MODEL, Job, line, messages, started


def threads(job: Job) -> None:
    """The seed's way: a thread pool, every result kept, one dump at the end."""
    with (
        OpenAI(base_url=job.url, api_key=API_KEY) as client,
        ThreadPoolExecutor(job.workers) as pool,
    ):

        def ask(item: tuple[int, Path]) -> dict[str, Any]:
            number, image = item
            reply = client.chat.completions.create(model=MODEL, messages=messages(number, image))
            return {"id": number, "image": str(image), "answer": reply.choices[0].message.content}

        client.chat.completions.create(model=MODEL, messages=HELLO)
        started(job)
        results = list(pool.map(ask, job.items()))
    with job.output.open("w") as out:
        json.dump(results, out)


def semaphore(job: Job) -> None:
    """AsyncOpenAI as it comes."""
    asyncio.run(_gather(job, {}))


def over_aiohttp(job: Job) -> None:
    """AsyncOpenAI over aiohttp in place of its own transport."""

    async def run() -> None:
        await _gather(job, {"http_client": DefaultAioHttpClient()})

    asyncio.run(run())


async def _gather(job: Job, options: dict[str, Any]) -> None:
    free = asyncio.Semaphore(job.workers)
    async with AsyncOpenAI(base_url=job.url, api_key=API_KEY, **options) as client:
        with job.output.open("w") as out:

            async def ask(number: int, image: Path) -> None:
                async with free:
                    reply = await client.chat.completions.create(
                        model=MODEL, messages=messages(number, image)
                    )
                out.write(line(number, image, reply.choices[0].message.content or ""))

            await client.chat.completions.create(model=MODEL, messages=HELLO)
            started(job)
            await asyncio.gather(*(ask(*item) for item in job.items()))
