"""The calls that users write, held to their types by the type checker. Never run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import assert_type

from vqa_async import (
    Config,
    Failure,
    Observer,
    QAPair,
    Record,
    Request,
    Response,
    Result,
    RunSummary,
    Success,
    Transport,
    arun,
    format_pairs,
    open_engine,
    parse_pairs,
    run,
    stream,
)
from vqa_async.dataflow import APIVLMServing_openai, FileStorage, PromptedVQAGenerator
from vqa_async.events import Event


class Mine:
    async def send(self, request: Request) -> Response:
        return Response(200, {}, b"")

    def on_event(self, event: Event) -> None: ...


transport: Transport = Mine()
observer: Observer = Mine()


async def rows() -> AsyncIterator[dict[str, object]]:
    yield {"image": "a.png", "conversation": "What?"}


async def embedded(record: Record) -> None:
    async with open_engine(base_url="http://localhost:8000/v1", model="m", max_workers=64) as engine:
        assert_type(await engine.generate({"image": "a.png"}), Result)
        assert_type(await engine.generate(record), Result)
        async for result in engine.stream(rows()):
            if isinstance(result, Success):
                assert_type(result.text, str)
                assert_type(result.pairs, tuple[QAPair, ...])
            else:
                assert_type(result, Failure)
        async for _ in engine.stream([record, record]):
            break
        assert_type(await engine.run("in.jsonl", "out.jsonl", limit=5), RunSummary)
    async with open_engine(Config.of(model="m"), api_key="k", transport=transport, observer=observer):
        pass
    async for result in stream(rows(), model="m"):
        assert_type(result, Result)
    assert_type(await arun("in.jsonl", "out.jsonl", model="m"), RunSummary)


def synchronous() -> None:
    assert_type(run("in.jsonl", "out.jsonl", model="m").ok, bool)
    assert_type(format_pairs(parse_pairs("- Q: a\n  A: b")), str)
    serving = APIVLMServing_openai(api_url="http://localhost:8000/v1", model_name="m", max_workers=4)
    assert_type(serving.generate_from_input(["a"], image_inputs=["a.png"]), list[str | None])
    generator = PromptedVQAGenerator(serving, system_prompt="s")
    assert_type(generator.run(FileStorage("in.json").step()), str)
