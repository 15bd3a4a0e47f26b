"""Changes to JSON that leave it JSON: a search that turns single bytes rarely gets beyond the parser."""

from __future__ import annotations

import random
from typing import Any

import orjson

LEAVES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 429, 10**18, 1e300, 0.5, "", " ", "x", "429", "\0", "\u202e\u2028", "é🖼️"),
    *(
        [],
        {},
        [[]],
        [None],
        [{}],
        "stop",
        "length",
        "content_filter",
        "insufficient_quota",
        "model_not_found",
    ),
    *("a.png", "<image>", "http://a/b.png", "data:image/png;base64,AAAA", "human", "user", "system", "What?"),
)
KEYS = (
    *("choices", "message", "content", "finish_reason", "error", "code", "type", "detail", "refusal", "text"),
    *("tool_calls", "function_call", "usage", "prompt_tokens", "completion_tokens", "model", "status", "id"),
    *("image", "conversation", "from", "value", "role", "image_url", "url", "", "a", "\u202e"),
)
LEVELS = (1, 3, 200, 254, 255, 300, 1000, 1023)


def mutated(text: bytes, rng: random.Random) -> bytes | None:
    """``text`` with one to three of its values changed; None where it is no JSON."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    for _ in range(rng.randint(1, 3)):
        value = _changed(value, rng)
    try:
        dumped = orjson.dumps(value)
    except orjson.JSONEncodeError:
        return None
    # Deeper than it could be written; a text of the same digits in the value stands for nothing else.
    levels = rng.choice(LEVELS)
    return dumped.replace(b'"<deep>"', b"[" * levels + b"1" + b"]" * levels)


def _changed(value: Any, rng: random.Random) -> Any:
    """``value`` with a change to it or to something inside."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        return {**value, key: _changed(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        return [*value[:at], _changed(value[at], rng), *value[at + 1 :]]
    return _replaced(value, rng)


def _replaced(value: Any, rng: random.Random) -> Any:
    match rng.randrange(7):
        case 0:
            return [value] * rng.randint(1, 3)
        case 1:
            return {rng.choice(KEYS): value}
        case 2 if isinstance(value, dict):
            return {**value, rng.choice(KEYS): rng.choice(LEAVES)}
        case 3 if isinstance(value, dict | list) and value:
            return rng.choice(list(value.values()) if isinstance(value, dict) else value)
        case 4 if isinstance(value, str):
            at = rng.randint(0, len(value))
            return value[:at] + str(rng.choice(LEAVES)) + value[at:]
        case 5:
            return "<deep>"
    return rng.choice(LEAVES)
