"""Structured answers of the embedded endpoint: what OpenAI's own client reads, and what is refused."""

from __future__ import annotations

import json
from typing import Any, Literal

import aiohttp
import jsonschema
import openai
import pytest
from chat_bodies import answer_to, ask, chat_body, png
from pydantic import BaseModel

from vqa_async.models import QAPair
from vqa_async.server import RunningServer, running_server
from vqa_async.server.filling import fill
from vqa_async.structured import parameters_of, words_of
from vqa_async.structured.schema import DEFAULT_SCHEMA

PAIRS = [QAPair("A?", "B"), QAPair("C?", "D")]


class Thing(BaseModel):
    name: str
    size: float
    kind: Literal["cat", "dog"]


class Scene(BaseModel):
    caption: str
    count: int
    is_night: bool
    things: list[Thing]
    note: str | None


def form(schema: Any, **more: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, **more}}


async def test_the_clients_own_parser_takes_the_answer(server: RunningServer) -> None:
    """A pydantic model goes in, one comes out."""
    async with openai.AsyncOpenAI(base_url=server.base_url, api_key="none", max_retries=0) as client:
        reply = await client.chat.completions.parse(
            model="looks-1",
            messages=[{"role": "user", "content": "What is there?"}],
            response_format=Scene,
        )
    scene = reply.choices[0].message.parsed
    assert isinstance(scene, Scene)
    assert scene.things[0].kind == "cat"


async def test_the_usual_schema_is_answered_with_what_was_measured(
    client: aiohttp.ClientSession, server: RunningServer
) -> None:
    """The same pairs, whether the schema stands in the parameters or in the words."""
    by_parameter = chat_body(png(), **parameters_of("json_schema", DEFAULT_SCHEMA))
    by_words = chat_body(png(), text=f"What?\n\n{words_of('words', DEFAULT_SCHEMA)}")
    for body in (by_parameter, by_words):
        pairs = json.loads(await answer_to(client, server, body))["qa_pairs"]
        assert pairs[0] == {"question": "What size is the image?", "answer": "64 x 48 pixels (PNG)."}


@pytest.mark.parametrize("text", ["A JSON schema: it is {not one", "What is a JSON schema: [1]?"])
async def test_words_about_schemas_are_no_schema(
    client: aiohttp.ClientSession, server: RunningServer, text: str
) -> None:
    """The answer is text."""
    assert (await answer_to(client, server, chat_body(png(), text=text))).startswith("- Q:")


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"type": "json_schema"}, "with a 'name'"),
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": []}}, "must be an object"),
        (
            form({"type": "object", "properties": {"a": {}}, "required": ["a"]}, strict=True),
            "additionalProperties",
        ),
        (
            form({"anyOf": [{"properties": {"a": {}}, "additionalProperties": False}]}, strict=True),
            "'required' must name every property",
        ),
    ],
)
async def test_a_form_that_openai_refuses_is_refused_here(
    client: aiohttp.ClientSession, server: RunningServer, wanted: Any, said: str
) -> None:
    """Or tests would pass with requests that fail there."""
    status, reply = await ask(client, server, chat_body(png(), response_format=wanted))
    assert (status, reply["error"]["param"]) == (400, "response_format")
    assert said in reply["error"]["message"]


@pytest.mark.parametrize(
    ("ordered", "statuses"),
    [("none", [200, 200, 200]), ("json_schema", [400, 200, 200]), ("all", [400, 400, 200])],
)
async def test_forms_are_refused_to_order(
    client: aiohttp.ClientSession, ordered: Any, statuses: list[int]
) -> None:
    """A schema, any JSON; text is always taken."""
    async with running_server(refuse_response_format=ordered) as server:
        for wanted, status in zip(
            [form(DEFAULT_SCHEMA), {"type": "json_object"}, {"type": "text"}], statuses, strict=True
        ):
            assert (await ask(client, server, chat_body(response_format=wanted)))[0] == status


@pytest.mark.parametrize(
    "schema",
    [
        Scene.model_json_schema(),
        DEFAULT_SCHEMA,
        {},
        {"type": ["array", "null"], "items": {"const": 4}, "minItems": 3},
        {"type": "string", "minLength": 30, "maxLength": 40},
        {"type": "integer", "maximum": -2},
        {"type": "number", "minimum": 2.5},
        {"enum": ["x"]},
        {"oneOf": [{"type": "null"}, {"type": "string"}]},
        {"properties": {"a": {"$ref": "#"}}},
        {"$defs": {"tree": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}, "$ref": "#/$defs/tree"},
        {"$defs": {"n": {"anyOf": [{"properties": {"n": {"$ref": "#/$defs/n"}}, "required": ["n"]},
            {"type": "null"}]}}, "$ref": "#/$defs/n"},
        {"type": "object", "required": ["x"], "properties": {"y": {"type": "array"}}},
        {"type": "object", "properties": {"rows": {"type": "array", "maxItems": 1, "items": {
            "properties": {"question": {}, "answer": {}, "score": {"type": "integer"}}}}}},
    ],
)  # fmt: skip
def test_what_is_filled_in_fits(schema: dict[str, Any]) -> None:
    """Also where a schema refers to itself."""
    jsonschema.validate(fill(schema, PAIRS), schema)
    jsonschema.validate(fill(schema, []), schema)


async def test_wrong_json_is_given_to_order(client: aiohttp.ClientSession) -> None:
    """Only where JSON is wanted, and not to who asks again."""
    async with running_server(wrong_json_rate=1) as server:
        body = chat_body(**parameters_of("json_schema", DEFAULT_SCHEMA))
        assert "ordered" in await answer_to(client, server, body)
        body["messages"] += [{"role": "assistant", "content": "{}"}, {"role": "user", "content": "No."}]
        assert "qa_pairs" in await answer_to(client, server, body)
        assert (await answer_to(client, server, chat_body())).startswith("- Q:")


def test_a_reference_to_nothing_is_a_text() -> None:
    """There is no type to be read."""
    assert fill({"type": "array", "items": {"$ref": "#/a/b"}}, PAIRS) == ["B"]
