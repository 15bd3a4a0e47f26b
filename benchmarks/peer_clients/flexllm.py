"""flexllm: one chat_batch over all messages, its own JSONL output; as documented, and as fast as it goes.

Its documentation gives it paths, which it reads, decodes and encodes anew, and lets it repeat the messages in
its output, images and all. Whoever reads its code inlines the images and keeps the messages out.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from flexllm import LLMClient

from benchmarks.peer_clients import API_KEY, MODEL, NO_LIMIT, Job, messages, question, started


def documented(job: Job) -> None:
    """Paths in the messages, its own preprocessing, the defaults."""
    asyncio.run(_batch(job, _paths, preprocess_msg=True))


def inlined(job: Job) -> None:
    """Images inlined by us, messages not repeated in the output."""
    asyncio.run(_batch(job, messages, save_input=False))


async def _batch(job: Job, chat: Any, **options: Any) -> None:
    async with LLMClient(
        base_url=job.url,
        api_key=API_KEY,
        model=MODEL,
        concurrency_limit=job.workers,
        max_qps=NO_LIMIT,
    ) as client:
        started(job)
        chats = [chat(*item) for item in job.items()]
        await client.chat_batch(chats, output_jsonl=str(job.output), show_progress=False, **options)


def _paths(number: int, image: Path) -> list[dict[str, Any]]:
    return [
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": str(image)}},
                {"type": "text", "text": question(number)},
            ],
        }
    ]
