"""The output files: append-only JSONL that survives a kill at any byte, and can be loaded as it stands.

    OUT.jsonl            successes, one object a line, in completion order
    OUT.failures.jsonl   failures; a later success or failure of the same record supersedes a line
    OUT.run.json         settings that change answers, state of the last run; replaced atomically
    OUT.jsonl.lock       held while a run writes
    OUT.torn-<time>      an unfinished end that was cut off
    OUT.damaged.jsonl    lines that `--repair` took out

Inside: `codec` (result <-> line), `replay` (what is finished, what is damaged), `writer` (group commit),
`runfile` (settings and state), `journal` (these four together), `survey` (a look from outside).
"""

from vqa_async.journal.journal import Journal, JournalPaths
from vqa_async.journal.survey import Survey, survey

__all__ = ["Journal", "JournalPaths", "Survey", "survey"]
