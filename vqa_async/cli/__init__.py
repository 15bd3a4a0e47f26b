"""The command line: arguments -> Config -> api. The only place that prints.

    startup        streams, early signals and open files, before anything heavy is loaded
    app            the commands, their flags and help
    layers         values that no flag gives: environment and settings file
    running        `run`, with its `progress` display and `signals`
    checking       `check`: its `findings` in the input, `asking` the endpoints, the `projection` onto a run
    standing       `status`
    exporting      `export`
    batching       `batch`: submit, status, fetch, cancel
    last_input     the input of the last run, read once more for these two
    demonstration  `demo`
    serving        `serve`
    console        what people read, on stderr
    texts          what is said at the end of a run
    exits          the exit codes

stdout carries results (paths, `--json`), stderr all else.
"""

from __future__ import annotations

import sys

from vqa_async.cli.startup import Interrupted, end_on_signals, open_streams, raise_on_signals


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    open_streams()
    try:
        raise_on_signals()
        from vqa_async.cli.app import run_command

        code = run_command(sys.argv[1:] if arguments is None else arguments)
        end_on_signals()
    except Interrupted as signal:
        end_on_signals()
        print("vqa-async: interrupted. Run the same command again to go on.", file=sys.stderr)
        code = 128 + signal.number
    sys.exit(code)
