"""Records in, results out, for as long as it takes.

    source --producer--> queue --workers--> client.complete --save--> journal (or the caller of `stream`)

Inside: `handover` (the queue), `run` (the tasks of one run), `engine` (what callers hold).
"""

from vqa_async.engine.engine import Engine, RunSummary

__all__ = ["Engine", "RunSummary"]
