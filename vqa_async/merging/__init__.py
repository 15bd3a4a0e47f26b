"""One output out of those that the shards of an input left: exact, in one step, in flat memory.

parts    which outputs they are, and whether they belong together
lines    every line of them that counts, repeats found
merge    the merged output, put in its place
"""

from vqa_async.merging.merged import MergeSummary, merge
from vqa_async.merging.parts import named_parts

__all__ = ["MergeSummary", "merge", "named_parts"]
