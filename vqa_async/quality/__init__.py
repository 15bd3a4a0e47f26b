"""What is wrong with a question-answer pair, as named flags; what is kept and what is dropped, and why.

    phrases      the words by which refusals, leaks and questions are told, in several languages
    pair_checks  the checks of the pairs of one answer, without and with the extra `quality`
    run_checks   the checks against all other pairs of a run, in bounded memory
    agreement    two answers to one question, or a judge's verdict -> a score from 0 to 1
    verdicts     how a pair is put to the verifying model, and the id under which that is kept
    keeping      a line of an output -> the pairs that stay, and the reasons for which others go
    tally        kept and dropped, counted

No file, no clock, no network: text and values in, values out.
"""

from vqa_async.quality.keeping import Checks, Kept, kept_pairs
from vqa_async.quality.pair_checks import PairChecks
from vqa_async.quality.tally import Review

__all__ = ["Checks", "Kept", "PairChecks", "Review", "kept_pairs"]
