"""Values that no flag gives: the environment, OPENAI_BASE_URL, the file given by --config. In this order.

Only `run` and `check` have layers: VQA_MODEL in the environment of a shell is not meant for `serve`.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_origin

from cyclopts.config import Dict, Env

from vqa_async.config import NamedEndpoint, option_groups
from vqa_async.errors import ConfigError

_LAYERED = ("run", "check", "verify", "quality", "batch")
_ENDPOINTS = "endpoints"
_OF_RUN = ("output", "limit", "format", "json", "quiet", "dashboard")
"""Options of `run` that a settings file may hold though they are no part of a Config."""


def layers(arguments: Sequence[str]) -> tuple[Any, ...]:
    """Where the values come from that ``arguments`` do not give, the strongest first.

    Raises:
        ConfigError: the settings file cannot be read, or has a key that is no option.
    """
    if not arguments or arguments[0] not in _LAYERED:
        return ()
    found: list[Any] = [Env("VQA_", command=False, show=False)]
    # Where batches are is written down when they are submitted: a shell's address may be another by then.
    is_decided = arguments[0] == "batch" and "submit" not in arguments[1:2]
    if not is_decided and (url := os.environ.get("OPENAI_BASE_URL", "").strip()):
        found.append(_values({"base_url": [url]}, "OPENAI_BASE_URL"))
    if path := _config_path(arguments):
        content = _read_settings(path)
        content.pop(_ENDPOINTS, None)  # tables, which no flag can give: see named_endpoints
        found.append(_values(content, path))
    return tuple(found)


def named_endpoints(path: Path | None) -> tuple[NamedEndpoint, ...]:
    """The ``[[endpoints]]`` of a settings file.

    Raises:
        ConfigError: they cannot be used.
    """
    tables = _read_settings(str(path)).get(_ENDPOINTS, []) if path is not None else []
    if not isinstance(tables, list):
        raise ConfigError(f"endpoints in {path} must be tables: begin each with [[endpoints]].")
    return tuple(NamedEndpoint.of(table) for table in tables)


def split_variable(type: Any, value: str, *, delimiter: str | None = None) -> list[str]:
    """One environment variable as several values: URLs stand apart by spaces, headers by line breaks."""
    if get_origin(type) is not tuple:
        return [value]
    words = value.split()
    return words if all("://" in word for word in words) else value.splitlines()


def _values(values: dict[str, Any], source: str) -> Dict:
    # Unknown names were refused before; what is unknown here belongs to the other command.
    return Dict(values, allow_unknown=True, use_commands_as_keys=False, source=source)


def _config_path(arguments: Sequence[str]) -> str:
    """The value of --config, which decides how the rest is read and so is looked for first."""
    for at, argument in enumerate(arguments):
        if argument == "--config":
            return arguments[at + 1] if at + 1 < len(arguments) else ""
        if argument.startswith("--config="):
            return argument.partition("=")[2]
    return ""


def _read_settings(path: str) -> dict[str, Any]:
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"The settings file {path} cannot be read: {error.strerror}. Check --config."
        ) from None
    except ValueError as error:  # not TOML, or not UTF-8
        raise ConfigError(f"The settings file {path} is not TOML: {error}.") from None
    _refuse_unknown(content, path)
    return content


def _refuse_unknown(content: dict[str, Any], path: str) -> None:
    known = [*option_groups(), *_OF_RUN, _ENDPOINTS]
    for name in content:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else " 'vqa-async run --help' lists all."
            raise ConfigError(f"There is no option {name!r}, which stands in {path}.{hint}")
