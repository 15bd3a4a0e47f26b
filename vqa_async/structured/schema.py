"""The schemas: the usual one, a user's own, and the strict version of one where there is one.

Strict mode, as OpenAI defined it and others took it over, makes the endpoint keep to a schema to the letter,
but takes only those in which every object is closed and all its properties are required.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import orjson

from vqa_async.errors import ConfigError

Schema: TypeAlias = Mapping[str, Any]

DEFAULT_SCHEMA: Schema = {
    "type": "object",
    "properties": {
        "qa_pairs": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"question": {"type": "string"}, "answer": {"type": "string"}},
                "required": ["question", "answer"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["qa_pairs"],
    "additionalProperties": False,
}
"""What is asked for where the user has no schema of their own."""

_EXTRA = "pip install 'vqa-async[structured]'"
_LOOSE = ("oneOf", "allOf", "not", "if", "then", "else", "patternProperties", "dependentSchemas")
_DATA = ("enum", "const", "default", "examples", "required")
"""Keywords whose values are data and no schemas."""
_MAX_LEVELS = 100


def strict_version(schema: Schema) -> dict[str, Any] | None:
    """``schema`` with all its objects closed and all properties required; None where that would change what
    it means.

    A property that may be left out may be required where null is allowed for it, or a default was given.
    """
    if not isinstance(schema.get("properties"), Mapping) or "$ref" in schema or "anyOf" in schema:
        return None  # the outermost must be an object
    try:
        strict = _strict(schema)
    except _NotStrictError:
        return None
    assert isinstance(strict, dict)
    return strict


class _NotStrictError(Exception):
    """There is no strict version."""


def _strict(node: Any, key: str = "") -> Any:
    if isinstance(node, list):
        return [_strict(item) for item in node] if key not in _DATA else node
    if not isinstance(node, Mapping) or key in _DATA:
        return node
    if any(name in node for name in _LOOSE):
        raise _NotStrictError
    if "$ref" in node:  # nothing may stand beside it, and what usually does are titles
        return {"$ref": node["$ref"]}
    own = {name: _strict_field(name, value) for name, value in node.items() if name != "default"}
    types = node.get("type")
    if types == "object" or (isinstance(types, list) and "object" in types) or "properties" in node:
        own |= _closed(node)
    return own


def _strict_field(name: str, value: Any) -> Any:
    if name in ("properties", "$defs", "definitions") and isinstance(value, Mapping):
        return {key: _strict(each) for key, each in value.items()}  # here names are names and no keywords
    return _strict(value, name)


def _closed(node: Schema) -> dict[str, Any]:
    properties = node.get("properties")
    if not isinstance(properties, Mapping) or node.get("additionalProperties", False) is not False:
        raise _NotStrictError
    required = node.get("required") or ()
    if not all(name in required or _may_be_given(each) for name, each in properties.items()):
        raise _NotStrictError
    return {"required": list(properties), "additionalProperties": False}


def _may_be_given(schema: Any) -> bool:
    """Whether a property that may be left out can as well be there each time."""
    if not isinstance(schema, Mapping):
        return False
    types = schema.get("type")
    allows_null = types == "null" or (isinstance(types, list) and "null" in types)
    choices = schema.get("anyOf")
    return (
        "default" in schema
        or allows_null
        or (
            isinstance(choices, list)
            and any(isinstance(c, Mapping) and c.get("type") == "null" for c in choices)
        )
    )


def validator_of(schema: Schema) -> Any:
    """What tells whether values fit ``schema``.

    Raises:
        ConfigError: the schema cannot be used, or what is needed for it is not installed.
    """
    try:
        import json_repair  # noqa: F401 - needed for the first answer that is not JSON, and so missed now
        from jsonschema.exceptions import SchemaError
        from jsonschema.validators import Draft202012Validator, validator_for
        from referencing import Registry
    except ImportError:
        raise ConfigError(f"--schema needs the extra 'structured': {_EXTRA}.") from None
    kind = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        said = error.message[:200].rstrip(". ")
        raise ConfigError(
            f"The schema of --schema is no valid JSON schema, at {error.json_path}: {said}."
        ) from None
    except RecursionError:
        raise ConfigError("The schema of --schema is nested too deep.") from None
    _require_own_references(schema)
    # With a registry of its own it never looks for references in the network.
    return kind(schema, registry=Registry())


def _require_own_references(schema: Schema) -> None:
    for reference in _references(schema, 0):
        if reference != "#" and not (reference.startswith("#/") and _resolves(schema, reference)):
            raise ConfigError(
                f"The schema of --schema refers to {reference[:100]!r}, which is not in it: put all of it "
                "into one document, and refer to its parts as '#/$defs/Name'."
            )


def _references(node: Any, level: int) -> Iterator[str]:
    if level > _MAX_LEVELS:
        raise ConfigError("The schema of --schema is nested too deep.")
    if isinstance(node, Mapping):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for key, value in node.items():
            if key not in _DATA:
                yield from _references(value, level + 1)
    elif isinstance(node, list):
        for item in node:
            yield from _references(item, level + 1)


def _resolves(schema: Schema, reference: str) -> bool:
    node: Any = schema
    for name in reference.removeprefix("#/").split("/"):
        key = name.replace("~1", "/").replace("~0", "~")
        if isinstance(node, list):
            node = node[int(key)] if key.isdecimal() and int(key) < len(node) else None
        else:
            node = node.get(key) if isinstance(node, Mapping) else None
        if node is None:
            return False
    return True


def schema_of(text: str) -> Schema:
    """The schema of the settings: the user's, else the usual one."""
    loaded: Schema = orjson.loads(text) if text else DEFAULT_SCHEMA
    return loaded
