"""One output on trial, for scripts/torture and scripts/soak: an input, an endpoint, runs, and what they left.

What is judged is read here anew, from the bytes, with nothing of the package: each record must stand in the
output once, with the row that it has in the input, in a line whose checksum is right.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from installed import require_packages

require_packages()

COMMAND = (sys.executable, "-m", "vqa_async")

_LONGEST_RUN_S = 180.0
_LOOK_S = 0.003
_CRC = b',"crc":"%08x"}}'


@contextlib.contextmanager
def endpoint(*flags: str) -> Iterator[str]:
    """The embedded endpoint as a process, with these flags of ``serve``; gives its base URL."""
    command = [*COMMAND, "serve", "--port", "0", "--no-decode", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            base_url = server.stdout.readline().strip()
            if not base_url:
                raise RuntimeError(f"The endpoint did not start: {' '.join(command)}")
            yield base_url
        finally:
            server.terminate()


@dataclass(slots=True)
class Verdict:
    """What came of one trial, or of several."""

    hits: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    repeated: int = 0
    damaged: int = 0
    requests: int = 0
    most: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.repeated or self.damaged or self.faults)

    def add(self, other: Verdict) -> None:
        """Count another trial in."""
        for name in ("hits", "lost", "repeated", "damaged", "requests", "most", "faults"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def __str__(self) -> str:
        return (
            f"lost {self.lost}, repeated {self.repeated}, damaged {self.damaged}, "
            f"requests {self.requests} of at most {self.most}"
        )


@dataclass(slots=True)
class Run:
    """`vqa-async run` as a process; its standard error is a file."""

    process: subprocess.Popen[bytes]
    stderr: Path

    def wait(self, timeout_s: float = _LONGEST_RUN_S) -> int:
        """Its exit code; 999 where it had to be killed because it did not end."""
        try:
            return self.process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return 999

    def said(self) -> str:
        """What it has written to standard error."""
        return self.stderr.read_text(errors="replace")


class Trial:
    """An input of text records and the runs from it into one output.

    Args:
        folder: where the files are made.
        base_url: the endpoint, which serves this trial only: its requests are counted.
        records: how many.
        workers: requests in flight at most.
        flags: more of ``vqa-async run``, for every run.
        output: the output, relative to the folder.
    """

    def __init__(
        self,
        folder: Path,
        base_url: str,
        *,
        records: int,
        workers: int = 20,
        flags: tuple[str, ...] = (),
        output: str = "out.jsonl",
    ) -> None:
        self.folder = folder
        self.base_url = base_url
        self.records = records
        self.workers = workers
        self.flags = flags
        self.output = folder / output
        self.on_wire = 0
        """Requests that were in flight when a run ended at once: what they cost may be lost."""
        self.faults: list[str] = []
        self._runs = 0
        self._kept = b""
        self._counted = self._counted_to = 0
        with (folder / "in.jsonl").open("w") as file:
            for number in range(records):
                file.write(json.dumps(row(number)) + "\n")

    @contextlib.contextmanager
    def run(
        self, *flags: str, output: str = "", before: str = "", environment: Mapping[str, str] | None = None
    ) -> Iterator[Run]:
        """`vqa-async run` over the input; killed at the end of the block if it goes on so long.

        Args:
            flags: more flags, for this run.
            output: another name of the output.
            before: what the shell does first, such as ``ulimit``.
            environment: more environment variables.
        """
        self._runs += 1
        command = [*COMMAND, "run", "in.jsonl", "-o", output or str(self.output), "--base-url", self.base_url]
        command += ["--model", "looks-1", "--max-workers", str(self.workers), *self.flags, *flags]
        if before:
            command = ["sh", "-c", f'{before}; exec "$@"', "sh", *command]
        path = self.folder / f"stderr-{self._runs}"
        with (
            path.open("wb") as stderr,
            subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, **(environment or {})},
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            ) as process,
        ):
            try:
                yield Run(process, path)
            finally:
                process.kill()

    def finish(self, *flags: str, codes: tuple[int, ...] = (0,), **how: Any) -> str:
        """A run that ends by itself, with one of these exit codes; what it said."""
        with self.run(*flags, **how) as run:
            code = run.wait()
        if code not in codes:
            self.fault(f"a run ended with exit code {code} instead of {codes[0]}: {run.said()[-500:]}")
        return run.said()

    def fault(self, said: str) -> None:
        """Note what is not as it should be."""
        self.faults.append(f"{self.folder.name}: {said}")

    def require(self, condition: bool, said: str) -> None:
        """Note a fault unless it is so."""
        if not condition:
            self.fault(said)

    def wait_until_open(self, run: Run) -> bool:
        """Until the run has noted its process number beside the output; False if it ended before."""
        while run.process.poll() is None:
            if self.is_open(run):
                return True
            time.sleep(_LOOK_S)
        return False

    def is_open(self, run: Run) -> bool:
        """Whether it has noted its process number beside the output: nothing is sent before."""
        return bool(self._note().get("pid") == run.process.pid)

    def retries(self) -> int:
        """Attempts that the last run repeated, by its own count."""
        retries: int = self._note()["counts"]["retries"]
        return retries

    def _note(self) -> dict[str, Any]:
        """What a run notes about itself, beside the output."""
        with contextlib.suppress(FileNotFoundError):
            note: dict[str, Any] = json.loads(
                self.output.with_name(self.output.name.replace(".jsonl", ".run.json")).read_bytes()
            )
            return note
        return {}

    def wait_for_lines(self, run: Run, lines: int) -> bool:
        """Until the output has so many; False if the run ended before."""
        while run.process.poll() is None:
            if self.answered() >= lines:
                return True
            time.sleep(_LOOK_S)
        return False

    def answered(self) -> int:
        """Whole lines of the output; reads only what has come since it was last asked."""
        with contextlib.suppress(FileNotFoundError), self.output.open("rb") as file:
            file.seek(self._counted_to)
            fresh = file.read()
            self._counted += fresh.count(b"\n")
            self._counted_to += fresh.rfind(b"\n") + 1
        return self._counted

    def forget_lines(self) -> None:
        """Somebody has changed the output on purpose: what stands there now is what counts."""
        self._kept = b""
        self._counted = self._counted_to = 0

    def progress(self) -> str:
        """How far it is, in words; notes a fault where lines that stood there are no longer there."""
        content = self.output.read_bytes() if self.output.exists() else b""
        self.require(content.startswith(self._kept), "lines that had been written are gone or changed")
        self._kept = content[: content.rfind(b"\n") + 1]
        lines = self._kept.count(b"\n")
        return f"{lines:,} of {self.records:,} answered, {self.statistics()['received']:,} requests"

    def statistics(self) -> dict[str, Any]:
        """What the endpoint has counted."""
        with urllib.request.urlopen(self.base_url.removesuffix("/v1") + "/stats", timeout=30) as reply:
            counted: dict[str, Any] = json.load(reply)
        return counted

    def requests(self) -> int:
        """Requests that the endpoint has received."""
        received: int = self.statistics()["received"]
        return received

    def requires_nothing_more(self) -> None:
        """One more run must find everything done, and send nothing."""
        before = self.requests()
        self.finish()
        sent = self.requests() - before
        self.require(not sent, f"a run over a finished output sent {sent} requests")

    def verdict(
        self, hits: Counter[str] | None = None, *, repeats: int = 0, dropped_is_fault: bool = True
    ) -> Verdict:
        """Read the output, and count.

        Args:
            hits: signals that hit a run, by when they did.
            repeats: records that had to be asked about again, because their lines were taken away.
            dropped_is_fault: whether requests without a whole reply are of the endpoint's making.
        """
        found, damaged = self.found()
        wanted = {row(number)["id"] for number in range(self.records)}
        failures = self.output.with_name(self.output.name.replace(".jsonl", ".failures.jsonl"))
        if failures.exists():
            self.fault("some records failed: " + failures.read_text()[:500])
        counted = self.statistics()
        unanswered = counted["completed"] - counted["answered"] + dropped_is_fault * counted["dropped"]
        most = self.records + unanswered + self.on_wire + repeats
        said = f"{counted['received']} requests of at most {most}; by the last run's own count "
        self.require(counted["received"] <= most, f"{said}{self._note().get('counts')}")
        return Verdict(
            hits=hits or Counter(),
            lost=len(wanted - found.keys()),
            repeated=found.total() - len(found),
            damaged=damaged + len(found.keys() - wanted),
            requests=counted["received"],
            most=most,
            faults=self.faults,
        )

    def found(self) -> tuple[Counter[str], int]:
        """How often each id stands in the output, and how many lines are not as they must be."""
        content = self.output.read_bytes() if self.output.exists() else b""
        found: Counter[str] = Counter()
        damaged = int(bool(content) and not content.endswith(b"\n"))
        for line in content.removesuffix(b"\n").split(b"\n") if content else ():
            id = id_of(line)
            if id:
                found[id] += 1
            else:
                damaged += 1
        return found, damaged


def row(number: int) -> dict[str, str]:
    """A record of the input."""
    return {"id": f"r{number}", "conversation": f"What comes after {number}?"}


def id_of(line: bytes) -> str:
    """The id of an answered record, "" where the line is not whole, or not the answer to its record."""
    crc = len(_CRC % 0)
    try:
        read = json.loads(line.decode("utf-8", "strict"))
        assert line[-crc:] == _CRC % zlib.crc32(line[:-crc])
        assert row(int(read["id"][1:])).items() <= read.items()
        assert read["_meta"]["id"] == read["id"]
        assert read["vqa"].startswith("- Q: ")
        assert read["qa_pairs"]
        return str(read["id"])
    except (ValueError, KeyError, TypeError, AssertionError):
        return ""
