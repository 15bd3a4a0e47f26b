"""The input of an output's last run, read once more: what is left of it, and in which order it stands now."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from vqa_async.config import Columns, Prompting, Sampling, Selection
from vqa_async.errors import ConfigError, InputError
from vqa_async.journal import Survey
from vqa_async.keytable import KeyTable
from vqa_async.prompts import Asking
from vqa_async.sources import open_source, places_of
from vqa_async.sources.source import Source


def last_input(run: dict[str, Any], *, selected: bool = False) -> Source | None:
    """The input, unread; None where it is gone or was a pipe.

    Args:
        run: content of OUT.run.json.
        selected: only what that run was to take of it.
    """
    path = run.get("input", "-")
    if path == "-":
        return None
    settings = run.get("settings", {})
    try:
        sampling = Sampling(prompt=settings.get("prompt", ""))
        asking = Asking(sampling, Prompting(**_of(Prompting, settings)))
        columns = Columns(**_of(Columns, settings))
        return open_source(
            path,
            columns,
            asking=asking,
            format=run.get("format", "auto"),
            selection=_selection(run) if selected else None,
        )
    except ConfigError:  # InputError is one: the input is gone
        return None


def _of(options: Any, settings: dict[str, Any]) -> dict[str, Any]:
    return {f.name: settings[f.name] for f in fields(options) if f.name in settings}


def _selection(run: dict[str, Any]) -> Selection:
    """Which records the run was to take; in which order, and what of them it kept, is all the same."""
    asked = run.get("selection", {})
    return Selection(where=tuple(asked.get("where", ())), shard=asked.get("shard", ""))


async def last_places(run: dict[str, Any]) -> KeyTable | None:
    """Where each of its records stands, by id; None where it cannot be read from here."""
    source = last_input(run)
    try:
        return None if source is None else await places_of(source)
    except InputError:
        return None


async def left_of(found: Survey) -> int | None:
    """Records of the input that have neither answer nor failure; None where the input cannot be read."""
    source = last_input(found.run, selected=True)
    if source is None:
        return None
    left = 0
    try:
        async with source:
            async for item in source:
                left += found.replayed.state.get(item.id) is None
    except InputError:
        return None
    return left
