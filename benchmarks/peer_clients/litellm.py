"""litellm: acompletion, a semaphore and a gather."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import litellm

from benchmarks.peer_clients import API_KEY, HELLO, MODEL, Job, line, messages, started


def run(job: Job) -> None:
    """Ask each record through its OpenAI-compatible provider."""
    litellm.telemetry = False
    asyncio.run(_gather(job))


async def _gather(job: Job) -> None:
    free = asyncio.Semaphore(job.workers)
    with job.output.open("w") as out:

        async def complete(chat: list[dict[str, Any]]) -> str:
            reply = await litellm.acompletion(
                model=f"openai/{MODEL}", messages=chat, api_base=job.url, api_key=API_KEY
            )
            return str(reply.choices[0].message.content)

        async def ask(number: int, image: Path) -> None:
            async with free:
                answer = await complete(messages(number, image))
            out.write(line(number, image, answer))

        await complete(HELLO)
        started(job)
        await asyncio.gather(*(ask(*item) for item in job.items()))
