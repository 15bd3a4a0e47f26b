"""The output files: append-only JSONL that survives a kill at any byte, and can be loaded as it stands.

    OUT.jsonl            successes, one object a line, in completion order
    OUT.failures.jsonl   failures; a later success or failure of the same record supersedes a line
    OUT.run.json         settings that change answers, state of the last run; replaced atomically
    OUT.jsonl.lock       held while a run writes
    OUT.jsonl.torn-<time>  an unfinished end that was cut off
    OUT.damaged.jsonl    lines that `--repair` took out
    OUT.batches.jsonl    what was handed to a provider's batch API, noted before and after each step

Inside, from the bottom up:

    json_text   any value as JSON text           lock      one run at a time
    codec       result <-> line                  writer    group commit
    scanning    good, torn, damaged lines        paths     where all of it is
    replacing   files replaced in one step       runfile   settings and state
    mending     cutting, taking out, compacting  journal   one run
    replay      what is finished                 survey    a look from outside
    kinds       failures called by name                  batch_log  batches that are under way
"""

from vqa_async.journal.batch_log import BatchLog, Part, Submission
from vqa_async.journal.journal import Journal
from vqa_async.journal.paths import JournalPaths
from vqa_async.journal.survey import Survey, survey

__all__ = ["BatchLog", "Journal", "JournalPaths", "Part", "Submission", "Survey", "survey"]
