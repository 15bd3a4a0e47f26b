"""In which form an answer is wanted: ``response_format``, read strictly; or a JSON schema in words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vqa_async.server.options import ServerOptions
from vqa_async.server.refusals import Refusal

_KINDS = ("text", "json_object", "json_schema")
_PARAM = "response_format"
_MARK = "JSON schema:"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The form of an answer.

    Attributes:
        as_json: whether it is to be JSON.
        schema: what it is to fit, None where that was not said.
        is_repeat: whether the request shows an answer that was given before.
    """

    as_json: bool = False
    schema: Mapping[str, Any] | None = field(default=None, repr=False)
    is_repeat: bool = False


def read_wanted(request: Mapping[str, Any], asked: str, options: ServerOptions) -> Wanted:
    """The form that ``request`` wants its answer in.

    Raises:
        Refusal: it is none, or one that this endpoint was ordered not to know.
    """
    wanted = request.get(_PARAM)
    kind = "text" if wanted is None else wanted.get("type") if isinstance(wanted, dict) else None
    if kind not in _KINDS:
        raise Refusal(400, "'response_format.type' must be text, json_object or json_schema.", param=_PARAM)
    _refuse_ordered(kind, options)
    schema = _read_schema(wanted) if kind == "json_schema" else _schema_in(asked)
    messages: Sequence[Any] = request["messages"]
    is_repeat = any(message["role"] == "assistant" for message in messages)
    return Wanted(kind != "text" or schema is not None, schema, is_repeat)


def _refuse_ordered(kind: str, options: ServerOptions) -> None:
    ordered = options.refuse_response_format
    if kind != "text" and ordered in (kind, "all"):
        said = f"'response_format' of type '{kind}' is not supported with this model."
        raise Refusal(400, said, param=_PARAM, code="unsupported_parameter")


def _read_schema(wanted: Any) -> Mapping[str, Any]:
    given = wanted.get("json_schema")
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        raise Refusal(400, "'response_format.json_schema' must be an object with a 'name'.", param=_PARAM)
    schema = given.get("schema", {})
    if not isinstance(schema, dict):
        raise Refusal(400, "'response_format.json_schema.schema' must be an object.", param=_PARAM)
    if given.get("strict"):
        _require_strict(schema, given["name"])
    return schema


def _require_strict(node: Any, name: str) -> None:
    """What strict mode demands at OpenAI: objects that are closed, all of their properties required."""
    if isinstance(node, dict):
        properties = node.get("properties")
        if isinstance(properties, dict):
            closed = node.get("additionalProperties") is False
            if not closed or sorted(node.get("required", ())) != sorted(properties):
                said = (
                    f"Invalid schema for response_format '{name}': 'additionalProperties' must be false, and "
                    "'required' must name every property."
                )
                raise Refusal(400, said, param=_PARAM)
        for value in node.values():
            _require_strict(value, name)
    elif isinstance(node, list):
        for item in node:
            _require_strict(item, name)


def _schema_in(asked: str) -> Mapping[str, Any] | None:
    """The schema that stands in the words of the question, behind ``JSON schema:``."""
    _, mark, rest = asked.rpartition(_MARK)
    if not mark:
        return None
    try:
        schema, _ = json.JSONDecoder().raw_decode(rest.lstrip())
    except (ValueError, RecursionError):
        return None
    return schema if isinstance(schema, dict) else None
