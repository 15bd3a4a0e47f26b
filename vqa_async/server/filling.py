"""A JSON schema and pairs -> a value that fits the schema and says what the pairs say, as far as it has room.

Simple on purpose: patterns, formats and conditions are not looked at.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vqa_async.models import QAPair

_DEEPEST = 8
"""Levels below which what may be left out is left out, so that schemas that refer to themselves end."""


def fill(schema: Mapping[str, Any], pairs: Sequence[QAPair]) -> Any:
    """A value that fits ``schema``."""
    return _Filling(schema, pairs).value(schema, 0)


class _Filling:
    def __init__(self, root: Mapping[str, Any], pairs: Sequence[QAPair]) -> None:
        self._root = root
        self._pairs = pairs
        self._texts: Iterator[str] = itertools.cycle([pair.answer for pair in pairs] or [""])

    def value(self, node: Any, level: int) -> Any:
        if not isinstance(node, Mapping):
            return next(self._texts)
        node = self._resolved(node)
        if "const" in node:
            return node["const"]
        if node.get("enum"):
            return node["enum"][0]
        for name in ("anyOf", "oneOf"):
            if node.get(name):
                return self.value(node[name][-1 if level > _DEEPEST else 0], level + 1)
        return self._by_type(node, level)

    def _resolved(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        for _ in range(_DEEPEST):
            reference = node.get("$ref")
            if not isinstance(reference, str):
                break
            found: Any = self._root
            for name in filter(None, reference.removeprefix("#").split("/")):
                found = found.get(name, {}) if isinstance(found, Mapping) else {}
            node = found
        return node

    def _by_type(self, node: Mapping[str, Any], level: int) -> Any:
        kind = node.get("type", "object" if "properties" in node else "string")
        if isinstance(kind, list):
            kind = kind[0]
        if kind == "object":
            return self._object(node, level)
        if kind == "array":
            return self._array(node, level)
        if kind in ("integer", "number"):
            least = node.get("minimum", min(1, node.get("maximum", 1)))
            return int(least) if kind == "integer" else float(least)
        if kind == "string":
            text = next(self._texts).ljust(node.get("minLength", 0), ".")
            return text[: node.get("maxLength", len(text))]
        return True if kind == "boolean" else None

    def _object(self, node: Mapping[str, Any], level: int) -> dict[str, Any]:
        properties = node.get("properties", {})
        wanted = dict.fromkeys([*(properties if level <= _DEEPEST else ()), *node.get("required", ())])
        return {name: self.value(properties.get(name, True), level + 1) for name in wanted}

    def _array(self, node: Mapping[str, Any], level: int) -> list[Any]:
        items = node.get("items", True)
        resolved = self._resolved(items) if isinstance(items, Mapping) else {}
        properties = resolved.get("properties", {})
        most = node.get("maxItems", len(self._pairs))
        if {"question", "answer"} <= set(properties):
            return [self._row(properties, pair, level) for pair in self._pairs[:most]]
        count = node.get("minItems", 0 if level > _DEEPEST else 1)
        return [self.value(items, level + 1) for _ in range(count)]

    def _row(self, properties: Mapping[str, Any], pair: QAPair, level: int) -> dict[str, Any]:
        others = {
            name: self.value(node, level + 1)
            for name, node in properties.items()
            if name not in ("question", "answer")
        }
        return {"question": pair.question, "answer": pair.answer, **others}
