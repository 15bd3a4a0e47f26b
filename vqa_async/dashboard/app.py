"""The routes of the live page: the page, its state as JSON, small images. Nothing here changes anything."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web

from vqa_async.dashboard.doorman import HEADERS, Doorman
from vqa_async.dashboard.watcher import Watcher
from vqa_async.errors import VQAError
from vqa_async.export.pictures import image_file
from vqa_async.images import small_copy
from vqa_async.models import ImageRef
from vqa_async.report.page import live_page

_SIDE, _MOST_BYTES = 320, 40_000
_MOST_KEPT = 32

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class LivePage:
    """What is answered to whom.

    Args:
        doorman: lets in.
        watcher: whose answers have images.
        parts: the state of the run, for JSON.
        asked: called whenever somebody has looked.
    """

    def __init__(
        self,
        doorman: Doorman,
        watcher: Watcher,
        parts: Callable[[], dict[str, Any]],
        asked: Callable[[], None],
    ) -> None:
        self._doorman = doorman
        self._watcher = watcher
        self._parts = parts
        self._asked = asked
        self._images: dict[int, bytes] = {}

    def application(self) -> web.Application:
        """The routes as an application for aiohttp."""

        @web.middleware
        async def let_in(request: web.Request, handler: Handler) -> web.StreamResponse:
            if not self._doorman.is_us(request.headers.get("Host", "")):
                return web.Response(status=421, text="This address is not served here.\n", headers=HEADERS)
            try:
                response = await handler(request)
            except web.HTTPException as error:
                response = web.Response(status=error.status, text=f"{error.reason}.\n")
            response.headers.update(HEADERS)
            return response

        app = web.Application(middlewares=[let_in])
        app.router.add_get("/{token}/", self._guarded(self._page))
        app.router.add_get("/{token}/state.json", self._guarded(self._state))
        app.router.add_get(r"/{token}/image/{number:\d{1,15}}", self._guarded(self._image))
        return app

    def _guarded(self, handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            if not self._doorman.knows(request.match_info["token"]):
                raise web.HTTPNotFound
            return await handler(request)

        return guarded

    async def _page(self, _: web.Request) -> web.StreamResponse:
        return web.Response(text=live_page(title="A run", **self._parts()), content_type="text/html")

    async def _state(self, _: web.Request) -> web.StreamResponse:
        self._asked()
        return web.Response(body=orjson.dumps(self._parts()), content_type="application/json")

    async def _image(self, request: web.Request) -> web.StreamResponse:
        number = int(request.match_info["number"])
        if number not in self._images:
            found = next((one.success for one in self._watcher.answers if one.number == number), None)
            if found is None or not found.record.images:
                raise web.HTTPNotFound
            try:
                made = await asyncio.to_thread(_small, found.record.images[0], found.record.folder)
            except VQAError:
                raise web.HTTPNotFound from None
            while len(self._images) >= _MOST_KEPT:
                del self._images[next(iter(self._images))]
            self._images[number] = made
        return web.Response(body=self._images[number], content_type="image/jpeg")


def _small(ref: ImageRef, folder: str) -> bytes:
    return small_copy(image_file(ref, folder), _SIDE, _MOST_BYTES).data
