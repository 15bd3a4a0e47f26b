"""oaib: a batch of queued requests, its result a data frame."""

from __future__ import annotations

import asyncio

from oaib import Batch

from benchmarks.peer_clients import API_KEY, HELLO, MODEL, NO_LIMIT, Job, messages, started


def run(job: Job) -> None:
    """Queue all, run, write the frame."""
    asyncio.run(_batch(job))


async def _batch(job: Job) -> None:
    batch = Batch(
        rpm=NO_LIMIT,
        tpm=1000 * NO_LIMIT,
        workers=job.workers,
        loglevel=0,
        api_key=API_KEY,
        base_url=job.url,
    )
    await batch.client.chat.completions.create(model=MODEL, messages=HELLO)
    started(job)
    for number, image in job.items():
        await batch.add(
            "chat.completions.create",
            metadata={"id": number},
            model=MODEL,
            messages=messages(number, image),
        )
    answers = await batch.run()
    answers[["id", "result"]].to_json(job.output, orient="records", lines=True)
