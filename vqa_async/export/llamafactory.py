"""The entry of an export in LLaMA-Factory's dataset_info.json, beside entries of others."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from vqa_async.errors import ConfigError
from vqa_async.journal.json_text import from_json, to_json
from vqa_async.journal.replacing import replaced

INFO = "dataset_info.json"


def register(targets: list[Path]) -> Path:
    """Write the entries of ``targets``, which stand in one folder; what else is registered there stays.

    Raises:
        ConfigError: see ``read_info``.
    """
    path = targets[0].with_name(INFO)
    info = read_info(targets)
    with replaced(path) as file:
        file.write(to_json(info | {_name(t): _entry(t) for t in targets}, indent=True) + b"\n")
    return path


def read_info(targets: list[Path]) -> dict[str, Any]:
    """What is registered already.

    Raises:
        ConfigError: it is no such file, or another file is registered under a name that is wanted.
    """
    path = targets[0].with_name(INFO)
    try:
        info = from_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        info = None
    if not isinstance(info, dict):
        raise ConfigError(f"{path} is no JSON object, so nothing can be registered there: mend or move it.")
    for target in targets:
        entry = info.get(_name(target))
        file = entry.get("file_name") if isinstance(entry, dict) else entry
        if entry is not None and file != target.name:
            raise ConfigError(
                f"{path} has another data set called {_name(target)!r}: give the export another name."
            )
    return info


def _name(target: Path) -> str:
    return re.sub(r"\W+", "_", target.stem)


def _entry(target: Path) -> dict[str, Any]:
    columns = {"messages": "conversations", "images": "images", "system": "system"}
    return {"file_name": target.name, "formatting": "sharegpt", "columns": columns}
