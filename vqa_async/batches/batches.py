"""One provider's batches, for whoever opened it: submit, look, fetch, cancel."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

from vqa_async.batches.desk import Desk
from vqa_async.batches.fetching import Fetched, PartState, fetch_ended, states
from vqa_async.batches.stored import log_of
from vqa_async.batches.submitting import Submitted, submit
from vqa_async.config import Budget, Config
from vqa_async.errors import ConfigError
from vqa_async.sources import InputFormat

_FIRST_LOOK_S = 2.0
"""The second look comes so soon, each later one after twice the time, up to ``batch_poll``."""


class Batches:
    """Hands records to a batch API and takes the answers out; made by ``api.open_batches``.

    Args:
        desk: options, client and provider.
        sleep: how to wait between two looks.
    """

    def __init__(self, desk: Desk, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._desk = desk
        self._sleep = sleep

    async def submit(
        self,
        input: str,
        output: str | os.PathLike[str],
        *,
        limit: int | None = None,
        format: InputFormat = "auto",
    ) -> Submitted:
        """Hand in every record of ``input`` that has no answer yet and waits in no batch.

        The same call again goes on where this one stopped, and hands nothing in twice.

        Raises:
            ConfigError, JournalError: as for ``Engine.run``.
            RequestError: the provider refuses a batch, or cannot be reached.
        """
        _require_possible(self._desk.config)
        return await submit(self._desk, input, output, limit=limit, format=format)

    async def states(self, output: str | os.PathLike[str]) -> list[PartState]:
        """How the batches of ``output`` stand, as the log and the provider say."""
        return await states(self._desk, log_of(output))

    async def fetch(
        self, output: str | os.PathLike[str], *, wait: bool = False, give_up: bool = False
    ) -> Fetched:
        """Put the answers of all batches that are over into the journal.

        Args:
            output: path of OUT.jsonl.
            wait: until all of them are over.
            give_up: count batches as over that the provider does not know any more.

        Raises:
            InputError: nothing was ever handed in.
            JournalError: as for ``Engine.run``.
            RequestError: the provider refuses to answer, or cannot be reached. Again goes on.
        """
        total = Fetched()
        pause_s = _FIRST_LOOK_S
        while True:
            now = await fetch_ended(self._desk, output, give_up=give_up)
            total = total.with_more(now)
            if not (wait and total.waiting):
                return total
            pause_s = _FIRST_LOOK_S if now.parts else pause_s
            await self._sleep(min(pause_s, self._desk.config.batches.batch_poll))
            pause_s *= 2

    async def cancel(self, output: str | os.PathLike[str]) -> int:
        """Let the batches of ``output`` end where they are; how many there were that had not ended."""
        count = 0
        for part in await self.states(output):
            if part.state is not None and not part.state.is_over:
                await self._desk.provider.cancel(part.state.id)
                count += 1
        return count


def _require_possible(config: Config) -> None:
    """Refuse what cannot be had from a batch."""
    if len(config.all_endpoints()) > 1:
        raise ConfigError("A batch is handed to one endpoint: give one --base-url.")
    if config.verification.verify or config.quality.accept:
        raise ConfigError(
            "--verify and --accept need the answers, which come later: use 'vqa-async verify' after "
            "'vqa-async batch fetch'."
        )
    if config.budget != Budget(
        price_input=config.budget.price_input, price_output=config.budget.price_output
    ):
        raise ConfigError("A batch cannot be stopped by a budget once it is handed in: use --limit.")
