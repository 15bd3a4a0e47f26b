"""The live page of a run: the look of a report, while the run goes on. On this machine alone.

    watcher   hears of results: counts, and keeps the last few
    images    small copies for it
    view      what the page shows of that, once a second at most
    doorman   who may look: an address with a secret in it, asked for by its own name
    app       the routes
    board     all of it on a socket, beside an engine

A run without it pays nothing. With it, an event costs some microseconds of counting, and pages are made only
when somebody looks.
"""

from vqa_async.dashboard.board import Dashboard

__all__ = ["Dashboard"]
