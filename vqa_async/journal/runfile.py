"""OUT.run.json: the settings that an output was made with, and how its last run stands. Replaced atomically.

Never holds a key or a header.
"""

from __future__ import annotations

import os
import socket
import time
from hashlib import blake2b
from itertools import zip_longest
from pathlib import Path
from typing import Any

from vqa_async.errors import JournalDamaged, JournalError, SettingsChanged
from vqa_async.journal.json_text import from_json, to_json
from vqa_async.journal.replacing import replaced
from vqa_async.logs import run_id

SCHEMA_VERSION = 1

MERGING = "merging"
"""State of an output whose merge was not finished: it may lack answers that its parts have."""


def fingerprint(settings: dict[str, Any]) -> str:
    """128-bit hex digest of the settings that change answers."""
    in_order = {name: settings[name] for name in sorted(settings)}
    return blake2b(to_json(in_order), digest_size=16).hexdigest()


def load(path: Path) -> dict[str, Any] | None:
    """The run file's content, None where there is none.

    Raises:
        JournalDamaged: it is not what a run wrote.
    """
    try:
        content = from_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        content = None
    if not isinstance(content, dict) or not isinstance(content.get("settings"), dict):
        raise JournalDamaged(
            f"{path} is not the run file that vqa-async wrote. Put it back, or delete it to go on without "
            "the check that the settings are still the same."
        )
    return content


def store(path: Path, content: dict[str, Any]) -> None:
    """Replace the run file: the old one or the new one is there, never a half."""
    with replaced(path) as file:
        file.write(to_json(content, indent=True) + b"\n")


def require_whole(run: dict[str, Any], path: Path) -> None:
    """Refuse an output whose merge was interrupted: what it lacks would be asked, and paid, again.

    Raises:
        JournalError: it was.
    """
    if run.get("state") == MERGING:
        raise JournalError(
            f"{path} says that a merge was interrupted, so answers may be missing that its parts have. "
            "Run the same 'vqa-async merge' again."
        )


def begin(settings: dict[str, Any], source: dict[str, Any]) -> dict[str, Any]:
    """The content at the start of a run."""
    return {
        "schema_version": SCHEMA_VERSION,
        "fingerprint": fingerprint(settings),
        "settings": settings,
        **source,
        "run_id": run_id(),
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "started_at": round(time.time(), 3),
        "state": "running",
    }


def require_same(
    before: dict[str, Any], settings: dict[str, Any], path: Path, *, defaults: dict[str, Any]
) -> None:
    """Refuse to add answers to an output that was made with other settings.

    Args:
        before: content of its run file.
        settings: those of now.
        path: the run file.
        defaults: what settings are taken for that the run file does not know, since they came later.

    Raises:
        SettingsChanged: names each difference.
    """
    if before.get("fingerprint") == fingerprint(settings):
        return
    old = defaults | before["settings"]
    changed = [
        f"{name} {_difference(old.get(name), settings.get(name))}"
        for name in sorted({*old, *settings})
        if old.get(name) != settings.get(name)
    ]
    if not changed:
        return
    raise SettingsChanged(
        f"{path} says that this output was made with other settings: {'; '.join(changed)}. "
        "Use the same settings, or another output, or add --allow-changed-settings to mix them."
    )


def _difference(old: object, new: object) -> str:
    before, after = _shown(old), _shown(new)
    if before != after:
        return f"was {before} and is now {after}"
    pairs = enumerate(zip_longest(str(old), str(new)), 1)
    return f"differs from its character {next((at for at, (a, b) in pairs if a != b), 1)} on"


def _shown(value: object) -> str:
    try:
        text = "not set" if value is None or value == "" else repr(value)
    except RecursionError:  # the reader of JSON takes more levels than this
        text = "<nested too deep>"
    return text if len(text) <= 60 else text[:57] + "..."
