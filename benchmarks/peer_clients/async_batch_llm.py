"""async-batch-llm: an OpenAI client of ours in its pipeline, results streamed as they come.

Its prompts are text, so the image is read in the call, as it documents for a client of one's own. The client
does not retry, because the pipeline does; its own clients are made like that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from async_batch_llm import CallableStrategy, CallOutcome, ProcessorConfig, process_stream
from openai import AsyncOpenAI

from benchmarks.peer_clients import API_KEY, HELLO, MODEL, Job, line, messages, started


def run(job: Job) -> None:
    """Stream all records through bounded queues."""
    asyncio.run(_stream(job))


async def _stream(job: Job) -> None:
    async with AsyncOpenAI(base_url=job.url, api_key=API_KEY, max_retries=0) as client:

        async def ask(prompt: str, **_: Any) -> CallOutcome[str]:
            number, _, image = prompt.partition(" ")
            reply = await client.chat.completions.create(
                model=MODEL, messages=messages(int(number), Path(image))
            )
            return CallOutcome(
                reply.choices[0].message.content or "",
                token_usage={
                    "input_tokens": reply.usage.prompt_tokens,
                    "output_tokens": reply.usage.completion_tokens,
                    "total_tokens": reply.usage.total_tokens,
                },
            )

        def prompts() -> Iterator[tuple[str, str, Path]]:
            for number, image in job.items():
                yield str(number), f"{number} {image}", image

        config = ProcessorConfig(
            concurrency=job.workers,
            max_queue_size=4 * job.workers,
            max_result_queue_size=4 * job.workers,
        )
        await client.chat.completions.create(model=MODEL, messages=HELLO)
        started(job)
        with job.output.open("w") as out:
            async for result in process_stream(CallableStrategy(ask), prompts(), config=config):
                out.write(line(int(result.item_id), result.context, result.output or ""))
