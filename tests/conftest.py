"""What all tests share: a canary key that must not turn up anywhere, and small images."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

CANARY = "sk-canary-0123456789abcdef"


@pytest.fixture(autouse=True)
def no_key_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on, or sends, a key or an address that the machine happens to have set."""
    for name in list(os.environ):
        if name.endswith("_API_KEY") or name.startswith(("VQA_", "OPENAI_")):
            monkeypatch.delenv(name)


@pytest.fixture
def red_image(tmp_path: Path) -> str:
    """The path of a small red PNG, 64 x 48 pixels."""
    path = tmp_path / "red.png"
    Image.new("RGB", (64, 48), (255, 0, 0)).save(path)
    return str(path)


@pytest.fixture
async def no_leaks() -> Callable[[], None]:
    """A check that the running loop has no task but the test's own, and the process no new descriptor."""
    before = len(os.listdir("/proc/self/fd"))  # with those of the loop, which exists by now

    def check() -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others
        assert len(os.listdir("/proc/self/fd")) <= before

    return check
