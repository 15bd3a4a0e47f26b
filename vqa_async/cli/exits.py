"""What the exit codes mean. 128 + n is added to them by signal n, which drains a run first."""

EXIT_OK = 0
"""Every record of the input has an answer."""

EXIT_SOME_FAILED = 1
"""The run finished, some records failed."""

EXIT_USAGE = 2
"""Wrong usage, settings, input or output files; nothing was sent."""

EXIT_STOPPED = 3
"""The run stopped early; the same command resumes it."""

EXIT_CLOSED = 141
"""Nobody reads standard output any more, as with `| head`: what a shell reports after SIGPIPE (128 + 13)."""
