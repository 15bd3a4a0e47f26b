"""An output looked through once more: which pairs are kept, and pairs as records for the verifying model.

scores    OUT.checks.jsonl -> agreement by pair, at some 15 bytes each
pairs     OUT.jsonl -> a source of records, one for each pair that is to be verified
review    kept and dropped, counted, in input order
"""

from vqa_async.review.pairs import pairs_source, scored
from vqa_async.review.review import open_checks, review
from vqa_async.review.scores import checks_output

__all__ = ["checks_output", "open_checks", "pairs_source", "review", "scored"]
