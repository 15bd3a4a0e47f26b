"""One endpoint for all tests of the command line."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from command_line import serving


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """Base URL of an endpoint that answers at once, with the same answer to everything."""
    with serving("--no-decode") as base_url:
        yield base_url
