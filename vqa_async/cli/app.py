"""The commands. Each turns its arguments into a Config and calls one function of the package.

Flags come from the option classes of config: a field's name is the flag, its docstring the help. Their
values are taken from the flag, the environment (VQA_<NAME>), the file given by --config, or the default, in
this order.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter

from vqa_async.cli.again import typed_again
from vqa_async.cli.console import OutputLost, emit, open_console, say
from vqa_async.cli.exits import EXIT_CLOSED, EXIT_STOPPED, EXIT_USAGE
from vqa_async.cli.groups import (
    ASK,
    RESULTS,
    WHERE,
    AnswerFlags,
    BudgetFlags,
    ColumnFlags,
    DistributionFlags,
    EndpointFlags,
    FormatFlag,
    ImageFlags,
    Input,
    JournalFlags,
    JsonFlag,
    LimitFlag,
    LimitFlags,
    NewOutput,
    ObservabilityFlags,
    Output,
    PromptingFlags,
    QualityFlags,
    QuietFlag,
    RetryFlags,
    SamplingFlags,
    SelectionFlags,
    SettingsFile,
    TimeoutFlags,
    Verbose,
    VerificationFlags,
)
from vqa_async.cli.layers import layers, named_endpoints, split_variable
from vqa_async.cli.logging import louder
from vqa_async.cli.menu import ABOUT, LOOK, PASS_ON, RUN, SERVE, START, Formatter, examples
from vqa_async.config import (
    Answers,
    Budget,
    Columns,
    Config,
    Distribution,
    Endpoint,
    ImageOptions,
    JournalOptions,
    Limits,
    Observability,
    Prompting,
    Quality,
    RetryPolicy,
    Sampling,
    Selection,
    Timeouts,
    Verification,
)
from vqa_async.errors import ConfigError, DiskError, JournalError, VQAError
from vqa_async.export.options import ExportOptions
from vqa_async.report.options import ReportOptions

_typed = ContextVar("_typed", default="")
"""The command line, as it may be shown once more."""

_MIB = 1 << 20
_MAY_BE_BARE = ("--retry-failed", "--drop-flagged", "--failures")
_DASHBOARD = "--dashboard"
"""Its value is a number, if it has one: so what follows it is told from an INPUT."""


app = App(
    name="vqa-async",
    help="Images in, question-answer data out, through any OpenAI-compatible vision API.",
    help_epilogue=examples(
        "vqa-async demo                                   no endpoint, no key needed",
        "vqa-async run photos/ -o out.jsonl --base-url http://HOST/v1 --model NAME",
        "vqa-async status out.jsonl --watch               from another terminal",
        "vqa-async export out.jsonl -o train.json",
        "vqa-async run --help                             all options, more examples",
    ),
    version=lambda: _version(),
    help_format="plaintext",
    help_formatter=Formatter(),
    default_parameter=Parameter(
        negative_bool=(),
        negative_iterable=(),
        show_env_var=False,
        show_default=lambda value: _shown(value),
        env_var_split=split_variable,
    ),
    result_action="return_value",
    suppress_keyboard_interrupt=False,  # main tells which signal it was, and how to go on
)


def _version() -> str:
    from vqa_async import __version__

    return __version__


def _shown(value: Any) -> str | None:
    """A default as the help shows it; what is off or left to the endpoint speaks for itself in the text."""
    if value is None or value is False or value in ("", ()):
        return None
    if isinstance(value, int) and value >= _MIB and value % _MIB == 0:
        return f"{value}, {value // _MIB} MiB"
    if isinstance(value, float):
        return f"{value:g}"
    return _start(", ".join(value) if isinstance(value, tuple) else str(value))


def _start(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def run_command(arguments: Sequence[str]) -> int:
    """Run one command line; returns its exit code. Prints one sentence where it cannot be done."""
    try:
        app.config = layers(arguments)
        _typed.set(typed_again(arguments))
        code = app(
            _dash_last(_bare(arguments)), exit_on_error=False, print_error=False, error_console=open_console()
        )
    except CycloptsError as error:
        return _refused(f"{error} See 'vqa-async {_command(arguments)}--help'.", EXIT_USAGE)
    except VQAError as error:
        stopped = not isinstance(error, ConfigError | JournalError) or isinstance(error, DiskError)
        return _refused(error.message, EXIT_STOPPED if stopped else EXIT_USAGE)
    except OutputLost as error:
        return _refused(str(error), EXIT_STOPPED) if str(error) else EXIT_CLOSED
    except FileNotFoundError:
        if _has_working_directory():
            raise
        return _refused("The working directory was removed. Change to one that exists.", EXIT_USAGE)
    return code if isinstance(code, int) else 0


def _bare(arguments: Sequence[str]) -> list[str]:
    """Flags that may go without their value get one, or the CLI library would take the next word for it."""
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    words = [
        f"{word}=true" if word in _MAY_BE_BARE and at < end else word for at, word in enumerate(arguments)
    ]
    for at, word in enumerate(words[:end]):
        if word == _DASHBOARD and not (at + 1 < end and words[at + 1].isdecimal()):
            words[at] = f"{_DASHBOARD}=0"
    return words


def _dash_last(arguments: Sequence[str]) -> list[str]:
    """INPUT may be ``-``, which the CLI library takes for a flag unless it stands behind ``--``."""
    if "-" not in arguments or "--" in arguments:
        return list(arguments)
    at = arguments.index("-")
    return [*arguments[:at], *arguments[at + 1 :], "--", "-"]


def _has_working_directory() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _refused(message: str, code: int) -> int:
    say(open_console(), f"vqa-async: {message}", "red")
    return code


def _command(arguments: Sequence[str]) -> str:
    return f"{arguments[0]} " if arguments and arguments[0] in app else ""


@app.command(
    sort_key=2,
    group=RUN,
    help_epilogue=examples(
        "vqa-async run photos/ -o out.jsonl --base-url http://HOST/v1 --model NAME",
        "vqa-async run rows.csv -o out.jsonl --config vqa.toml --max-workers auto",
        "vqa-async run in.jsonl -o out.jsonl --model gpt-4o-mini --max-cost 5",
        "vqa-async run in.jsonl -o out.jsonl --config vqa.toml --events json 2> run.log",
    ),
)
def run(
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
    limits: LimitFlags = Limits(),
    budget: BudgetFlags = Budget(),
    timeouts: TimeoutFlags = Timeouts(),
    retry: RetryFlags = RetryPolicy(),
    images: ImageFlags = ImageOptions(),
    output: NewOutput,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    events: Annotated[Literal["text", "json"], Parameter(group=RESULTS)] = "text",
    dashboard: Annotated[int | None, Parameter(group=RESULTS)] = None,
    journal: JournalFlags = JournalOptions(),
    quality: QualityFlags = Quality(),
    verification: VerificationFlags = Verification(),
    observability: ObservabilityFlags = Observability(),
    verbose: Verbose = 0,
    distribution: DistributionFlags = Distribution(),
) -> int:
    """Answer every record of INPUT. The same command again goes on where it stopped.

    Parameters
    ----------
    input
        A file or several (JSON, JSONL, CSV, Parquet, tar shards, ...), a folder, an address, or - for
        standard input.
    config
        TOML file with any of these options, by their names with _ for -. Flags and VQA_ variables win.
    limit
        Only the first so many rows.
    format
        What INPUT is, where its content does not tell.
    output
        JSONL file for the answers; failures, settings and lock stand beside it. With --shard, {k} and {n}
        in it are replaced by the numbers.
    json
        Print the summary as JSON on stdout.
    quiet
        Say only what needs attention.
    dashboard
        Also show the run on a live page, on this machine alone, at this port or (bare, or 0) a free one. Its
        address, which holds a secret, is said when the run starts.
    verbose
        Short for --log-level: -v is info, -vv is debug.
    events
        How the run is told on stderr: for people, or as one JSON object a line, for programs.
    """
    from vqa_async.cli.merging import shard_named
    from vqa_async.cli.running import run_job

    named = named_endpoints(config)
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
        endpoints=named,
        prompting=prompting,
        answers=answers,
        quality=quality,
        verification=verification,
        observability=louder(observability, verbose),
        distribution=distribution,
    )
    named_output = shard_named(output, selection)
    return run_job(
        options,
        input,
        named_output,
        limit=limit,
        format=format,
        json=json,
        quiet=quiet,
        dashboard=dashboard,
        events=events,
        again=_typed.get(),
    )


@app.command(
    sort_key=3,
    group=RUN,
    help_epilogue=examples(
        "vqa-async check photos/",
        "vqa-async check in.jsonl --base-url http://HOST/v1 --model NAME --limit 1000",
        "vqa-async check in.jsonl --model gpt-4o-mini --offline --json",
    ),
)
def check(
    input: Input,
    /,
    *,
    endpoint: EndpointFlags = Endpoint(),
    config: SettingsFile = None,
    offline: Annotated[bool, Parameter(group=WHERE)] = False,
    sampling: SamplingFlags = Sampling(),
    prompting: PromptingFlags = Prompting(),
    answers: AnswerFlags = Answers(),
    columns: ColumnFlags = Columns(),
    selection: SelectionFlags = Selection(),
    limit: LimitFlag = None,
    format: FormatFlag = "auto",
    limits: LimitFlags = Limits(),
    budget: BudgetFlags = Budget(),
    timeouts: TimeoutFlags = Timeouts(),
    images: ImageFlags = ImageOptions(),
    json: JsonFlag = False,
) -> int:
    """Look at every record of INPUT, and estimate a run.

    With --model the endpoint is asked too: its models, and one record of the input,
    which is paid for; --offline asks nothing.

    Parameters
    ----------
    input
        A file or several (JSON, JSONL, CSV, Parquet, tar shards, ...), a folder, an address, or - for
        standard input.
    config
        TOML file as for 'run'; its options that matter here are used.
    offline
        Ask no endpoint, though a model is named: nothing is sent, nothing is spent.
    limit
        Only the first so many rows.
    format
        What INPUT is, where its content does not tell.
    json
        Print the findings as JSON on stdout.
    """
    from vqa_async.cli.checking import check_input

    named = named_endpoints(config)
    options = Config(
        endpoint=endpoint,
        sampling=sampling,
        columns=columns,
        selection=selection,
        images=images,
        limits=limits,
        budget=budget,
        timeouts=timeouts,
        endpoints=named,
        prompting=prompting,
        answers=answers,
    )
    return check_input(options, input, limit=limit, format=format, offline=offline, json=json)


@app.command(
    sort_key=4,
    group=LOOK,
    help_epilogue=examples(
        "vqa-async status out.jsonl",
        "vqa-async status out.jsonl --watch     until the run in another terminal ends",
        "vqa-async status out.jsonl --json | jq .left",
        "vqa-async status out.*.jsonl           of shards: a row for each, and the sum",
    ),
)
def status(
    output: Output,
    /,
    *more: Annotated[Path, Parameter(env_var=())],
    json: bool = False,
    watch: bool = False,
) -> int:
    """How an output stands, finished or going on.

    Done, failed by type, left, rate, tokens, cost, time left, what stopped it. It reads files alone and
    does not disturb the run. Of several outputs: a row for each, and the sum.

    Parameters
    ----------
    output
        OUT.jsonl of a run, finished or going on.
    more
        Those of other shards; patterns in quotes are expanded.
    json
        Print it as JSON on stdout.
    watch
        Follow a run that goes on in another terminal, until it ends.
    """
    from vqa_async.cli.standings import several, show_standings

    outputs = several([output, *more])
    if outputs:
        return show_standings(outputs, json=json)
    from vqa_async.cli.standing import show_status, watch_status

    return watch_status(output, json=json) if watch else show_status(output, json=json)


@app.command(
    sort_key=6,
    group=PASS_ON,
    help_epilogue=examples(
        "vqa-async merge out.*.jsonl -o all.jsonl",
        "vqa-async merge out.*.jsonl -o all.jsonl --allow-gaps",
    ),
)
def merge(
    part: Annotated[Path, Parameter(env_var=())],
    /,
    *more: Annotated[Path, Parameter(env_var=())],
    output: Annotated[Path, Parameter(alias="-o", env_var=())],
    allow_gaps: bool = False,
    json: bool = False,
) -> int:
    """Make one output of those of the shards of an input: all of them, each record once.

    Parameters
    ----------
    part
        OUT.jsonl of a run with --shard; patterns in quotes are expanded.
    more
        Those of the other shards.
    output
        OUT.jsonl to make. One that exists is never replaced, unless it is a merge of the same parts.
    allow_gaps
        Merge what is there, though a shard is missing or not finished.
    json
        Print the summary as JSON on stdout.
    """
    from vqa_async.cli.merging import merge_outputs

    return merge_outputs([part, *more], output, allow_gaps=allow_gaps, json=json)


@app.command(
    sort_key=4,
    group=RUN,
    help_epilogue=examples(
        "vqa-async verify out.jsonl --base-url http://HOST/v1 --model NAME",
        "vqa-async verify out.jsonl --base-url http://HOST/v1 --model NAME --verify-mode judge",
    ),
)
def verify(
    output: Output,
    /,
    *,
    endpoint: EndpointFlags = Endpoint(),
    config: SettingsFile = None,
    sampling: SamplingFlags = Sampling(),
    limits: LimitFlags = Limits(),
    budget: BudgetFlags = Budget(),
    timeouts: TimeoutFlags = Timeouts(),
    retry: RetryFlags = RetryPolicy(),
    images: ImageFlags = ImageOptions(),
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    journal: JournalFlags = JournalOptions(),
    quality: QualityFlags = Quality(),
    verification: VerificationFlags = Verification(),
    observability: ObservabilityFlags = Observability(),
    verbose: Verbose = 0,
) -> int:
    """Put the pairs of an output to a model once more, with their images. Again = resume.

    Parameters
    ----------
    output
        OUT.jsonl of a run; what the model says is kept in OUT.checks.jsonl.
    config
        TOML file as for 'run'; its options that matter here are used.
    json
        Print the summary as JSON on stdout.
    quiet
        Say only what needs attention.
    verbose
        Short for --log-level: -v is info, -vv is debug.
    """
    from vqa_async.cli.verifying import verify_output

    options = Config(
        endpoint=endpoint,
        sampling=sampling,
        images=images,
        limits=limits,
        budget=budget,
        timeouts=timeouts,
        retry=retry,
        journal=journal,
        endpoints=named_endpoints(config),
        quality=quality,
        verification=verification,
        observability=louder(observability, verbose),
    )
    return verify_output(options, output, json=json, quiet=quiet)


@app.command(
    name="quality",
    sort_key=4,
    group=LOOK,
    help_epilogue=examples(
        "vqa-async quality out.jsonl",
        "vqa-async quality out.jsonl --checks all --json",
    ),
)
def show_quality(
    output: Output,
    /,
    *,
    config: Annotated[Path | None, Parameter(env_var=())] = None,
    quality: QualityFlags = Quality(),
    verification: VerificationFlags = Verification(),
    json: bool = False,
) -> int:
    """Which pairs of an output are kept and which dropped, by reason. Asks no model.

    The flags of single pairs were given by the run; checks across the run, and the
    threshold of agreement, are applied here.

    Parameters
    ----------
    output
        OUT.jsonl of a run.
    config
        TOML file as for 'run'; its options that matter here are used.
    json
        Print it as JSON on stdout.
    """
    from vqa_async.cli.reviewing import show_review

    return show_review(output, quality, verification, json=json)


@app.command(
    sort_key=5,
    group=PASS_ON,
    help_epilogue=examples(
        "vqa-async export out.jsonl -o train.json",
        "vqa-async export out.jsonl -o train.parquet",
        "vqa-async export out.jsonl -o sharegpt.json --format sharegpt",
    ),
)
def export(
    source: Output,
    /,
    *,
    output: Annotated[Path, Parameter(alias="-o", env_var=())],
    options: Annotated[ExportOptions, Parameter(name="*")] = ExportOptions(),
) -> int:
    """Write the answers of an output as a data set, in the order of the input.

    Parameters
    ----------
    source
        OUT.jsonl of a run.
    output
        File to write, or folder (hf, webdataset).
    """
    from vqa_async.cli.exporting import export_answers

    return export_answers(source, output, options)


@app.command(
    sort_key=3,
    group=LOOK,
    help_epilogue=examples(
        "vqa-async report out.jsonl -o report.html",
        "vqa-async report out.jsonl -o report.html --sample 500",
    ),
)
def report(
    source: Output,
    /,
    *,
    output: Annotated[Path, Parameter(alias="-o", env_var=())] = Path("report.html"),
    options: Annotated[ReportOptions, Parameter(name="*")] = ReportOptions(),
) -> int:
    """Write one page to look through an output: figures, plots, every record with its images.

    It opens in any browser, loads nothing from anywhere, and takes your decisions by key,
    as a file for 'vqa-async export --decisions FILE'.

    Parameters
    ----------
    source
        OUT.jsonl of a run, finished or going on.
    output
        Page to write.
    """
    from vqa_async.cli.reporting import make_report

    return make_report(source, output, options)


@app.command(
    sort_key=7,
    group=RUN,
    help_epilogue=examples(
        "vqa-async prompts",
        "vqa-async prompts --style counting --pairs 3 --language German",
    ),
)
def prompts(
    *,
    prompting: PromptingFlags = Prompting(),
    system_prompt: Annotated[str | None, Parameter(group=ASK)] = None,
) -> int:
    """Show the question styles and domain packs; with options, the system prompt that they make.

    Parameters
    ----------
    system_prompt
        What the rest is added to. Default: that of the pipeline guide.
    """
    from vqa_async.cli.prompting import show_prompts

    return show_prompts(prompting, system_prompt)


@app.command(
    sort_key=1,
    group=START,
    help_epilogue=examples(
        "vqa-async init work", "cd work && vqa-async check data/image_vqa/sample_data.json"
    ),
)
def init(folder: Annotated[Path, Parameter(env_var=())] = Path(), /) -> int:
    """Make a workspace: vqa.toml, sample data with images, and the pipeline script image_vqa.py.

    Parameters
    ----------
    folder
        Where; made if it does not exist. Files that exist are left as they are.
    """
    from vqa_async.workspace import create_workspace, next_steps

    console = open_console()
    written = create_workspace(folder)
    say(console, f"{len(written)} files written." if written else "Everything is there already.")
    for path in written:
        emit(path)
    for line in next_steps(folder) if written else ():
        say(console, line)
    return 0


@app.command(
    sort_key=0,
    group=START,
    help_epilogue=examples("vqa-async demo", "vqa-async demo my-folder", "vqa-async demo --ocr"),
)
def demo(folder: Annotated[Path, Parameter(env_var=())] = Path("demo"), /, *, ocr: bool = False) -> int:
    """Try it on sample data: no key, no network.

    Starts the embedded endpoint, runs the sample data through it, exports the answers and writes
    a page to look through them.


    Parameters
    ----------
    folder
        Where to put the workspace and the results.
    ocr
        Read the text on the images too (extra 'ocr'). A stand-in: it is no vision model.
    """
    from vqa_async.cli.demonstration import run_demo

    return run_demo(folder, ocr=ocr)


app.command(  # by name: its options live with the server, which only this command loads
    "vqa_async.cli.serving:serve",
    name="serve",
    help="Run the embedded OpenAI-compatible endpoint: it measures pixels and is no model.",
    sort_key=6,
    group=SERVE,
    help_epilogue=examples(
        "vqa-async serve",
        "vqa-async serve --port 9000 --latency 0.4 --error-rate 503=0.1",
    ),
    default_parameter=Parameter(negative_bool=("no-",)),
)
app.command(  # by name, as is `serve`
    "vqa_async.cli.batching:batch",
    name="batch",
    help="Hand records to a provider's batch API, and fetch the answers later at a lower price.",
    sort_key=4,
    group=RUN,
)


@app.command(
    sort_key=8,
    group=ABOUT,
    help_epilogue=examples(
        'eval "$(vqa-async completion bash)"           this shell; or in ~/.bashrc',
        "vqa-async completion zsh > ~/.zfunc/_vqa-async",
        "vqa-async completion fish > ~/.config/fish/completions/vqa-async.fish",
    ),
)
def completion(shell: Literal["bash", "zsh", "fish"], /) -> int:
    """Print the completion of commands for a shell.

    Parameters
    ----------
    shell
        Which one.
    """
    emit(app.generate_completion(prog_name="vqa-async", shell=shell))
    return 0


for _flag in ("--help", "--version"):
    app[_flag].group = ABOUT
