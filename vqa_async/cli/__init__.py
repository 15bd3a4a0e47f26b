"""The command line: arguments -> Config -> api. The only place that prints.

`app` has the commands, `progress` the display while a run goes on, `signals` Ctrl-C, `texts` what is said
at the end. stdout carries results (paths, `--json`), stderr all else.
"""

from __future__ import annotations

import sys


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    from vqa_async.cli.app import run_command

    sys.exit(run_command(sys.argv[1:] if arguments is None else arguments))
