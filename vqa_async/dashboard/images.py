"""Small copies of the images of the latest answers, as they stand in the page itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pybase64

from vqa_async.dashboard.watcher import Numbered
from vqa_async.errors import VQAError
from vqa_async.export.pictures import image_file
from vqa_async.images import small_copy
from vqa_async.models import ImageRef

_SIDE, _MOST_BYTES = 256, 20_000


class LatestImages:
    """Makes each copy once, in a thread, and forgets those of answers that are no longer the latest."""

    def __init__(self) -> None:
        self._made: dict[int, str] = {}

    async def of(self, answers: Iterable[Numbered]) -> dict[int, str]:
        """``data:`` URIs by the number of the answer; "" for an image that cannot be shown."""
        wanted = {one.number: one.success.record for one in answers if one.success.record.images}
        known = self._made
        missing = [(number, record) for number, record in wanted.items() if number not in known]
        made = await asyncio.to_thread(
            lambda: {number: _small(record.images[0], record.folder) for number, record in missing}
        )
        self._made = {number: uri for number, uri in {**known, **made}.items() if number in wanted}
        return self._made


def _small(ref: ImageRef, folder: str) -> str:
    try:
        data = small_copy(image_file(ref, folder), _SIDE, _MOST_BYTES).data
    except VQAError:  # a URL, which is not loaded; or a file that is gone by now
        return ""
    return f"data:image/jpeg;base64,{pybase64.b64encode_as_string(data)}"
