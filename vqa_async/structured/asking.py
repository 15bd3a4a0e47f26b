"""The forms in which a structured answer can be asked for, best first, and the words of each."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

import orjson

from vqa_async.structured.schema import Schema, strict_version

Mode: TypeAlias = Literal["json_schema", "json_object", "words"]

MODES: tuple[Mode, ...] = get_args(Mode)
"""By a schema that the endpoint keeps to; as some JSON, the schema in words; in words alone."""

_NAME = "vqa"


def parameters_of(mode: Mode, schema: Schema) -> dict[str, Any]:
    """The request parameters that ask for an answer by ``schema``."""
    if mode == "words":
        return {}
    if mode == "json_object":
        return {"response_format": {"type": "json_object"}}
    strict = strict_version(schema)
    form = {"name": _NAME, "strict": strict is not None, "schema": schema if strict is None else strict}
    return {"response_format": {"type": "json_schema", "json_schema": form}}


def words_of(mode: Mode, schema: Schema) -> str:
    """What is said below the question; "" where the parameters say it all."""
    return "" if mode == "json_schema" else _instruction(schema)


def _instruction(schema: Schema) -> str:
    return (
        "Answer with JSON only, no other text, that fits this JSON schema:\n" + orjson.dumps(schema).decode()
    )


def ask_again(reason: str, schema: Schema) -> str:
    """The turn that asks for a better answer."""
    return f"That answer cannot be used: {reason.rstrip('. ')}. {_instruction(schema)}"
