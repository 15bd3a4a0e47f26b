"""A real browser for tests: headless Chromium, driven over its DevTools socket. One tab is enough here."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--mute-audio",
    "--hide-scrollbars", "--force-color-profile=srgb", "--remote-debugging-port=0",
)  # fmt: skip
_PATIENCE_S = 20.0
_CODES = {"Tab": 9, "Enter": 13, "Escape": 27, "End": 35, "Home": 36, "ArrowDown": 40}


class PageError(Exception):
    """A script in the page raised, or what was waited for did not come."""


class Tab:
    """One page.

    Attributes:
        events: every event that the browser told of it, in order.
        downloads: where what it saves goes.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._session = ""
        self.events: list[dict[str, Any]] = []
        self.downloads = Path()

    async def listen(self) -> None:
        """Take what the browser says, until it closes."""
        async for message in self._socket:
            said = json.loads(message.data)
            future = self._waiting.pop(said.get("id", 0), None)
            if future is None:
                self.events.append(said)
            elif "error" in said:
                future.set_exception(PageError(said["error"]["message"]))
            else:
                future.set_result(said["result"])

    async def send(self, method: str, **params: Any) -> Any:
        """One DevTools command; its result."""
        number = next(self._numbers)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        session = {"sessionId": self._session} if self._session else {}
        await self._socket.send_json({"id": number, "method": method, "params": params, **session})
        return await asyncio.wait_for(future, _PATIENCE_S)

    async def open(self, downloads: Path) -> None:
        """Make the tab and listen to all that it does."""
        target = (await self.send("Target.createTarget", url="about:blank"))["targetId"]
        found = await self.send("Target.attachToTarget", targetId=target, flatten=True)
        await self.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
        self._session = found["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            await self.send(f"{domain}.enable")

    async def go(self, url: str, until: str = "document.documentElement.dataset.ready === 'yes'") -> None:
        """Load a page and wait until an expression in it is true."""
        self.events.clear()
        answer = await self.send("Page.navigate", url=url)
        assert not answer.get("errorText"), answer
        await self.wait(f"location.href === {json.dumps(url)} && {until}")

    async def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise is awaited."""
        answer = await self.send(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise PageError(details.get("exception", {}).get("description") or details["text"])
        return answer["result"].get("value")

    async def wait(self, condition: str) -> None:
        """Wait until an expression is true; asked by the page itself, frame by frame."""
        script = (
            "new Promise((done) => { const look = () => { let is = false; try { is = Boolean("
            f"{condition}); }} catch {{}} is ? done(true) : setTimeout(look, 8); }}; look(); }})"
        )
        for _ in range(50):  # a page that is just being left takes its promises with it
            with contextlib.suppress(PageError):
                await self.run(script)
                return
        raise PageError(f"never true: {condition}")

    async def press(self, keys: str) -> None:
        """Press keys one after the other; names such as Enter stand in <>."""
        while keys:
            key, keys = (keys[1:].split(">", 1)) if keys[0] == "<" and ">" in keys else (keys[0], keys[1:])
            said: dict[str, Any] = {"text": key} if len(key) == 1 else {"windowsVirtualKeyCode": _CODES[key]}
            said |= {"text": "\r"} if key == "Enter" else {}
            await self.send("Input.dispatchKeyEvent", type="keyDown", key=key, **said)
            await self.send("Input.dispatchKeyEvent", type="keyUp", key=key)

    async def size(self, width: int, height: int, *, scale: float = 1, dark: bool = False) -> None:
        """The size of the window, and what the system's colours are said to be."""
        await self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=scale, mobile=False,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.send("Emulation.setEmulatedMedia", features=[scheme])

    async def picture(self, path: Path) -> None:
        """What is seen of the page, as a PNG file."""
        await self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        shot = await self.send("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(shot["data"]))

    def requests(self) -> list[str]:
        """The addresses that the page asked for, its own first; what is data asks nobody."""
        asked = [
            e["params"]["request"]["url"]
            for e in self.events
            if e.get("method") == "Network.requestWillBeSent"
        ]
        return [url for url in asked if not url.startswith(("data:", "blob:"))]

    def complaints(self) -> list[str]:
        """What the page wrote to its console, was refused, or raised."""
        found = []
        for event in self.events:
            params = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(json.dumps(params["exceptionDetails"])[:400])
            elif event.get("method") == "Log.entryAdded":
                found.append(params["entry"]["text"])
            elif event.get("method") == "Runtime.consoleAPICalled":
                found.append(f"console.{params['type']}")
        return found


@contextlib.asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Tab]:
    """A browser with one tab; ``folder`` takes its profile and, in ``downloads``, what it saves."""
    assert CHROMIUM is not None
    downloads = folder / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        CHROMIUM, *_FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(_PATIENCE_S):
            address = await _address(process)
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(address, max_msg_size=0) as socket,
        ):
            tab = Tab(socket)
            listening = asyncio.create_task(tab.listen())
            try:
                await tab.open(downloads)
                yield tab
                with contextlib.suppress(PageError, TimeoutError, ConnectionError):
                    tab._session = ""
                    await tab.send("Browser.close")
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.communicate()


async def _address(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    async for line in process.stderr:
        if line.startswith(b"DevTools listening on "):
            return line.split()[-1].decode()
    raise PageError("the browser ended before it was ready")
