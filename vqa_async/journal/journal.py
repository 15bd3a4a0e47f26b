"""The journal of one run: opened before the first request, closed after the last result."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from vqa_async.config import Config
from vqa_async.errors import DiskError
from vqa_async.journal import runfile
from vqa_async.journal.batch_log import BatchLog
from vqa_async.journal.codec import encode_failure, encode_success
from vqa_async.journal.kinds import Kinds
from vqa_async.journal.lock import claim, claimed, locked
from vqa_async.journal.mending import drop_superseded
from vqa_async.journal.paths import JournalPaths
from vqa_async.journal.replacing import sync_folder
from vqa_async.journal.replay import FAILED, SUCCEEDED, Replayed, replay
from vqa_async.journal.writer import AppendFile, Writer, disk_error, see_through
from vqa_async.keytable import RecordTable
from vqa_async.models import Result, Success
from vqa_async.prompts import wording

_SUCCESSES, _FAILURES = 0, 1


class Journal:
    """Keeps results, knows which records are finished. Use as ``async with``.

    Args:
        output: path of OUT.jsonl.
        config: all options; those that change answers are compared with those of earlier runs.
        source: the input's name, for the run file.
        is_of_batches: whether who opens it takes care of the records that wait in batches.

    Raises (on entering):
        ConfigError: the output's folder is missing or cannot be written.
        JournalLocked: another run holds the output.
        BatchesPending: records of the output wait in batches.
        SettingsChanged: the output was made with other settings.
        JournalDamaged: a finished line is not as it was written.
        DiskError: the disk is full or failing.
    """

    def __init__(
        self,
        output: str | os.PathLike[str],
        config: Config,
        *,
        source: str,
        limit: int | None = None,
        format: str = "auto",
        is_of_batches: bool = False,
    ) -> None:
        self._may_wait = is_of_batches or config.journal.despite_batches
        self.paths = JournalPaths.of(output)
        self._options = config.journal
        self._settings = config.answer_settings() | wording(config)
        again = config.journal.retry_failed
        self._kinds = () if isinstance(again, bool) else again
        self._output_key = config.columns.output_key
        where = source if source == "-" or "://" in source else os.path.abspath(source)
        self._source: dict[str, Any] = {"input": where, "limit": limit, "format": format}
        if config.selection:
            self._source["selection"] = asdict(config.selection)
        self.known = RecordTable()
        self._replayed = Replayed(self.known)
        self._run: dict[str, Any] = {}
        self._writer: Writer | None = None
        self._abandoned = threading.Event()
        self._held = contextlib.AsyncExitStack()
        self._writing = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Journal:
        async with contextlib.AsyncExitStack() as stack:
            files = await self._in_thread(lambda: self._open(stack))
            writer = Writer(files, fsync=self._options.fsync, fsync_interval_s=self._options.fsync_interval)
            self._writer = await self._writing.enter_async_context(writer)
            self._held = stack.pop_all()
        return self

    async def __aexit__(self, *exc: Any) -> None:
        async with self._held:
            await self._writing.__aexit__(*exc)

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        """``work()`` in a thread that has ended when this does: nobody else gets the files before."""
        task = asyncio.ensure_future(asyncio.to_thread(work))
        return await see_through(task, on_cancel=self._abandoned.set)

    def _open(self, stack: contextlib.AsyncExitStack) -> tuple[AppendFile, ...]:
        with self.paths.usable():
            warning = stack.enter_context(locked(self.paths.lock, self.paths.successes))
            if not self._may_wait:
                BatchLog(self.paths.batches).require_none_pending(self.paths.successes)
            with claimed(self.paths.successes):
                before = self._load_run()
                self._replayed = self._replay(is_known=before is not None)
            self._replayed.notices += [warning] if warning else []
            self._run = runfile.begin(self._settings, self._source)
            runfile.store(self.paths.run, self._run)
            return self._open_files(stack)

    def _load_run(self) -> dict[str, Any] | None:
        before = runfile.load(self.paths.run)
        if before is not None:
            runfile.require_whole(before, self.paths.run)
        if before is not None and self._has_answers() and not self._options.allow_changed_settings:
            unset = Config()
            defaults = unset.answer_settings() | wording(unset)
            runfile.require_same(before, self._settings, self.paths.run, defaults=defaults)
        return before

    def _replay(self, *, is_known: bool) -> Replayed:
        return replay(
            self.paths.successes,
            self.paths.failures,
            self.paths.damaged,
            repair=self._options.repair,
            known=is_known,
            abandoned=self._abandoned.is_set,
            into=self.known,
            kinds=Kinds(self._kinds) if self._kinds else None,
        )

    def _open_files(self, stack: contextlib.AsyncExitStack) -> tuple[AppendFile, ...]:
        files = []
        for path in (self.paths.successes, self.paths.failures):
            files.append(AppendFile(path))
            stack.callback(files[-1].close)
        claim(files[_SUCCESSES].fd, self.paths.successes)
        sync_folder(self.paths.successes.parent)
        return tuple(files)

    def _has_answers(self) -> bool:
        """Whether there is anything that other settings could be mixed with."""
        return self.paths.successes.exists() and self.paths.successes.stat().st_size > 0

    # --- while the run goes on --------------------------------------------------------------------------

    @property
    def finished_before(self) -> int:
        """Records that earlier runs answered."""
        return self._replayed.succeeded

    @property
    def notices(self) -> list[str]:
        """What was mended on opening, in sentences."""
        return self._replayed.notices

    def is_finished(self, state: bytes) -> bool:
        """Whether a record that was left in ``state`` needs no request."""
        return state == SUCCEEDED or (state == FAILED and self._options.retry_failed is not True)

    def append(self, result: Result) -> Awaitable[None]:
        """Keep ``result``; awaited, returns when it is in the file.

        Raises:
            DiskError: the disk is full or failing.
        """
        assert self._writer is not None
        succeeded = isinstance(result, Success)
        # Noted before it is written: who is cancelled while waiting will not come back to do it.
        if len(self.known) and self.known.get(result.id) is not None:
            self._replayed.superseded += 1
            if succeeded:
                self.known.set(result.id, SUCCEEDED)
        if isinstance(result, Success):
            return self._writer.append(_SUCCESSES, encode_success(result, self._output_key))
        return self._writer.append(_FAILURES, encode_failure(result))

    async def close(self, state: str, reason: str, counts: dict[str, Any]) -> None:
        """Finish writing, drop failure lines that later ones made void, note how the run ended.

        Raises:
            DiskError: the last lines could not be written.
        """
        self._run |= {"state": state, "reason": reason, "counts": counts, "ended_at": round(time.time(), 3)}
        try:
            await self._writing.aclose()
        except DiskError:
            with contextlib.suppress(DiskError):  # perhaps there is room for the note at least
                await self._in_thread(self._note)
            raise
        await self._in_thread(self._compact)
        await self._in_thread(self._note)

    def _compact(self) -> None:
        path = self.paths.failures
        try:
            if self._replayed.superseded and path.exists():
                drop_superseded(path, self._replayed.has_answer)
            if path.exists() and path.stat().st_size == 0:
                path.unlink()
        except OSError as error:
            raise disk_error(path, error) from None

    def _note(self) -> None:
        try:
            runfile.store(self.paths.run, self._run)
        except OSError as error:
            raise disk_error(self.paths.run, error) from None
