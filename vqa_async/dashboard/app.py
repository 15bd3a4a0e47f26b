"""The routes of the live page: the page, its state as JSON. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web

from vqa_async.dashboard.doorman import HEADERS, Doorman
from vqa_async.report.page import live_page

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class LivePage:
    """What is answered to whom.

    Args:
        doorman: lets in.
        parts: the state of the run, for JSON.
        asked: called whenever somebody has looked.
    """

    def __init__(
        self,
        doorman: Doorman,
        parts: Callable[[], Awaitable[dict[str, Any]]],
        asked: Callable[[], None],
    ) -> None:
        self._doorman = doorman
        self._parts = parts
        self._asked = asked

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
        return app

    def _guarded(self, handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            if not self._doorman.knows(request.match_info["token"]):
                raise web.HTTPNotFound
            return await handler(request)

        return guarded

    async def _page(self, _: web.Request) -> web.StreamResponse:
        return web.Response(text=live_page(title="A run", **await self._parts()), content_type="text/html")

    async def _state(self, _: web.Request) -> web.StreamResponse:
        self._asked()
        return web.Response(body=orjson.dumps(await self._parts()), content_type="application/json")
