"""The class names of the DataFlow-MM image VQA guide and its neighbours, over this engine.

    storage     files of a pipeline: the first input, then one for each step
    serving     the API, and the calls that operators make on it
    step_files  the answers of a step as rows, in the order of its input
    operators   what may be asked: the row's conversation, a list of questions, a template, a caption
    pipeline    the guide's pipeline as one object

A pipeline written for that guide runs with its imports changed to this module and nothing else. Step files
are named as there, ``{prefix}_step{n}.{type}``; under each of them lies a journal
(``{prefix}_step{n}.journal.jsonl`` and its neighbours), so that a pipeline that was interrupted goes on
where it stopped, and pays for no answer twice. The next step reads ``{prefix}_step{n}.rows.jsonl``, the rows
with all their fields in the order of the input (with ``cache_type="jsonl"``, the step file itself).

A failed item is ``None`` in a returned list and a line in the journal's failures, counted in the log; never
a text that looks like an answer.
"""

from vqa_async.dataflow.operators import (
    BatchVQAGenerator,
    ImageCaptionGenerator,
    PromptedVQAGenerator,
    PromptTemplatedVQAGenerator,
)
from vqa_async.dataflow.pipeline import ImageVQAPipeline
from vqa_async.dataflow.serving import APIVLMServing_openai
from vqa_async.dataflow.storage import FileStorage

__all__ = [
    "APIVLMServing_openai",
    "BatchVQAGenerator",
    "FileStorage",
    "ImageCaptionGenerator",
    "ImageVQAPipeline",
    "PromptTemplatedVQAGenerator",
    "PromptedVQAGenerator",
]
