"""A file of requests becomes a batch, once, however often we are killed on the way.

What is about to be done is noted before it is done, what came of it afterwards. Whoever finds the one without
the other looks at the provider for what may have been made: a file by the name that only it has, a batch by
the key in its metadata.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from vqa_async.batches.provider import Provider, is_refused
from vqa_async.errors import JournalDamaged, RequestError
from vqa_async.journal import BatchLog, Part


async def send(provider: Provider, log: BatchLog, part: Part) -> Part:
    """Take ``part`` as far as ``created``; returns it as it stands then.

    Raises:
        RequestError: the provider refuses it, or cannot be reached. Again goes on where this has stopped.
    """
    if part.step in ("made", "uploading"):
        part = await _upload(provider, log, part)
    if part.step in ("uploaded", "creating"):
        part = await _create(provider, log, part)
    log.requests_of(part.number).unlink(missing_ok=True)
    return part


async def _upload(provider: Provider, log: BatchLog, part: Part) -> Part:
    path = log.requests_of(part.number)
    if not path.exists():
        raise JournalDamaged(
            f"{path} is gone, and {log.path} says that it is still to be uploaded. Put it back."
        )
    is_first = part.step == "made"
    part = noted(log, part, step="uploading")
    file_id = await provider.upload(path, f"{key_of(log, part)}.jsonl", is_first=is_first)
    return noted(log, part, step="uploaded", file_id=file_id)


async def _create(provider: Provider, log: BatchLog, part: Part) -> Part:
    is_first, since = part.step == "uploaded", part.at
    if is_first:
        part = noted(log, part, step="creating")
    try:
        batch_id = await provider.create(part.file_id, key_of(log, part), is_first=is_first, since=since)
    except RequestError as error:
        if is_refused(error):  # perhaps because the file has gone meanwhile
            noted(log, part, step="uploading", file_id="")
        raise
    return noted(log, part, step="created", batch_id=batch_id)


def key_of(log: BatchLog, part: Part) -> str:
    """What marks a part at the provider."""
    assert log.submission is not None
    return f"vqa-{log.submission.key}-{part.number:04}"


def noted(log: BatchLog, part: Part, **changes: Any) -> Part:
    """``part`` with ``changes``, once that is in the log."""
    part = replace(part, at=round(time.time(), 3), **changes)
    log.note(part)
    return part
