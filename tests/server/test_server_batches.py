"""Files and batches of the embedded endpoint, through the eyes of OpenAI's own client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import openai
import pytest
from chat_bodies import chat_body, png
from openai.types import Batch

from vqa_async.server import running_server


def requests(count: int, **changes: Any) -> bytes:
    """The content of an input file."""
    lines = [
        {"custom_id": f"r{n}", "method": "POST", "url": "/v1/chat/completions", "body": chat_body(png())}
        | changes
        for n in range(count)
    ]
    return "".join(f"{json.dumps(line)}\n" for line in lines).encode()


async def submitted(client: openai.AsyncOpenAI, content: bytes) -> Batch:
    """A batch of an input file with this content."""
    file = await client.files.create(file=("in.jsonl", content), purpose="batch")
    return await client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"mine": "yes"},
    )


async def over(client: openai.AsyncOpenAI, batch: Batch) -> Batch:
    """The batch once it is over."""
    while batch.status in ("validating", "in_progress", "finalizing", "cancelling"):
        await asyncio.sleep(0.005)
        batch = await client.batches.retrieve(batch.id)
    return batch


async def lines(client: openai.AsyncOpenAI, id: str | None) -> list[dict[str, Any]]:
    """The lines of a file of results."""
    if id is None:
        return []
    return [json.loads(line) for line in (await client.files.content(id)).text.splitlines()]


def ids(results: Iterable[dict[str, Any]]) -> list[str]:
    return sorted((line["custom_id"] for line in results), key=lambda id: int(id[1:]))


async def test_a_batch_is_answered_line_by_line_in_another_order() -> None:
    """Every request has its completion, under its custom_id."""
    async with (
        running_server() as server,
        openai.AsyncOpenAI(base_url=server.base_url, api_key="k") as client,
    ):
        batch = await submitted(client, requests(20))
        assert batch.status == "validating"
        batch = await over(client, batch)
        Batch.model_validate(batch.model_dump(), strict=True)
        assert (batch.status, batch.metadata, batch.error_file_id) == ("completed", {"mine": "yes"}, None)
        assert batch.request_counts is not None
        assert batch.request_counts.model_dump() == {"total": 20, "completed": 20, "failed": 0}
        results = await lines(client, batch.output_file_id)
        assert ids(results) == [f"r{n}" for n in range(20)]
        assert [line["custom_id"] for line in results] != ids(results)
        assert "red" in results[0]["response"]["body"]["choices"][0]["message"]["content"]


async def test_files_are_listed_read_and_deleted() -> None:
    """As bytes, as they were sent."""
    async with (
        running_server() as server,
        openai.AsyncOpenAI(base_url=server.base_url, api_key="k") as client,
    ):
        content = requests(2)
        made = await client.files.create(file=("in.jsonl", content), purpose="batch")
        assert (await client.files.retrieve(made.id)).filename == "in.jsonl"
        assert (await client.files.content(made.id)).content == content
        assert [file.bytes async for file in client.files.list(purpose="batch")] == [len(content)]
        assert (await client.files.delete(made.id)).deleted
        assert [file async for file in client.files.list()] == []
        with pytest.raises(openai.NotFoundError):
            await client.files.retrieve(made.id)


async def test_batches_are_listed_in_pages_the_newest_first() -> None:
    """OpenAI's client goes through all pages by itself."""
    async with (
        running_server() as server,
        openai.AsyncOpenAI(base_url=server.base_url, api_key="k") as client,
    ):
        made = [(await submitted(client, requests(1))).id for _ in range(5)]
        assert [batch.id async for batch in client.batches.list(limit=2)] == made[::-1]
        with pytest.raises(openai.BadRequestError, match="limit"):
            await client.batches.list(limit=0)


async def test_a_batch_with_errors_that_expires_leaves_both_files() -> None:
    """Refused requests, and those that time did not suffice for, are in the error file."""
    async with (
        running_server(error_rate="500=0.5", batch_expiry=0.25) as server,
        openai.AsyncOpenAI(base_url=server.base_url, api_key="k") as client,
    ):
        batch = await over(client, await submitted(client, requests(20)))
        assert batch.status == "expired"
        good, bad = await lines(client, batch.output_file_id), await lines(client, batch.error_file_id)
        assert ids([*good, *bad]) == [f"r{n}" for n in range(20)]
        assert {line["response"]["status_code"] for line in bad if line["response"]} == {500}
        expired = [line for line in bad if line["error"]]
        assert len(expired) == 5
        assert {line["error"]["code"] for line in expired} == {"batch_expired"}


async def test_a_batch_can_be_cancelled_until_it_is_over() -> None:
    """What was not answered says so."""
    async with (
        running_server(batch_delay=60) as server,
        openai.AsyncOpenAI(base_url=server.base_url, api_key="k") as client,
    ):
        batch = await submitted(client, requests(3))
        batch = await over(client, await client.batches.cancel(batch.id))
        assert batch.status == "cancelled"
        bad = await lines(client, batch.error_file_id)
        assert [line["error"]["code"] for line in bad] == ["batch_cancelled"] * 3
        with pytest.raises(openai.ConflictError):
            await client.with_options(max_retries=0).batches.cancel(batch.id)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (requests(4), "too_many_requests"),
        (requests(2, custom_id="same"), "duplicate_custom_id"),
        (requests(1, custom_id="x" * 65), "invalid_custom_id"),
        (requests(1, url="/v1/embeddings"), "invalid_url"),
        (requests(1, body=None), "invalid_request"),
        (requests(1) + requests(1, body={"model": "b"}, custom_id="b"), "mismatched_model"),
        (b"{no json\n", "invalid_json_line"),
        (b"", "empty_file"),
    ],
)  # fmt: skip
async def test_an_input_file_that_is_wrong_fails_the_whole_batch(content: bytes, code: str) -> None:
    """Nothing of it is answered, and the first wrong line is named."""
    async with (
        running_server(batch_max_requests=3) as server,
        openai.AsyncOpenAI(base_url=server.base_url, api_key="k") as client,
    ):
        batch = await over(client, await submitted(client, content))
        assert (batch.status, batch.output_file_id, batch.error_file_id) == ("failed", None, None)
        assert batch.errors is not None
        assert batch.errors.data is not None
        assert [error.code for error in batch.errors.data] == [code]


async def test_what_cannot_be_a_batch_is_refused_at_once() -> None:
    """Too large a file, another purpose, an unknown file, another endpoint, no key."""
    async with (
        running_server(batch_max_bytes=100, api_key="k") as server,
        openai.AsyncOpenAI(base_url=server.base_url, api_key="k", max_retries=0) as client,
    ):
        with pytest.raises(openai.APIStatusError, match="larger than 100 bytes"):
            await client.files.create(file=("in.jsonl", b"x" * 101), purpose="batch")
        with pytest.raises(openai.BadRequestError, match="purpose"):
            await client.files.create(file=("in.jsonl", b"x"), purpose="user_data")
        with pytest.raises(openai.NotFoundError, match="No such File"):
            await client.batches.create(
                input_file_id="file-no", endpoint="/v1/chat/completions", completion_window="24h"
            )
        with pytest.raises(openai.BadRequestError, match="endpoint"):
            await client.batches.create(
                input_file_id="file-no", endpoint="/v1/embeddings", completion_window="24h"
            )
        with pytest.raises(openai.AuthenticationError):
            await client.with_options(api_key="other").files.list()
        with pytest.raises(openai.NotFoundError):
            await client.batches.retrieve("batch_no")


async def test_the_same_idempotency_key_makes_one_batch() -> None:
    """So a request that is sent again after its reply was lost does no harm."""
    async with (
        running_server() as server,
        openai.AsyncOpenAI(base_url=server.base_url, api_key="k") as client,
    ):
        file = await client.files.create(file=("in.jsonl", requests(1)), purpose="batch")
        made = {
            (
                await client.batches.create(
                    input_file_id=file.id,
                    endpoint="/v1/chat/completions",
                    completion_window="24h",
                    extra_headers={"Idempotency-Key": "once"},
                )
            ).id
            for _ in range(2)
        }
        assert len(made) == 1
