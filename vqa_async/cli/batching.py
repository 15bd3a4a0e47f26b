"""`vqa-async batch`: the same records and journal through a provider's batch API."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
from cyclopts import App, Parameter
from rich.console import Console

from vqa_async.api import open_batches, run_sync
from vqa_async.batches import Batches, Fetched, PartState, Submitted, stored_config
from vqa_async.cli.console import emit, open_console, say
from vqa_async.cli.exits import EXIT_OK, EXIT_SOME_FAILED, EXIT_STOPPED
from vqa_async.cli.groups import (
    AnswerFlags,
    BatchFlags,
    BudgetFlags,
    ColumnFlags,
    EndpointFlags,
    FormatFlag,
    ImageFlags,
    Input,
    JournalFlags,
    JsonFlag,
    LimitFlag,
    LimitFlags,
    NewOutput,
    Output,
    PromptingFlags,
    QualityFlags,
    QuietFlag,
    RetryFlags,
    SamplingFlags,
    SelectionFlags,
    SettingsFile,
    TimeoutFlags,
    VerificationFlags,
)
from vqa_async.cli.layers import named_endpoints
from vqa_async.cli.menu import examples
from vqa_async.cli.running import run_job
from vqa_async.config import (
    Answers,
    BatchOptions,
    Budget,
    Columns,
    Config,
    Endpoint,
    ImageOptions,
    JournalOptions,
    Limits,
    Prompting,
    Quality,
    RetryPolicy,
    Sampling,
    Selection,
    Timeouts,
    Verification,
)
from vqa_async.errors import ConfigError
from vqa_async.journal import JournalPaths
from vqa_async.watch.words import count

batch = App(
    name="batch",
    help="Hand records to a provider's batch API and fetch the answers later, at a lower price.",
    help_epilogue=examples(
        "vqa-async batch submit data.jsonl -o out.jsonl --model gpt-4o-mini",
        "vqa-async batch status out.jsonl",
        "vqa-async batch fetch out.jsonl --wait --live     again: goes on",
    ),
)


@batch.command(sort_key=0)
def submit(
    input: Input,
    /,
    *,
    endpoint: EndpointFlags = Endpoint(),
    config: SettingsFile = None,
    sampling: SamplingFlags = Sampling(),
    prompting: PromptingFlags = Prompting(),
    answers: AnswerFlags = Answers(),
    columns: ColumnFlags = Columns(),
    selection: SelectionFlags = Selection(),
    limit: LimitFlag = None,
    format: FormatFlag = "auto",
    batches: BatchFlags = BatchOptions(),
    limits: LimitFlags = Limits(),
    budget: BudgetFlags = Budget(),
    timeouts: TimeoutFlags = Timeouts(),
    retry: RetryFlags = RetryPolicy(),
    images: ImageFlags = ImageOptions(),
    output: NewOutput,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    journal: JournalFlags = JournalOptions(),
    quality: QualityFlags = Quality(),
    verification: VerificationFlags = Verification(),
) -> int:
    """Hand in every record of INPUT that has no answer and waits in no batch. Again = go on.

    Parameters
    ----------
    input
        What to ask about, as for 'run'.
    config
        TOML file with any of these options, by their names with _ for -.
    limit
        Only the first so many rows.
    format
        What INPUT is, where its content does not tell.
    output
        JSONL file for the answers, as for 'run'; OUT.batches.jsonl beside it says what was handed in.
    json
        Print what was handed in as JSON on stdout.
    quiet
        Say only what needs attention.
    """
    options = Config(
        endpoint=endpoint,
        sampling=sampling,
        columns=columns,
        selection=selection,
        images=images,
        limits=limits,
        budget=budget,
        timeouts=timeouts,
        retry=retry,
        journal=journal,
        endpoints=named_endpoints(config),
        prompting=prompting,
        answers=answers,
        quality=quality,
        verification=verification,
        batches=batches,
    )
    console = open_console()
    console.quiet = quiet

    async def main() -> Submitted:
        async with _opened(options, console) as opened:
            return await opened.submit(input, output, limit=limit, format=format)

    done = run_sync(main)
    for line in _submitted(done, output):
        say(console, line)
    emit(_json(_submitted_json(done)) if json else JournalPaths.of(output).successes)
    return EXIT_SOME_FAILED if done.failed else EXIT_OK


@batch.command(sort_key=1)
def status(
    output: Output,
    /,
    *,
    endpoint: EndpointFlags = Endpoint(),
    config: SettingsFile = None,
    timeouts: TimeoutFlags = Timeouts(),
    retry: RetryFlags = RetryPolicy(),
    json: bool = False,
) -> int:
    """How the batches of an output stand, as the provider says.

    Parameters
    ----------
    output
        OUT.jsonl of a submission.
    config
        TOML file as for 'submit'; how to reach the provider is taken from it.
    json
        Print it as JSON on stdout.
    """
    given = Config(endpoint=endpoint, timeouts=timeouts, retry=retry, endpoints=named_endpoints(config))
    options, _ = stored_config(output, given)

    async def main() -> list[PartState]:
        async with _opened(options, open_console()) as opened:
            return await opened.states(output)

    found = run_sync(main)
    if json:
        emit(_json([_state_json(one) for one in found]))
    else:
        emit("\n".join(map(_state_line, found)) or "Nothing was handed in yet.")
    return EXIT_OK


@batch.command(sort_key=2)
def fetch(
    output: Output,
    /,
    *,
    wait: bool = False,
    live: bool = False,
    give_up: bool = False,
    endpoint: EndpointFlags = Endpoint(),
    config: SettingsFile = None,
    batches: BatchFlags = BatchOptions(),
    limits: LimitFlags = Limits(),
    timeouts: TimeoutFlags = Timeouts(),
    retry: RetryFlags = RetryPolicy(),
    json: bool = False,
    quiet: Annotated[bool, Parameter(alias="-q")] = False,
) -> int:
    """Put the answers of all batches that are over into OUT.jsonl. Needs none of the options of 'submit'.

    Parameters
    ----------
    output
        OUT.jsonl of a submission.
    wait
        Wait until all batches are over.
    live
        Then ask about the records live that have no answer, as 'run' does: those that failed, expired or
        were left out.
    give_up
        Count batches as over that the provider does not know any more: their records may be asked again.
    config
        TOML file as for 'submit'; how to reach the provider is taken from it.
    json
        Print the summary as JSON on stdout.
    quiet
        Say only what needs attention.
    """
    given = Config(
        endpoint=endpoint,
        timeouts=timeouts,
        retry=retry,
        limits=limits,
        endpoints=named_endpoints(config),
        batches=batches,
    )
    options, source = stored_config(output, given)
    if live and source["input"] == "-":
        raise ConfigError("The input was standard input, which is gone: --live cannot read it again.")
    console = open_console()

    async def main() -> Fetched:
        async with _opened(options, console) as opened:
            return await opened.fetch(output, wait=wait, give_up=give_up)

    done = run_sync(main)
    goes_live = live and not done.waiting and not done.unsent
    if not quiet or done.failed:
        for line in _fetched(done, output, live=goes_live):
            say(console, line)
    if goes_live:
        return run_job(
            options,
            source["input"],
            output,
            limit=source["limit"],
            format=source["format"],
            json=json,
            quiet=quiet,
        )
    code = _fetch_code(done, output)
    emit(_json({"exit_code": code, **asdict(done)}) if json else JournalPaths.of(output).successes)
    return code


@batch.command(sort_key=3)
def cancel(
    output: Output,
    /,
    *,
    endpoint: EndpointFlags = Endpoint(),
    config: SettingsFile = None,
) -> int:
    """Cancel the batches of an output that are not over. What was answered can still be fetched.

    Parameters
    ----------
    output
        OUT.jsonl of a submission.
    config
        TOML file as for 'submit'; how to reach the provider is taken from it.
    """
    options, _ = stored_config(output, Config(endpoint=endpoint, endpoints=named_endpoints(config)))
    console = open_console()

    async def main() -> int:
        async with _opened(options, console) as opened:
            return await opened.cancel(output)

    cancelled = run_sync(main)
    say(console, f"{_batches(cancelled)} cancelled. Next: vqa-async batch fetch {output} --wait")
    return EXIT_OK


def _opened(options: Config, console: Console) -> AbstractAsyncContextManager[Batches]:
    return open_batches(options, notify=lambda said: say(console, said))


def _json(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def _batches(number: int) -> str:
    return f"{number:,} batch{'' if number == 1 else 'es'}"


def _kinds(failures: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {code}" for code, number in sorted(failures.items()))


def _submitted(done: Submitted, output: Path) -> list[str]:
    lines = [f"Handed in: {count(done.records, 'record')} in {_batches(len(done.parts))}."]
    if done.skipped:
        lines.append(f"Passed over: {count(done.skipped, 'record')} answered or handed in before.")
    if done.failed:
        failed = sum(done.failed.values())
        lines.append(f"Failed: {failed:,} ({_kinds(done.failed)}), in {JournalPaths.of(output).failures}")
    return [*lines, f"Next: vqa-async batch fetch {output} --wait"]


def _submitted_json(done: Submitted) -> dict[str, Any]:
    parts = [{"number": part.number, **_part_json(part.requests, part.batch_id)} for part in done.parts]
    return {
        "records": done.records,
        "failures_by_type": done.failed,
        "skipped": done.skipped,
        "batches": parts,
    }


def _part_json(requests: int, batch_id: str) -> dict[str, Any]:
    return {"requests": requests, "batch": batch_id or None}


def _state_line(one: PartState) -> str:
    part, state = one.part, one.state
    what = f"Batch {part.number}  {count(part.requests, 'record')}, {part.bytes / 1e6:,.1f} MB"
    if part.step == "fetched":
        counts = part.counts
        return (
            f"{what}: fetched ({part.status}), {counts['succeeded']:,} answered, {counts['failed']:,} failed"
        )
    if state is None:
        return f"{what}: not handed in yet ({part.step}): give the same 'batch submit' again"
    since = datetime.fromtimestamp(part.at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    trouble = f" ({state.trouble})" if state.trouble else ""
    return (
        f"{what}: {state.status}{trouble}, {state.completed:,} answered, {state.failed:,} failed of "
        f"{state.total:,}; {state.id}, handed in {since}"
    )


def _state_json(one: PartState) -> dict[str, Any]:
    part, state = one.part, one.state
    return {
        "number": part.number,
        "step": part.step,
        "bytes": part.bytes,
        **_part_json(part.requests, part.batch_id),
        "status": state.status if state else part.status or None,
        "completed": state.completed if state else part.counts.get("succeeded", 0),
        "failed": state.failed if state else part.counts.get("failed", 0),
    }


def _fetch_code(done: Fetched, output: Path) -> int:
    """As of a run: 3 where something is still to come, 1 where a record has failed, now or before."""
    if done.waiting or done.unsent:
        return EXIT_STOPPED
    return EXIT_SOME_FAILED if done.failed or JournalPaths.of(output).failures.exists() else EXIT_OK


def _fetched(done: Fetched, output: Path, *, live: bool) -> list[str]:
    kinds = f" ({_kinds(done.failures_by_type)})" if done.failed else ""
    lines = [f"Fetched {_batches(done.parts)}: {done.succeeded:,} answered, {done.failed:,} failed{kinds}."]
    if done.prompt_tokens or done.completion_tokens:
        lines.append(f"Tokens: {done.prompt_tokens:,} in, {done.completion_tokens:,} out.")
    if done.failed:
        lines.append(f"Failures: {JournalPaths.of(output).failures}")
    if done.unsent:
        lines.append(
            f"{_batches(done.unsent)} not handed in yet: give the same 'vqa-async batch submit' again first."
        )
    if done.waiting:
        waiting = count(done.records_waiting, "record")
        lines.append(
            f"{_batches(done.waiting)} not over yet, with {waiting}: fetch again later, or with --wait."
        )
    elif done.retryable and not live:
        lines.append(
            f"Next: vqa-async batch fetch {output} --live asks about {done.retryable:,} of the failed live; "
            "'batch submit' or 'run' with the options of before does so too."
        )
    return lines
