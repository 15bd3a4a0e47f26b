"""The embedded endpoint through the eyes of OpenAI's own client."""

from __future__ import annotations

import openai
import pytest
from chat_bodies import chat_body, png
from openai.types.chat import ChatCompletion

from vqa_async.server import running_server


async def test_the_reply_is_a_chat_completion_to_openais_client() -> None:
    """Every field has the type that the client declares, and none is missing."""
    async with (
        running_server() as server,
        openai.AsyncOpenAI(base_url=server.base_url, api_key="k") as client,
    ):
        completion = await client.chat.completions.create(**chat_body(png()))
        ChatCompletion.model_validate(completion.model_dump(), strict=True)
        assert completion.choices[0].finish_reason == "stop"
        assert "red" in (completion.choices[0].message.content or "")
        usage = completion.usage
        assert usage is not None
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
        assert completion.system_fingerprint == "vqa-async-pixels-no-model"


async def test_models_are_listed_to_openais_client() -> None:
    """By name."""
    async with (
        running_server() as server,
        openai.AsyncOpenAI(base_url=server.base_url, api_key="k") as client,
    ):
        assert [model.id async for model in client.models.list()] == ["looks-1"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"api_key": "other"}, openai.AuthenticationError),
        ({"model": "other"}, openai.NotFoundError),
        ({"error_rate": "429=1"}, openai.RateLimitError),
        ({"error_rate": "503=1"}, openai.InternalServerError),
    ],
)
async def test_refusals_are_the_errors_that_openais_client_knows(
    options: dict[str, str], error: type[openai.APIStatusError]
) -> None:
    """Each status as its own class, with the body's message."""
    async with (
        running_server(**options) as server,
        openai.AsyncOpenAI(base_url=server.base_url, api_key="k", max_retries=0) as client,
    ):
        with pytest.raises(error) as refused:
            await client.chat.completions.create(**chat_body())
        assert isinstance(refused.value.body, dict)
        assert refused.value.body["message"]
