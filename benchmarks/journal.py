"""What the journal takes: write rate, share of a job's CPU, replay, and how soon a resumed run sends.

    python -m benchmarks.journal                         3 rounds, about 3 minutes, 1 GB in the temp folder
    python -m benchmarks.journal --quick                 1 round, a tenth of it; nothing is stored
    python -m benchmarks.journal --full                  10^7 finished records and a 2 GB array as well

- Write rate: 100 tasks that append results as the engine does, for each way of fsync. On a disk in memory
  (tmpfs) fsync costs nothing; `--folder` says where to write.
- Share of CPU, fsync every second, 100 KB images, 100 in flight: the CPU time of every step of
  `Journal.append` (encoding included) and of the writer's task, both in the loop's thread, and all CPU of the
  writer's thread, over the CPU time of the whole process. Not in it: what the loop itself spends on waking
  these tasks. That is in the second figure, which is less exact: the CPU a request of the same job with a
  journal that keeps nothing, taken from that of the job as it is. It may be negative: noise is larger than
  the journal, and where nothing waits for a write, the rest of the job runs in another order.
- Replay: reading an output back in a process of its own, lines of about 400 bytes.
- Resumed run: `vqa-async run` over JSON lines of which all but the last 100 are answered, from the start of
  the process to the first request that the endpoint has got.
- JSON array: `vqa-async run` over one large array, the same, and the peak of its memory in the first 3 s.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import http.client
import itertools
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import types
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from benchmarks.harness import cores, endpoint, images, interleaved, median, run_module, store, table

FSYNC_MODES = ("always", "interval", "never")
APPENDERS = 100
LINE_BYTES = 410
"""A little more than a line of the outputs made here; to see beforehand whether the disk has room."""

LEFT_OPEN = 100
"""Records of the resumed run that are not answered yet; the last, so all of the input is looked through."""

WATCHED_S = 3.0

T = TypeVar("T")


def measure(
    quick: bool = False, *, full: bool = False, rounds: int = 3, folder: Path | None = None
) -> dict[str, Any]:
    """All figures.

    Args:
        quick: one round, a tenth of the records and of the array.
        full: up to 10^7 records, an array of 2 GB.
        rounds: how often each is measured; what lasts long, once.
        folder: where files are written; default: the temp folder.
    """
    rounds = 1 if quick else rounds
    counts = (10_000, 100_000) if quick else (100_000, 1_000_000)
    array_bytes = 20_000_000 if quick else 2_000_000_000 if full else 200_000_000
    with tempfile.TemporaryDirectory(dir=folder, prefix="journal-") as name:
        home = Path(name)
        return {
            "rounds": rounds,
            "write": _write_rates(home, rounds, 1.0 if quick else 2.0),
            "share": _cpu_share(1000 if quick else 5000, rounds),
            "replay": [_replayed(home, count, rounds) for count in counts]
            + ([_replayed(home, 10_000_000, 1)] if full else []),
            "resume": _resumed(home, counts[-1], rounds),
            "array": _array(home, array_bytes, rounds),
        }


def checks(result: Mapping[str, Any]) -> list[tuple[str, float, str, float]]:
    """What was to be reached: what, measured, how they compare, target."""
    found: list[tuple[str, float, str, float]] = [
        (
            "journal, fsync every second: share of the CPU of the whole job",
            result["share"]["attributed"],
            "<",
            0.08,
        )
    ]
    for replay in result["replay"]:
        if replay["records"] == 1_000_000 and "reason" not in replay:
            found.append(("replay of 10^6 records: seconds", replay["seconds"], "<", 10.0))
            found.append(("replay of 10^6 records: peak RSS, MB", replay["rss_mb"], "<", 150.0))
    resume, array = result["resume"], result["array"]
    if resume["records"] == 1_000_000 and "reason" not in resume:
        what = "resumed run over 10^6 finished records: seconds to the first request"
        found.append((what, resume["first_request_s"], "<", 15.0))
    if "reason" not in array:
        what = f"JSON array of {array['bytes'] / 1e9:g} GB: "
        found.append((what + "seconds to the first request", array["first_request_s"], "<", 2.0))
        if array["rss_mb"]:
            found.append((what + f"peak RSS in the first {WATCHED_S:g} s, MB", array["rss_mb"], "<", 200.0))
    return found


# --- write rate ---------------------------------------------------------------------------------------------


def _write_rates(home: Path, rounds: int, seconds: float) -> dict[str, dict[str, float]]:
    return interleaved(
        {
            mode: functools.partial(
                run_module, "benchmarks.journal", "--append", mode, home / f"{mode}.jsonl", "--for", seconds
            )
            for mode in FSYNC_MODES
        },
        rounds,
    )


async def append(mode: str, output: Path, seconds: float) -> dict[str, float]:
    """Append results for so many seconds, 100 at a time; records a second."""
    from vqa_async.config import Config
    from vqa_async.journal import Journal

    output.unlink(missing_ok=True)
    numbers = itertools.count()
    config = Config.of(model="benchmark", fsync=mode)
    async with Journal(output, config, source="-") as journal:
        begun, cpu = time.perf_counter(), time.process_time()

        async def work() -> None:
            while time.perf_counter() - begun < seconds:
                await journal.append(_success(next(numbers)))

        await asyncio.gather(*(work() for _ in range(APPENDERS)))
        records = next(numbers)
        took, spent = time.perf_counter() - begun, time.process_time() - cpu
        await journal.close("finished", "", {})
    return {
        "rate": records / took,
        "cpu_us": spent / records * 1e6,
        "line_bytes": output.stat().st_size / records,
    }


def _success(number: int) -> Any:
    """A result as the resumed run below would have kept it."""
    from vqa_async.models import Completion, Record, Success, Usage

    return Success(
        record=Record(f"r{number}", number, _row(number), ()),
        completion=Completion(f"{number + 1} does.", "benchmark", "stop", Usage(900, 40)),
        pairs=(),
        endpoint="http://127.0.0.1:8000/v1",
        attempts=1,
        latency_s=0.0123,
        finished_at=1_700_000_000.123,
        request_digest="0123456789abcdef0123456789abcdef",
    )


def _row(number: int) -> dict[str, str]:
    return {"id": f"r{number}", "conversation": f"What comes after {number}?"}


# --- share of the CPU ---------------------------------------------------------------------------------------


def _cpu_share(records: int, rounds: int) -> dict[str, float]:
    with endpoint() as url, images(100_000) as folder:
        found = interleaved(
            {
                how: functools.partial(
                    run_module, "benchmarks.journal", "--job", how, url, folder, "--records", records
                )
                for how in ("as it is", "timed", "keeps nothing")
            },
            rounds,
        )
    timed, whole, without = found["timed"], found["as it is"]["cpu_s"], found["keeps nothing"]["cpu_s"]
    journal_s = timed["append_s"] + timed["writer_task_s"] + timed["writer_thread_s"]
    return {
        "records": records,
        "attributed": journal_s / timed["cpu_s"],
        "difference": (whole - without) / whole,
        "append_us": timed["append_s"] / records * 1e6,
        "writer_task_us": timed["writer_task_s"] / records * 1e6,
        "writer_thread_us": timed["writer_thread_s"] / records * 1e6,
        "job_us": whole / records * 1e6,
    }


def job(how: str, url: str, folder: Path, records: int) -> dict[str, float]:
    """The whole job through the engine; its CPU seconds, and those of the journal where they are timed."""
    from benchmarks import clients
    from vqa_async.journal import Journal

    clock = _Clock()
    if how == "timed":
        clock.attach()
    elif how == "keeps nothing":
        Journal.append = _keep_nothing  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as out:
        given = clients.Job(url, sorted(folder.iterdir()), records, 100, Path(out))
        return clients.measure(clients.engine, given) | clock.seconds()


async def _keep_nothing(self: object, result: object) -> None:
    """In the place of ``Journal.append``."""


class _Clock:
    """CPU time of the journal, by replacing three of its methods with ones that are timed."""

    def __init__(self) -> None:
        self.append = _Account()
        self.task = _Account()
        self.thread_s = 0.0

    def attach(self) -> None:
        """Time the journals of this process from now on."""
        from vqa_async.journal.journal import Journal
        from vqa_async.journal.writer import Writer

        keep, run, close = Journal.append, Writer._run, Journal.close

        async def timed_append(journal: Journal, result: Any) -> None:
            await self.append.steps(lambda: keep(journal, result))

        async def timed_run(writer: Writer) -> None:
            await self.task.steps(lambda: run(writer))

        async def timed_close(journal: Journal, *how: Any) -> None:
            self._read_thread()
            await close(journal, *how)

        for owner, name, timed in (
            (Journal, "append", timed_append),
            (Journal, "close", timed_close),
            (Writer, "_run", timed_run),
        ):
            setattr(owner, name, timed)

    def _read_thread(self) -> None:
        """All CPU time of the writer's thread, which ends with the journal."""
        for thread in threading.enumerate():
            if thread.name.startswith("vqa-journal") and thread.ident is not None:
                self.thread_s += time.clock_gettime(time.pthread_getcpuclockid(thread.ident))

    def seconds(self) -> dict[str, float]:
        """What was found."""
        return {
            "append_s": self.append.spent_s,
            "writer_task_s": self.task.spent_s,
            "writer_thread_s": self.thread_s,
        }


class _Account:
    """CPU seconds of a thread that calls took, from each start or waking to the next wait."""

    def __init__(self) -> None:
        self.spent_s = 0.0

    @types.coroutine
    def steps(self, call: Callable[[], Awaitable[T]]) -> Generator[Any, Any, T]:
        """Make the call, await what it gives, and add up the steps of both."""
        awaited: Any = None

        def begin() -> Any:
            nonlocal awaited
            awaited = call().__await__()
            return awaited.send(None)

        step: Callable[[], Any] = begin
        while True:
            begun = time.thread_time()
            try:
                waited_for = step()
            except StopIteration as stop:
                result: T = stop.value
                return result
            finally:
                self.spent_s += time.thread_time() - begun
            try:
                yield waited_for
                step = functools.partial(awaited.send, None)
            except BaseException as error:
                step = functools.partial(awaited.throw, error)


# --- replay -------------------------------------------------------------------------------------------------


def _replayed(home: Path, records: int, rounds: int) -> dict[str, Any]:
    """Seconds and peak memory of reading an output back."""
    if reason := _no_room(home, records * LINE_BYTES):
        return {"records": records, "reason": reason}
    output = _output(home, records)
    found = interleaved(
        {"replay": lambda: run_module("benchmarks.journal", "--replay", output, timeout_s=1200)}, rounds
    )["replay"]
    size = output.stat().st_size
    if records > 1_000_000:
        output.unlink()
    return {"records": records, "bytes": size, "rate": records / found["seconds"], **found}


def _output(home: Path, records: int) -> Path:
    """An output with so many answers; made once, in a process of its own."""
    path = home / f"{records}.finished.jsonl"
    if not path.exists():
        run_module("benchmarks.journal", "--finish", path, "--records", records, timeout_s=1200)
    return path


def finish(path: Path, records: int) -> None:
    """Write the output of a run that has answered so many records."""
    from vqa_async.journal.codec import encode_success

    with path.open("wb", buffering=1 << 20) as file:
        for number in range(records):
            file.write(encode_success(_success(number), "vqa"))


def replay(output: Path) -> dict[str, float]:
    """Read an output back."""
    from vqa_async.journal import JournalPaths
    from vqa_async.journal.replay import replay as read_back

    paths = JournalPaths.of(output)
    begun = time.perf_counter()
    found = read_back(paths.successes, paths.failures, paths.damaged, repair=False, known=False)
    seconds = time.perf_counter() - begun
    assert found.succeeded
    return {"seconds": seconds, "rss_mb": _own_peak_mb()}


def _own_peak_mb() -> float:
    """Peak of resident memory of this program alone; ``ru_maxrss`` may be that of whoever started it."""
    with contextlib.suppress(OSError):
        return _peak_mb("self")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _peak_mb(process: int | str) -> float:
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmHWM:")[2].split(maxsplit=1)[0]) / 1024


# --- from the start of the process to the first request -----------------------------------------------------


def _resumed(home: Path, records: int, rounds: int) -> dict[str, Any]:
    """Seconds from the start of the process to the first request, all but the last records answered."""
    if reason := _no_room(home, records * LINE_BYTES):
        return {"records": records, "reason": reason}
    output, source = _output(home, records), home / "in.jsonl"
    with source.open("w") as file:
        for number in range(records + LEFT_OPEN):
            file.write(json.dumps(_row(number)) + "\n")
    answered = output.stat().st_size
    found = []
    with endpoint() as url:
        for _ in range(rounds):
            found.append(_resume_once(source, output, url))
            with output.open("r+b") as file:
                file.truncate(answered)  # as it was, for the next time
    source.unlink()
    return {"records": records, "input_rows": records + LEFT_OPEN, **median(found)}


def _resume_once(source: Path, output: Path, url: str) -> dict[str, float]:
    with _running(source, output, url) as (process, begun):
        first_s = _first_request(url, process, begun)
        code = process.wait(timeout=120)
    answered = _answered(http.client.HTTPConnection(urlsplit(url).netloc))
    if code or answered != LEFT_OPEN:
        raise RuntimeError(f"the resumed run ended with exit code {code} after {answered} requests")
    return {"first_request_s": first_s, "seconds": time.perf_counter() - begun}


def _array(home: Path, size: int, rounds: int) -> dict[str, Any]:
    """Seconds to the first request, and peak memory in the first seconds, over one large JSON array."""
    if reason := _no_room(home, size):
        return {"bytes": size, "reason": reason}
    source = home / "in.json"
    _write_array(source, size)
    found = []
    with endpoint() as url:
        for number in range(rounds):
            with _running(source, home / f"array-{number}.jsonl", url) as (process, begun):
                first_s = _first_request(url, process, begun)
                rss_mb = _watched_peak_mb(process, begun)
                process.terminate()  # drained, as with SIGINT, which is ignored in jobs of the background
                process.wait(timeout=60)
            found.append({"first_request_s": first_s, "rss_mb": rss_mb})
    source.unlink()
    return {"bytes": size, **median(found)}


def _write_array(path: Path, size: int) -> None:
    """A JSON array of rows of about a kilobyte."""
    padding = "x" * 900
    with path.open("w", buffering=1 << 20) as file:
        file.write("[")
        for number in range(size // 1000):
            file.write((",\n" if number else "") + json.dumps(_row(number) | {"note": padding}))
        file.write("]")


@contextlib.contextmanager
def _running(source: Path, output: Path, url: str) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """`vqa-async run` as a process, and when it was started."""
    _answered(http.client.HTTPConnection(urlsplit(url).netloc), "/reset")
    command = [*cores()[0], sys.executable, "-m", "vqa_async", "run", str(source), "-o", str(output)]
    command += ["--base-url", url, "--model", "benchmark", "--max-workers", "100", "--quiet"]
    begun = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield process, begun
        finally:
            process.kill()


def _first_request(url: str, process: subprocess.Popen[bytes], begun: float) -> float:
    """Seconds from the start of the process until the endpoint has got a request."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    try:
        while not _answered(connection):
            if process.poll() is not None:
                raise RuntimeError(f"the run ended with exit code {process.returncode} and sent nothing")
            time.sleep(0.01)
        return time.perf_counter() - begun
    finally:
        connection.close()


def _answered(connection: http.client.HTTPConnection, path: str = "/stats") -> int:
    connection.request("GET", path)
    answered: int = json.loads(connection.getresponse().read())["answered"]
    return answered


def _watched_peak_mb(process: subprocess.Popen[bytes], begun: float) -> float:
    """The highest peak that is seen until the time is over or the process has ended; 0 where none can be."""
    peak = 0.0
    with contextlib.suppress(OSError, ValueError, IndexError):  # it has ended, or there is no /proc
        while process.poll() is None:
            peak = _peak_mb(process.pid)
            left = WATCHED_S - (time.perf_counter() - begun)
            if left <= 0:
                break
            time.sleep(min(left, 0.05))
    return peak


def _no_room(home: Path, needed: int) -> str:
    """Why a file of so many bytes cannot be made here, "" where it can."""
    free = shutil.disk_usage(home).free
    if free > needed * 1.2 + 500_000_000:
        return ""
    return f"It needs {needed / 1e9:.1f} GB and room to spare; the disk has {free / 1e9:.1f} GB left."


# --- what is printed ----------------------------------------------------------------------------------------


def report(result: Mapping[str, Any]) -> str:
    """All tables."""
    return "\n\n".join((_write_table(result["write"]), _share_table(result["share"]), _start_table(result)))


def _write_table(write: Mapping[str, Mapping[str, float]]) -> str:
    return table(
        ["fsync", "records/s", "MB/s", "CPU us a record"],
        [
            [mode, f"{m['rate']:,.0f}", f"{m['rate'] * m['line_bytes'] / 1e6:.1f}", f"{m['cpu_us']:.1f}"]
            for mode, m in write.items()
        ],
    )


def _share_table(share: Mapping[str, float]) -> str:
    parts = f"{share['append_us']:.1f} + {share['writer_task_us']:.1f} + {share['writer_thread_us']:.1f}"
    return table(
        ["CPU of the journal, fsync every second", "us a record", "share of the job"],
        [
            ["append + writer's task + writer's thread", parts, f"{share['attributed']:.1%}"],
            [
                "job as it is - job that keeps nothing",
                f"{share['difference'] * share['job_us']:.1f}",
                f"{share['difference']:.1%}",
            ],
            ["whole job", f"{share['job_us']:.1f}", ""],
        ],
    )


def _start_table(result: Mapping[str, Any]) -> str:
    lines = [
        [f"replay of {r['records']:,} records", *_size(r), _shown(r, "seconds", "{:.2f} s"), _memory(r)]
        for r in result["replay"]
    ]
    resume, array = result["resume"], result["array"]
    first = [_shown(run, "first_request_s", "{:.2f} s to the first request") for run in (resume, array)]
    lines.append([f"resumed run, {resume['records']:,} finished", "", first[0], ""])
    lines.append(["run over a JSON array", *_size(array), first[1], _memory(array)])
    return table(["what", "MB", "time", "peak RSS MB"], lines)


def _size(row: Mapping[str, Any]) -> list[str]:
    return [f"{row['bytes'] / 1e6:,.0f}" if "bytes" in row else ""]


def _shown(row: Mapping[str, Any], name: str, form: str) -> str:
    return str(row["reason"]) if "reason" in row else form.format(row[name])


def _memory(row: Mapping[str, Any]) -> str:
    if "reason" in row:
        return ""
    return f"{row['rss_mb']:.0f}" if row["rss_mb"] else "not to be seen on this system"


def main() -> None:
    """Measure, print the tables, store the figures; or do the part of a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where files are written; default: the temp folder")
    parser.add_argument("--quick", action="store_true", help="1 round, a tenth of it; nothing is stored")
    parser.add_argument("--full", action="store_true", help="10^7 records and a 2 GB array as well")
    for part, values in (("append", 2), ("job", 3), ("replay", 1), ("finish", 1)):
        parser.add_argument(f"--{part}", nargs=values, help=argparse.SUPPRESS)
    parser.add_argument("--records", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--for", type=float, default=0.0, dest="seconds", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.append or a.job or a.replay or a.finish:
        print(json.dumps(_part(a)))
        return
    result = measure(a.quick, full=a.full, rounds=a.rounds, folder=a.folder)
    print(report(result))
    if not a.quick:
        store("journal", {"arguments": {"rounds": a.rounds, "full": a.full}, **result})


def _part(a: argparse.Namespace) -> dict[str, float]:
    """What one of the processes does that this starts."""
    if a.append:
        return asyncio.run(append(a.append[0], Path(a.append[1]), a.seconds))
    if a.job:
        return job(a.job[0], a.job[1], Path(a.job[2]), a.records)
    if a.replay:
        return replay(Path(a.replay[0]))
    finish(Path(a.finish[0]), a.records)
    return {}


if __name__ == "__main__":
    main()
