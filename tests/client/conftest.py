"""What the tests of one request share beside wire.py."""

from __future__ import annotations

import inspect
from typing import Any
from unittest.mock import Mock

import aioresponses.core as core

if "stream_writer" in inspect.signature(core.ClientResponse).parameters:
    # aioresponses makes its replies as aiohttp did before replies knew of the stream they answer.
    class _Reply(core.ClientResponse):
        def __init__(self, *args: Any, **facts: Any) -> None:
            facts.setdefault("stream_writer", Mock(output_size=0))
            super().__init__(*args, **facts)

    core.ClientResponse = _Reply
