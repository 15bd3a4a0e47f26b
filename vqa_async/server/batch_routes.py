"""The routes of files and batches: requests -> the rooms that keep them -> OpenAI's shapes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson
from aiohttp import web

from vqa_async.server.batches import Answer, Batch, BatchRoom
from vqa_async.server.files import FileStore, StoredFile
from vqa_async.server.options import ServerOptions
from vqa_async.server.refusals import Refusal

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class BatchRoutes:
    """The part of the endpoint for batches.

    Args:
        options: how it behaves.
        check_key: raises a Refusal for a request without a key that is known.
        answer: answers the body of one request.
    """

    def __init__(
        self, options: ServerOptions, check_key: Callable[[web.Request], None], answer: Answer
    ) -> None:
        self._check_key = check_key
        self._files = FileStore(options)
        self._room = BatchRoom(options, self._files, answer)

    async def close(self) -> None:
        """End all work and remove all files."""
        await self._room.close()
        self._files.close()

    def add_to(self, app: web.Application) -> None:
        """Put the routes into ``app``."""
        router, door = app.router, self._door
        router.add_post("/v1/files", door(self._upload))
        router.add_get("/v1/files", door(self._list_files))
        router.add_get("/v1/files/{id}", door(self._file))
        router.add_get("/v1/files/{id}/content", door(self._content))
        router.add_delete("/v1/files/{id}", door(self._delete))
        router.add_post("/v1/batches", door(self._create))
        router.add_get("/v1/batches", door(self._list_batches))
        router.add_get("/v1/batches/{id}", door(self._batch))
        router.add_post("/v1/batches/{id}/cancel", door(self._cancel))

    def _door(self, handler: _Handler) -> _Handler:
        """``handler`` for those who have a key; refusals become replies."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            try:
                self._check_key(request)
                return await handler(request)
            except Refusal as refusal:
                reply = web.Response(body=refusal.body(), status=refusal.status, headers=refusal.headers)
                reply.content_type = "application/json"
                reply.force_close()  # what is left of an upload is not worth reading
                return reply

        return guarded

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        return _json((await self._files.receive(request)).form())

    async def _list_files(self, request: web.Request) -> web.StreamResponse:
        return _page(request, self._files.newest_first(request.query.get("purpose", "")))

    async def _file(self, request: web.Request) -> web.StreamResponse:
        return _json(self._files.get(request.match_info["id"]).form())

    async def _content(self, request: web.Request) -> web.StreamResponse:
        stored = self._files.get(request.match_info["id"])
        return web.FileResponse(stored.path, headers={"Content-Type": "application/octet-stream"})

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        return _json(self._files.delete(request.match_info["id"]))

    async def _create(self, request: web.Request) -> web.StreamResponse:
        key = request.headers.get("Idempotency-Key", "")
        return _json(self._room.create(await request.read(), key).form())

    async def _list_batches(self, request: web.Request) -> web.StreamResponse:
        return _page(request, self._room.newest_first())

    async def _batch(self, request: web.Request) -> web.StreamResponse:
        return _json(self._room.get(request.match_info["id"]).form())

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        return _json(self._room.cancel(request.match_info["id"]).form())


def _page(request: web.Request, items: Sequence[StoredFile | Batch]) -> web.Response:
    """The part of a list that ``limit`` and ``after`` ask for."""
    limit = request.query.get("limit", "20")
    if not limit.isdecimal() or not 1 <= int(limit) <= 10_000:
        raise Refusal(400, "'limit' must be from 1 to 10000.", param="limit")
    start = 0
    if after := request.query.get("after", ""):
        start = next((at for at, item in enumerate(items, 1) if item.id == after), len(items))
    page = items[start : start + int(limit)]
    return _json(
        {
            "object": "list",
            "data": [item.form() for item in page],
            "first_id": page[0].id if page else None,
            "last_id": page[-1].id if page else None,
            "has_more": start + len(page) < len(items),
        }
    )


def _json(value: dict[str, Any]) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")
