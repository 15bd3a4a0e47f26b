"""Where a user's JSON schema comes from: a dict, a model class, a file, or ``module:Model``. Loaded once.

What it says is judged in ``structured``.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from vqa_async.errors import ConfigError

_MODEL = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def schema_text(given: object) -> str:
    """The schema that ``given`` stands for, as JSON text; "" for none.

    Args:
        given: a dict; a class with ``model_json_schema()``, such as a pydantic model; the path of a JSON
            file; ``module:Model``; or JSON text, which is what this returns.

    Raises:
        ConfigError: there is no schema there.
    """
    if not given:
        return ""
    schema = _found(given)
    if not isinstance(schema, Mapping):
        raise ConfigError(f"The schema {_named(given)} is not a JSON object.")
    try:
        return orjson.dumps(dict(schema)).decode()
    except (orjson.JSONEncodeError, TypeError) as error:
        raise ConfigError(f"The schema {_named(given)} cannot be written as JSON: {error}.") from None


def _found(given: object) -> object:
    if isinstance(given, str | Path):
        text = str(given).strip()
        if text.startswith("{"):
            return _decoded(text.encode(), "--schema")
        return _schema_of_model(text) if _is_model(text) else _read(text)
    return _schema_of(given, _named(given)) if hasattr(given, "model_json_schema") else given


def _named(given: object) -> str:
    return given.__qualname__ if isinstance(given, type) else repr(given)[:80]


def _is_model(text: str) -> bool:
    return _MODEL.fullmatch(text) is not None and not os.path.exists(text)


def _read(path: str) -> object:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"The schema file {path} cannot be read: {error.strerror}. Give --schema a JSON file, or "
            "module:Model for a pydantic model."
        ) from None
    return _decoded(content.removeprefix(b"\xef\xbb\xbf"), path)


def _decoded(content: bytes, where: str) -> object:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"The schema in {where} is not JSON: {error}.") from None


def _schema_of_model(text: str) -> object:
    module, _, names = text.partition(":")
    try:
        with _working_directory_first():
            found: Any = importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(f"The module of --schema {text} cannot be imported: {error}.") from None
    for name in names.split("."):
        found = getattr(found, name, None)
    if not hasattr(found, "model_json_schema"):
        raise ConfigError(
            f"--schema {text} names no class with model_json_schema(), as pydantic models have."
        )
    return _schema_of(found, text)


@contextmanager
def _working_directory_first() -> Iterator[None]:
    """As for ``python -m``: the command itself only sees what is installed."""
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _schema_of(model: Any, named: str) -> object:
    try:
        return model.model_json_schema()
    except (TypeError, ValueError, RuntimeError) as error:  # among them pydantic's own
        said = str(error).partition("\n")[0]
        raise ConfigError(f"The model {named} gives no JSON schema: {said}") from None
