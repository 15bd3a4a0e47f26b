"""Any sequence of runs, kills, torn ends and repairs: the files always say what really happened."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from journal_results import PERMANENT, RETRYABLE, failure, finished, ids, journal, objects, success

from vqa_async.journal import Journal
from vqa_async.journal.replay import FAILED, SUCCEEDED

RECORDS = st.integers(0, 7)


class Runs(RuleBasedStateMachine):
    """Runs over eight records. ``newest`` is what was last acknowledged of each."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="vqa-machine-"))
        self.out = self.folder / "out.jsonl"
        self.loop = asyncio.new_event_loop()
        self.opened: Journal | None = None
        self.newest: dict[int, str] = {}
        self.done: set[int] = set()  # in this run: no run asks twice about one record
        self.retry_failed = False

    @initialize()
    def begin(self) -> None:
        self.start(False)

    @precondition(lambda self: self.opened is None)
    @rule(retry_failed=st.booleans())
    def start(self, retry_failed: bool) -> None:
        self.retry_failed = retry_failed
        self.opened = journal(self.out, retry_failed=retry_failed)
        self.loop.run_until_complete(self.opened.__aenter__())
        self.done = set()
        assert self.opened.finished_before == Counter(self.newest.values())["success"]
        for n in range(8):
            assert finished(self.opened, f"r{n}") == self.expected(n)

    def expected(self, n: int) -> bytes | None:
        """Whether, and why, a run leaves a record alone."""
        match self.newest.get(n):
            case "success":
                return SUCCEEDED
            case "permanent" if not self.retry_failed:
                return FAILED
        return None

    @precondition(lambda self: self.opened is not None)
    @rule(n=RECORDS, how=st.sampled_from(["success", "permanent", "retryable"]))
    def finish_record(self, n: int, how: str) -> None:
        assert self.opened is not None
        if n in self.done or self.expected(n) is not None:
            return
        error = PERMANENT if how == "permanent" else RETRYABLE
        result = success(n, text=how) if how == "success" else failure(n, error)
        self.loop.run_until_complete(self.opened.append(result))
        self.done.add(n)
        self.newest[n] = how

    @precondition(lambda self: self.opened is not None)
    @rule()
    def close(self) -> None:
        assert self.opened is not None
        self.loop.run_until_complete(self.opened.close("finished", "", {}))
        self.leave()
        failed = sorted(f"r{n}" for n, how in self.newest.items() if how != "success")
        assert sorted(ids(self.opened_before.paths.failures)) == failed
        for line in objects(self.opened_before.paths.failures):
            how = self.newest[int(line["_meta"]["id"][1:])]
            assert line["error"]["retryable"] == (how == "retryable")

    @precondition(lambda self: self.opened is not None)
    @rule()
    def die(self) -> None:
        self.leave()

    def leave(self) -> None:
        assert self.opened is not None
        self.loop.run_until_complete(self.opened.__aexit__(None, None, None))
        self.opened_before, self.opened = self.opened, None

    @precondition(lambda self: self.opened is None)
    @rule(n=RECORDS, cut=st.integers(1, 150), failed=st.booleans())
    def tear(self, n: int, cut: int, failed: bool) -> None:
        """A kill in the middle of a write that nobody was told about."""
        path = self.opened_before.paths.failures if failed else self.out
        with path.open("ab") as file:
            file.write(b'{"image":["%d.png"],"vqa":"- Q: What' % n + b"?" * cut)

    @precondition(lambda self: self.opened is None and "success" in self.newest.values())
    @rule(data=st.data())
    def damage(self, data: st.DataObject) -> None:
        """A line is spoilt, and mended at the price of its record."""
        lines = self.out.read_bytes().splitlines(keepends=True)
        whole = [n for n, line in enumerate(lines) if line.endswith(b"\n")]
        at = data.draw(st.sampled_from(whole))
        n = objects_of(lines[at])
        lines[at] = lines[at].replace(b"qwen", b"gpt4")
        self.out.write_bytes(b"".join(lines))
        mending = journal(self.out, repair=True)
        self.loop.run_until_complete(mending.__aenter__())
        self.loop.run_until_complete(mending.__aexit__(None, None, None))
        kept = [line for i, line in enumerate(lines) if i != at and line.endswith(b"\n")]
        assert self.out.read_bytes() == b"".join(kept)
        # A failure of it that was void before is its newest result again.
        left = [line for line in objects(mending.paths.failures) if line["_meta"]["id"] == f"r{n}"]
        del self.newest[n]
        if left:
            self.newest[n] = "retryable" if left[-1]["error"]["retryable"] else "permanent"

    @invariant()
    def every_answer_is_there_once(self) -> None:
        answered = sorted(f"r{n}" for n, how in self.newest.items() if how == "success")
        assert sorted(ids(self.out)) == answered

    def teardown(self) -> None:
        if self.opened is not None:
            self.leave()
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        shutil.rmtree(self.folder)


def objects_of(line: bytes) -> int:
    """The number of the record that a line of ours answers."""
    return int(line.rpartition(b'"_meta":{"id":"r')[2].split(b'"')[0])


Runs.TestCase.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
TestRuns = pytest.mark.slow(Runs.TestCase)
