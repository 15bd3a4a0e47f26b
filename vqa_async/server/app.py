"""The routes, and the way of a chat request through the rooms of the server.

A request is read, let in (key), meets its ordered fault, is understood, passes the rate limits, takes a
seat, has its images looked at, waits as long as its answer is to take, and is answered. Every refusal on
the way leaves as one kind of exception and becomes a reply here. No room below knows of HTTP routes.
"""

from __future__ import annotations

import asyncio
import hmac
from dataclasses import asdict
from types import TracebackType
from typing import Any

import orjson
from aiohttp import web

from vqa_async.errors import ImageError
from vqa_async.server.answers import measured_pairs, plain_text, render, undecoded_pairs
from vqa_async.server.batch_routes import BatchRoutes
from vqa_async.server.batches import CHAT_PATH
from vqa_async.server.completion import Written, completion_body, count_prompt, estimate_prompt, write
from vqa_async.server.faults import WRONG_JSON, Fault, Faults
from vqa_async.server.gallery import Gallery
from vqa_async.server.looks import Look
from vqa_async.server.options import ServerOptions
from vqa_async.server.pace import Pace
from vqa_async.server.question import Picture, Question, read_question
from vqa_async.server.rates import Rates
from vqa_async.server.refusals import Refusal, ordered_error
from vqa_async.server.replies import HANG_UP, Manner, Reply, deliver, refused
from vqa_async.server.seats import Seats
from vqa_async.server.statistics import ServerStatistics, Statistics, Visit

_MEASURES = {"x-vqa-async": "measures pixels, is not a model"}
_READS = {"x-vqa-async": "measures pixels and reads text, is not a vision model"}
_OWNER = "vqa-async (not a model)"


class PixelEndpoint:
    """One endpoint with its limits, faults and counters. It owns threads: use as an async context manager."""

    def __init__(self, options: ServerOptions) -> None:
        self._options = options
        self._statistics = Statistics()
        self._gallery = Gallery()
        self._honest = _READS if options.ocr else _MEASURES
        self._faults = Faults(options)
        self._pace = Pace(options)
        self._rates = Rates(options)
        self._seats = Seats(options)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._batches = BatchRoutes(options, self._check_key, self._answer_line)

    async def __aenter__(self) -> PixelEndpoint:
        if self._options.ocr:
            from vqa_async.server.reader import load_reader

            reader = await asyncio.to_thread(load_reader)
            self._gallery.close()
            self._gallery = Gallery(read=reader.read)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._batches.close()
        self._gallery.close()

    def application(self) -> web.Application:
        """The routes as an application for aiohttp."""
        app = web.Application(client_max_size=self._options.max_body_bytes)
        app.on_shutdown.append(self._drop_requests)  # after the listener is closed, so that none follows
        app.router.add_post(CHAT_PATH, self._chat)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/health", self._health)
        app.router.add_get("/stats", self._stats)
        app.router.add_post("/stats/reset", self._reset)
        self._batches.add_to(app)
        app.router.add_route("*", "/{path:.*}", self._unknown)
        return app

    def statistics(self) -> ServerStatistics:
        """The counters as they are now."""
        return self._statistics.snapshot(self._gallery.distinct)

    async def _drop_requests(self, app: web.Application) -> None:
        """End all requests in flight, unanswered, and wait until they have ended."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with self._statistics.visit() as visit:
                return await self._serve(request, self._faults.draw(), visit)
        finally:
            self._tasks.discard(task)

    async def _serve(self, request: web.Request, fault: Fault, visit: Visit) -> web.StreamResponse:
        try:
            question = await self._receive(request, fault)
            if question is None:
                return await self._deliver(request, HANG_UP, visit)
            async with self._seats.take() as at_work:
                reply = await self._answer(question, fault, at_work)
                return await self._deliver(request, reply, visit)
        except Refusal as refusal:
            return await self._deliver(request, refused(refusal), visit)

    async def _deliver(self, request: web.Request, reply: Reply, visit: Visit) -> web.StreamResponse:
        headers = {**self._honest, **self._rates.headers()}
        try:
            return await deliver(request, reply, headers, self._options.drip, visit)
        except ConnectionError:
            return web.Response()  # the client has gone; aiohttp finds that out again by itself, quietly

    async def _receive(self, request: web.Request, fault: Fault) -> Question | None:
        # The body is read before anything is refused, so that a client still sending hears why.
        body = await self._read(request)
        self._check_key(request)
        if fault.kind == "disconnect":
            return None
        if fault.kind == "status":
            raise ordered_error(fault.status, self._options.retry_after)
        question = read_question(body, self._options)
        self._rates.admit(estimate_prompt(question))
        return question

    async def _read(self, request: web.Request) -> bytes:
        try:
            return await request.read()
        except web.HTTPRequestEntityTooLarge:
            said = f"The request body is larger than {self._options.max_body_bytes} bytes."
            raise Refusal(413, said, code="request_too_large") from None
        except web.RequestPayloadError:
            said = "The request body cannot be read: its chunks or its compression are damaged."
            raise Refusal(400, said, headers={"Connection": "close"}) from None

    def _check_key(self, request: web.Request) -> None:
        if not self._options.api_key:
            return
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        sent = given.strip().encode("utf-8", "surrogateescape")
        known = [hmac.compare_digest(sent, key.encode()) for key in self._options.api_key]
        if scheme.lower() != "bearer" or not any(known):
            said = (
                "Incorrect API key provided." if given else "No API key provided: send it as a Bearer token."
            )
            raise Refusal(401, said, code="invalid_api_key")

    async def _answer(self, question: Question, fault: Fault, at_work: int) -> Reply:
        clock = asyncio.get_running_loop().time
        start = clock()
        written = await self._write(question)
        usage = written.usage
        self._rates.settle(usage.prompt_tokens + usage.completion_tokens - estimate_prompt(question))
        # Looking took its time already; the answer is due when all of its time is over.
        rest = self._pace.duration(usage.completion_tokens, at_work) - (clock() - start)
        if rest > 0:
            await asyncio.sleep(rest)
        return self._reply(completion_body(written, question.model), fault)

    async def _answer_line(self, body: bytes) -> tuple[int, bytes]:
        """Status and body for a request of a batch, which has its own pace and passes no rate limit."""
        fault = self._faults.draw()
        try:
            if fault.kind == "status":
                raise ordered_error(fault.status, 0.0)
            question = read_question(body, self._options)
            return 200, completion_body(await self._write(question), question.model)
        except Refusal as refusal:
            return refusal.status, refusal.body()

    async def _write(self, question: Question) -> Written:
        if self._options.decode:
            looks = [await self._look(picture, at) for at, picture in enumerate(question.pictures, 1)]
            pairs = measured_pairs(question, looks, reads=self._options.ocr)
        else:
            looks = [None] * len(question.pictures)
            pairs = undecoded_pairs()
        wanted = question.wanted
        is_wrong = wanted.as_json and not wanted.is_repeat and self._faults.draw_wrong_json()
        text = WRONG_JSON if is_wrong else plain_text(question, looks) or render(pairs, wanted)
        return write(text, question.max_tokens, count_prompt(question, looks))

    async def _look(self, picture: Picture, number: int) -> Look | None:
        if not picture.inline:
            return None
        try:
            return await self._gallery.look(picture.url)
        except ImageError as error:
            said = f"Image {number} ({picture.place}) {error.message}."
            raise Refusal(400, said, param=picture.place, code=error.code) from None

    def _reply(self, body: bytes, fault: Fault) -> Reply:
        if fault.kind == "malformed":
            content_type, broken = self._faults.break_body(body)
            return Reply(broken, content_type=content_type)
        manner: Manner = "cut" if fault.kind == "cut" else "drip" if fault.drips else "whole"
        return Reply(body, manner=manner, is_answer=True)

    async def _models(self, request: web.Request) -> web.Response:
        try:
            self._check_key(request)
        except Refusal as refusal:
            return self._json(refusal.body(), refusal.status)
        models = [
            {"id": name, "object": "model", "created": 0, "owned_by": _OWNER} for name in self._options.model
        ]
        return self._json(orjson.dumps({"object": "list", "data": models}))

    async def _health(self, request: web.Request) -> web.Response:
        return self._json(b'{"status":"ok"}')

    async def _stats(self, request: web.Request) -> web.Response:
        return self._json(orjson.dumps(asdict(self.statistics()), option=orjson.OPT_NON_STR_KEYS))

    async def _reset(self, request: web.Request) -> web.Response:
        self._statistics.reset()
        self._gallery.forget_count()
        return await self._stats(request)

    async def _unknown(self, request: web.Request) -> web.Response:
        where = f"{request.method} {request.path[:200]}"
        refusal = Refusal(
            404, f"There is nothing at {where}; chat is at POST {CHAT_PATH}.", code="unknown_url"
        )
        if request.path == CHAT_PATH:
            refusal = Refusal(405, f"{where} is not allowed: use POST.", code="method_not_supported")
        return self._json(refusal.body(), refusal.status)

    def _json(self, body: bytes, status: int = 200) -> web.Response:
        return web.Response(body=body, status=status, headers=self._honest, content_type="application/json")
