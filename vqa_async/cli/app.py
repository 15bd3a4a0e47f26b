"""The commands. Each turns its arguments into a Config and calls one function of the package.

Flags come from the option classes of config.py: a field's name is the flag, its docstring the help. Their
values are taken from the flag, the environment (VQA_<NAME>), the file given by --config, or the default, in
this order.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Group, Parameter
from cyclopts.config import Dict, Env, Toml
from rich.console import Console
from rich.text import Text

from vqa_async.cli.exits import EXIT_STOPPED, EXIT_USAGE
from vqa_async.config import (
    Columns,
    Config,
    Endpoint,
    ImageOptions,
    JournalOptions,
    Limits,
    RetryPolicy,
    Sampling,
    Timeouts,
)
from vqa_async.errors import ConfigError, DiskError, JournalError, VQAError

Format = Literal["auto", "json", "jsonl", "folder"]

_ASK = Group("What to ask", sort_key=1)
_WHERE = Group("Where", sort_key=2)
_PACE = Group("Pace and patience", sort_key=3)
_IMAGES = Group("Images", sort_key=4)
_RESULTS = Group("Results and resuming", sort_key=5)

app = App(
    name="vqa-async",
    help="Images in, question-answer data out, through any OpenAI-compatible vision API.",
    help_epilogue="Try it without an endpoint or a key:  vqa-async demo",
    version=lambda: _version(),
    help_format="plaintext",
    default_parameter=Parameter(
        negative_bool=(), negative_iterable=(), show_env_var=False, show_default=lambda value: _shown(value)
    ),
    result_action="return_value",
)


def _version() -> str:
    from vqa_async import __version__

    return __version__


def _shown(value: Any) -> str | None:
    """A default as the help shows it; what is off or left to the endpoint speaks for itself in the text."""
    return None if value in (None, "", (), False) and value != 0 else _one_line(value)


def _one_line(value: Any) -> str:
    text = ", ".join(value) if isinstance(value, tuple) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def run_command(arguments: Sequence[str]) -> int:
    """Run one command line; returns its exit code. Prints one sentence where it cannot be done."""
    err = Console(stderr=True, highlight=False)
    try:
        app.config = _layers(arguments)
        code = app(arguments, exit_on_error=False, print_error=False, error_console=err)
        return code if isinstance(code, int) else 0
    except CycloptsError as error:
        return _refused(err, f"{error} See 'vqa-async {_command(arguments)}--help'.", EXIT_USAGE)
    except VQAError as error:
        stopped = not isinstance(error, ConfigError | JournalError) or isinstance(error, DiskError)
        return _refused(err, error.message, EXIT_STOPPED if stopped else EXIT_USAGE)
    except BrokenPipeError:  # stdout was closed, as by `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except KeyboardInterrupt:
        return 130


def _refused(console: Console, message: str, code: int) -> int:
    from vqa_async.chat import printable

    console.print(Text(f"vqa-async: {printable(message)}", style="red"), soft_wrap=True)
    return code


def _command(arguments: Sequence[str]) -> str:
    return f"{arguments[0]} " if arguments and arguments[0] in app else ""


def _layers(arguments: Sequence[str]) -> tuple[Any, ...]:
    """Where values come from that no flag gives."""
    layers: list[Any] = [Env("VQA_", command=False, show=False)]
    if url := os.environ.get("OPENAI_BASE_URL", "").strip():
        layers.append(
            Dict(
                {"base_url": [url]},
                allow_unknown=True,
                use_commands_as_keys=False,
                source="OPENAI_BASE_URL",
            )
        )
    if path := _config_path(arguments):
        if not Path(path).is_file():
            raise ConfigError(f"The settings file {path} does not exist. Check --config.")
        layers.append(Toml(path, must_exist=True, use_commands_as_keys=False))
    return tuple(layers)


def _config_path(arguments: Sequence[str]) -> str:
    """The value of --config, which decides how the rest is read and so is looked for first."""
    for at, argument in enumerate(arguments):
        if argument == "--config":
            return arguments[at + 1] if at + 1 < len(arguments) else ""
        if argument.startswith("--config="):
            return argument.partition("=")[2]
    return ""


@app.command(sort_key=2)
def run(
    input: Annotated[str, Parameter(env_var=())],
    /,
    *,
    output: Annotated[Path, Parameter(alias="-o", group=_RESULTS, env_var=())],
    limit: Annotated[int | None, Parameter(group=_ASK)] = None,
    format: Annotated[Format, Parameter(group=_ASK)] = "auto",
    config: Annotated[Path | None, Parameter(group=_WHERE)] = None,
    json: Annotated[bool, Parameter(group=_RESULTS)] = False,
    quiet: Annotated[bool, Parameter(alias="-q", group=_RESULTS)] = False,
    endpoint: Annotated[Endpoint, Parameter(name="*", group=_WHERE)] = Endpoint(),
    sampling: Annotated[Sampling, Parameter(name="*", group=_ASK)] = Sampling(),
    columns: Annotated[Columns, Parameter(name="*", group=_ASK)] = Columns(),
    images: Annotated[ImageOptions, Parameter(name="*", group=_IMAGES)] = ImageOptions(),
    limits: Annotated[Limits, Parameter(name="*", group=_PACE)] = Limits(),
    timeouts: Annotated[Timeouts, Parameter(name="*", group=_PACE)] = Timeouts(),
    retry: Annotated[RetryPolicy, Parameter(name="*", group=_PACE)] = RetryPolicy(),
    journal: Annotated[JournalOptions, Parameter(name="*", group=_RESULTS)] = JournalOptions(),
) -> int:
    """Answer every record of INPUT. The same command again goes on where it stopped.

    Parameters
    ----------
    input
        JSON array, JSONL file, folder of images, or - for standard input.
    output
        JSONL file for the answers; failures, settings and lock stand beside it.
    limit
        Only the first so many records.
    format
        What INPUT is, where its content does not tell.
    config
        TOML file with any of these options, by their names with _ for -.
    json
        Print the summary as JSON on stdout.
    quiet
        Say only what needs attention.
    """
    from vqa_async.cli.running import run_job

    options = Config(endpoint, sampling, columns, images, limits, timeouts, retry, journal)
    return run_job(options, input, output, limit=limit, format=format, json=json, quiet=quiet)


@app.command(sort_key=3)
def check(
    input: Annotated[str, Parameter(env_var=())],
    /,
    *,
    limit: Annotated[int | None, Parameter(group=_ASK)] = None,
    format: Annotated[Format, Parameter(group=_ASK)] = "auto",
    prompt: Annotated[str, Parameter(group=_ASK)] = "",
    json: Annotated[bool, Parameter(group=_RESULTS)] = False,
    columns: Annotated[Columns, Parameter(name="*", group=_ASK)] = Columns(),
    images: Annotated[ImageOptions, Parameter(name="*", group=_IMAGES)] = ImageOptions(),
) -> int:
    """Look at every record and image of INPUT, estimate the tokens, spend nothing.

    Parameters
    ----------
    input
        JSON array, JSONL file, folder of images, or - for standard input.
    limit
        Only the first so many records.
    format
        What INPUT is, where its content does not tell.
    prompt
        Question for rows without a conversation.
    json
        Print the findings as JSON on stdout.
    """
    from vqa_async.cli.checking import check_input

    return check_input(input, columns, images, prompt=prompt, limit=limit, format=format, json=json)


@app.command(sort_key=4)
def status(output: Annotated[Path, Parameter(env_var=())], /, *, json: bool = False) -> int:
    """How an output stands: done, failed by type, left, tokens, what stopped it.

    Parameters
    ----------
    output
        OUT.jsonl of a run, finished or going on.
    json
        Print it as JSON on stdout.
    """
    from vqa_async.cli.standing import show_status

    return show_status(output, json=json)


@app.command(sort_key=5)
def export(
    source: Annotated[Path, Parameter(env_var=())],
    /,
    *,
    output: Annotated[Path, Parameter(alias="-o", env_var=())],
    format: Literal["json", "jsonl", ""] = "",
) -> int:
    """Write the answers of an output to one file, in the order of the input.

    Parameters
    ----------
    source
        OUT.jsonl of a run.
    output
        File to write.
    format
        json: an array of the input's fields and the answer. jsonl: everything. Default: by the suffix.
    """
    from vqa_async.export import export as write_export

    count = write_export(source, output, format=format)
    _say(f"{count:,} answers, in input order.")
    print(output)
    return 0


@app.command(sort_key=1)
def init(folder: Annotated[Path, Parameter(env_var=())] = Path(), /) -> int:
    """Make a workspace: vqa.toml, sample data with images, and the pipeline script image_vqa.py.

    Parameters
    ----------
    folder
        Where; made if it does not exist. Files that exist are left as they are.
    """
    from vqa_async.workspace import create_workspace

    written = create_workspace(folder)
    _say(f"{len(written)} files written." if written else "Everything is there already.")
    for path in written:
        print(path)
    return 0


@app.command(sort_key=0)
def demo(folder: Annotated[Path, Parameter(env_var=())] = Path("demo"), /) -> int:
    """Start the embedded endpoint, run the sample data through it, export JSON. No key, no network.

    Parameters
    ----------
    folder
        Where to put the workspace and the results.
    """
    from vqa_async.cli.demonstration import run_demo

    return run_demo(folder)


app.command(  # by name: its options live with the server, which only this command loads
    "vqa_async.cli.serving:serve",
    name="serve",
    help="Run the embedded OpenAI-compatible endpoint: it measures pixels and is no model.",
    sort_key=6,
    default_parameter=Parameter(negative_bool=("no-",)),
)


def _say(message: str) -> None:
    Console(stderr=True, highlight=False).print(message)
