"""The journal of one run: opened before the first request, closed after the last result."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from vqa_async.config import Config
from vqa_async.errors import ConfigError, JournalLocked
from vqa_async.journal import runfile
from vqa_async.journal.codec import encode_failure, encode_success
from vqa_async.journal.replay import (
    FAILED,
    SUCCEEDED,
    Replayed,
    drop_superseded,
    replay,
    sync_folder,
)
from vqa_async.journal.writer import AppendFile, Writer
from vqa_async.models import Result, Success

_SUCCESSES, _FAILURES = 0, 1


@dataclass(frozen=True, slots=True)
class JournalPaths:
    """Where the files of an output are."""

    successes: Path
    failures: Path
    run: Path
    lock: Path
    damaged: Path

    @classmethod
    def of(cls, output: str | os.PathLike[str]) -> JournalPaths:
        """The paths for ``OUT.jsonl``; links are followed, so that one output has one lock."""
        out = Path(output).resolve()
        stem = out.name.removesuffix(".jsonl")
        return cls(
            successes=out,
            failures=out.with_name(f"{stem}.failures.jsonl"),
            run=out.with_name(f"{stem}.run.json"),
            lock=out.with_name(f"{out.name}.lock"),
            damaged=out.with_name(f"{stem}.damaged.jsonl"),
        )


class Journal:
    """Keeps results, knows which records are finished. Use as ``async with``.

    Args:
        output: path of OUT.jsonl.
        config: all options; those that change answers are compared with those of earlier runs.
        source: the input's name, for the run file.

    Raises (on entering):
        ConfigError: the output's folder is missing or cannot be written.
        JournalLocked: another run holds the output.
        SettingsChanged: the output was made with other settings.
        JournalDamaged: a finished line is not as it was written.
    """

    def __init__(self, output: str | os.PathLike[str], config: Config, *, source: str) -> None:
        self.paths = JournalPaths.of(output)
        self._options = config.journal
        self._settings = config.answer_settings()
        self._output_key = config.columns.output_key
        self._source = source
        self._replayed = Replayed()
        self._run: dict[str, Any] = {}
        self._writer: Writer | None = None
        self._lock_held = contextlib.AsyncExitStack()
        self._writing = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Journal:
        async with contextlib.AsyncExitStack() as stack:
            files = await asyncio.to_thread(self._open, stack)
            writer = Writer(files, fsync=self._options.fsync, fsync_interval_s=self._options.fsync_interval)
            self._writer = await self._writing.enter_async_context(writer)
            self._lock_held = stack.pop_all()
        return self

    async def __aexit__(self, *exc: Any) -> None:
        async with self._lock_held:
            await self._writing.__aexit__(*exc)

    def _open(self, stack: contextlib.AsyncExitStack) -> tuple[AppendFile, AppendFile]:
        self._require_place()
        self._lock(stack)
        before = runfile.load(self.paths.run)
        if before is not None and self._has_answers() and not self._options.allow_changed_settings:
            runfile.require_same(before, self._settings, self.paths.run)
        self._replayed = replay(
            self.paths.successes,
            self.paths.failures,
            self.paths.damaged,
            repair=self._options.repair,
            known=before is not None,
        )
        self._run = runfile.begin(self._settings, self._source)
        runfile.store(self.paths.run, self._run)
        files = AppendFile(self.paths.successes), AppendFile(self.paths.failures)
        sync_folder(self.paths.successes.parent)
        return files

    def _has_answers(self) -> bool:
        """Whether there is anything that other settings could be mixed with."""
        return self.paths.successes.exists() and self.paths.successes.stat().st_size > 0

    def _require_place(self) -> None:
        out = self.paths.successes
        if not out.parent.is_dir():
            raise ConfigError(
                f"The output folder {out.parent} does not exist. Make it, or choose another -o."
            )
        if out.is_dir():
            raise ConfigError(f"The output {out} is a folder. Give a file name, such as {out / 'out.jsonl'}.")
        for path in (out, self.paths.failures):
            if path.exists() and not os.access(path, os.W_OK):
                raise ConfigError(
                    f"The output {path} cannot be written. Change its permissions or choose another -o."
                )
        if not os.access(out.parent, os.W_OK):
            raise ConfigError(f"The output folder {out.parent} cannot be written. Choose another -o.")

    def _lock(self, stack: contextlib.AsyncExitStack) -> None:
        lock = FileLock(self.paths.lock)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            holder = (runfile.load(self.paths.run) or {}).get("pid", "unknown")
            raise JournalLocked(
                f"Another run (process {holder}) is writing {self.paths.successes}. "
                "Wait for it, stop it, or choose another -o."
            ) from None
        stack.callback(lock.release)

    # --- while the run goes on --------------------------------------------------------------------------

    @property
    def finished_before(self) -> int:
        """Records that earlier runs answered."""
        return self._replayed.succeeded

    @property
    def notices(self) -> list[str]:
        """What was mended on opening, in sentences."""
        return self._replayed.notices

    def state(self, id: str) -> bytes | None:
        """SUCCEEDED or FAILED where the record needs no request, None where it does."""
        state = self._replayed.state.get(id)
        if state == FAILED and self._options.retry_failed:
            return None
        return state if state in (SUCCEEDED, FAILED) else None

    async def append(self, result: Result) -> None:
        """Keep ``result``; returns when it is in the file.

        Raises:
            DiskError: the disk is full or failing.
        """
        assert self._writer is not None
        if isinstance(result, Success):
            await self._writer.append(_SUCCESSES, encode_success(result, self._output_key))
        else:
            await self._writer.append(_FAILURES, encode_failure(result))
        if self._replayed.state.get(result.id) is not None:
            self._replayed.superseded += 1
            if isinstance(result, Success):
                self._replayed.state.set(result.id, SUCCEEDED)

    async def close(self, state: str, reason: str, counts: dict[str, Any]) -> None:
        """Finish writing, drop failure lines that later ones made void, note how the run ended.

        Raises:
            DiskError: the last lines could not be written.
        """
        await self._writing.aclose()
        await asyncio.to_thread(self._close, state, reason, counts)

    def _close(self, state: str, reason: str, counts: dict[str, Any]) -> None:
        if self._replayed.superseded and self.paths.failures.exists():
            drop_superseded(self.paths.failures, self._replayed.state)
        if self.paths.failures.exists() and self.paths.failures.stat().st_size == 0:
            self.paths.failures.unlink()
        self._run |= {"state": state, "reason": reason, "counts": counts, "ended_at": round(time.time(), 3)}
        runfile.store(self.paths.run, self._run)
