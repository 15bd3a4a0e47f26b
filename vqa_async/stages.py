"""A run and what follows it: generation, verification, review; and again, until enough are accepted.

Each stage is a journalled run of its own: OUT.jsonl, then OUT.checks.jsonl, with their own locks, settings
and resuming. So a kill between them, or within one, costs nothing that was paid for, and the same command
goes on where it was. The verifying engine is opened when it is needed, with the model and the address that
were named for it, else those of the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial

from vqa_async.config import Columns, Config, NamedEndpoint, Quality
from vqa_async.engine import Engine, RunSummary
from vqa_async.engine.goal import Goal
from vqa_async.errors import InputError
from vqa_async.events import Observer
from vqa_async.journal import Journal, JournalPaths
from vqa_async.journal.runfile import load
from vqa_async.quality import Review
from vqa_async.quality.verdicts import SYSTEM_PROMPTS
from vqa_async.review import checks_output, pairs_source, review, scored
from vqa_async.sources import InputFormat
from vqa_async.transport import Transport

Opener = Callable[..., AbstractAsyncContextManager[Engine]]
Watch = Callable[[Engine], AbstractAsyncContextManager[None]]


@contextlib.asynccontextmanager
async def _unwatched(_: Engine) -> AsyncIterator[None]:
    yield


def verifying_config(config: Config) -> Config:
    """``config`` for the verifying model: its address and name, its instructions, none of the run's own."""
    v = config.verification
    endpoint, endpoints = config.endpoint, config.endpoints
    if v.verify_base_url:
        endpoint, endpoints = replace(endpoint, base_url=v.verify_base_url, header=()), ()
    if v.verify_model or v.verify_api_key_env:
        endpoints = tuple(_renamed(one, v.verify_model, v.verify_api_key_env) for one in endpoints)
        endpoint = replace(
            endpoint,
            model=v.verify_model or endpoint.model,
            api_key_env=v.verify_api_key_env or endpoint.api_key_env,
        )
    sampling = replace(config.sampling, system_prompt=SYSTEM_PROMPTS[v.verify_mode], prompt="")
    return Config(  # what is not named here shapes the answers of the run, and has no place in checking them
        endpoint=endpoint,
        sampling=sampling,
        columns=Columns(output_key="reply"),
        images=config.images,
        limits=config.limits,
        budget=config.budget,
        timeouts=config.timeouts,
        retry=config.retry,
        journal=config.journal,
        endpoints=endpoints,
        quality=Quality(checks="none"),
        verification=v,
    )


def _renamed(one: NamedEndpoint, model: str, api_key_env: str) -> NamedEndpoint:
    return replace(one, model=model or one.model, api_key_env=api_key_env or one.api_key_env)


class Stages:
    """The stages of one output, one after the other; whoever got a signal tells the one that runs.

    Args:
        config: all options.
        opener: makes an engine, as ``open_engine`` does.
        observer: told about every event of every stage.
        watch: what goes on beside a stage, such as a display of it.
        api_key, transport: as for ``open_engine``; a key that is named for verifying is looked up for that.
    """

    def __init__(
        self,
        config: Config,
        opener: Opener,
        *,
        observer: Observer | Sequence[Observer] | None = None,
        watch: Watch = _unwatched,
        api_key: str | None = None,
        transport: Transport | None = None,
    ) -> None:
        self.config = config
        self._opener = opener
        self._observer, self._api_key, self._transport = observer, api_key, transport
        self._watch = watch
        self._engine: Engine | None = None
        self._has_run = False
        self._stopped = ""

    @property
    def is_running(self) -> bool:
        """Whether a stage has begun to send, or is over, so that there is something to be told at the end."""
        return self._has_run or (self._engine is not None and self._engine.is_running)

    def stop(self, reason: str) -> None:
        """Drain the stage that runs; none follows."""
        self._stopped = reason
        if self._engine is not None:
            self._engine.stop(reason)

    def abort(self) -> None:
        """End the stage that runs, now; none follows."""
        self._stopped = self._stopped or "aborted"
        if self._engine is not None:
            self._engine.abort()

    async def run(
        self,
        input: str,
        output: str,
        *,
        limit: int | None = None,
        format: InputFormat = "auto",
        preflight: bool = False,
    ) -> RunSummary:
        """Answer, verify and review, until the input is used up or enough is accepted; see ``Engine.run``.

        Returns:
            How the last generation ended, with its verification and the review.
        """
        accept = self.config.quality.accept
        accepted = await self._accepted(output) if accept else 0
        while True:
            goal = Goal(accept - accepted, accept) if accept else None
            summary = await self._generate(input, output, goal, limit, format, preflight)
            if summary.state == "finished" and self.config.verification.verify:
                summary = await self._verified(summary, output, preflight)
            found = await self._review(output)
            summary = replace(summary, review=found)
            is_through = goal is None or goal.left > 0 or found.accepted >= accept
            if is_through or not _went_well(summary) or self._stopped:
                return summary
            accepted, preflight = found.accepted, False

    async def _verified(self, summary: RunSummary, output: str, preflight: bool) -> RunSummary:
        if self._stopped:
            return replace(summary, state="interrupted", reason=self._stopped)
        return replace(summary, verification=await self.verify(output, preflight=preflight))

    async def _generate(
        self,
        input: str,
        output: str,
        goal: Goal | None,
        limit: int | None,
        format: InputFormat,
        preflight: bool,
    ) -> RunSummary:
        async with self._stage(self.config, self._api_key) as engine:
            return await engine.run(input, output, limit=limit, format=format, preflight=preflight, goal=goal)

    async def verify(self, output: str, *, preflight: bool = False) -> RunSummary:
        """Put each pair of ``output`` that bears no flag to the verifying model; what was, is not again.

        Raises:
            InputError: there is no such output.
        """
        paths, mode = JournalPaths.of(output), self.config.verification.verify_mode
        if not paths.successes.exists():
            raise InputError(f"There is no output {paths.successes}. Check the name.")
        config = verifying_config(self.config)
        journal = Journal(checks_output(paths.successes), config, source=os.fspath(paths.successes))
        source = pairs_source(
            paths.successes,
            load(paths.run) or {},
            mode=mode,
            known=journal.known,
            is_finished=journal.is_finished,
        )
        v = self.config.verification
        own = bool(v.verify_base_url or v.verify_api_key_env)
        async with self._stage(config, None if own else self._api_key) as engine:
            altered = partial(scored, mode=mode)
            return await engine.run_source(source, journal, preflight=preflight, altered=altered)

    @contextlib.asynccontextmanager
    async def _stage(self, config: Config, api_key: str | None) -> AsyncIterator[Engine]:
        opened = self._opener(config, api_key=api_key, transport=self._transport, observer=self._observer)
        async with opened as engine, self._watch(engine):
            self._engine = engine
            if self._stopped:  # while this engine was being opened; its run stands there once it first waits
                asyncio.get_running_loop().call_soon(engine.stop, self._stopped)
            try:
                yield engine
            finally:
                self._engine, self._has_run = None, True

    async def _accepted(self, output: str) -> int:
        return (await self._review(output)).accepted if JournalPaths.of(output).successes.exists() else 0

    async def _review(self, output: str) -> Review:
        return await asyncio.to_thread(review, output, self.config.quality, self.config.verification)


def _went_well(summary: RunSummary) -> bool:
    return summary.state == "finished" and (
        summary.verification is None or summary.verification.state == "finished"
    )


def has_stages(config: Config) -> bool:
    """Whether more is asked for than to answer every record."""
    return config.verification.verify or config.quality != Quality()
