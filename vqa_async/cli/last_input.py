"""The input of an output's last run, read once more: what is left of it, and in which order it stands now."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from vqa_async.config import Columns, Prompting, Sampling
from vqa_async.errors import ConfigError, InputError
from vqa_async.keytable import KeyTable
from vqa_async.prompts import Asking
from vqa_async.sources import open_source, places_of
from vqa_async.sources.source import Source


def last_input(run: dict[str, Any]) -> Source | None:
    """The input, unread; None where it is gone or was a pipe.

    Args:
        run: content of OUT.run.json.
    """
    path = run.get("input", "-")
    if path == "-":
        return None
    settings = run.get("settings", {})
    try:
        sampling = Sampling(prompt=settings.get("prompt", ""))
        asking = Asking(sampling, Prompting(**_of(Prompting, settings)))
        columns = Columns(**_of(Columns, settings))
        return open_source(path, columns, asking=asking, format=run.get("format", "auto"))
    except ConfigError:  # InputError is one: the input is gone
        return None


def _of(options: Any, settings: dict[str, Any]) -> dict[str, Any]:
    return {f.name: settings[f.name] for f in fields(options) if f.name in settings}


async def last_places(run: dict[str, Any]) -> KeyTable | None:
    """Where each of its records stands, by id; None where it cannot be read from here."""
    source = last_input(run)
    try:
        return None if source is None else await places_of(source)
    except InputError:
        return None
