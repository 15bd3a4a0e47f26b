"""One browser for the tests that need one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from chromium import CHROMIUM, Tab, browser


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Tab]:
    """A tab of headless Chromium."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    folder = tmp_path_factory.mktemp("chromium")
    async with browser(folder) as opened:
        opened.downloads = folder / "downloads"
        await opened.size(1400, 900)
        yield opened
