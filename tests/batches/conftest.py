"""An endpoint with a batch API, and an input, for the tests of batches."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from handing_in import question, write_rows

from vqa_async.batches import provider
from vqa_async.server import RunningServer, running_server


@pytest.fixture(autouse=True)
def nothing_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was cut off at our end is over at the other at once: both are on this machine."""
    monkeypatch.setattr(provider, "_SETTLES_S", 0.0)


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    """An endpoint that answers every batch at once."""
    async with running_server() as running:
        yield running


@pytest.fixture
def source(tmp_path: Path) -> str:
    """An input of 30 records without images."""
    return write_rows(tmp_path, [question(n) for n in range(30)])
