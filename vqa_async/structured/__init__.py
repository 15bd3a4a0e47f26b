"""Answers in a form that was agreed on: how it is asked for, whether it was kept to, what is said if not.

    schema     the schemas: the usual one, a user's own; a strict version where there is one
    asking     the forms in which one can be asked for, and the words of each
    refusing   whether an error is about the form and not about the record
    parsing    text -> JSON value, mended where nothing is lost by it
    reading    completion -> pairs and value, or what is wrong with it

No network, no file.
"""

from vqa_async.structured.asking import MODES, Mode, ask_again, parameters_of, words_of
from vqa_async.structured.reading import Reading, Structure, Unfit
from vqa_async.structured.refusing import refuses_form, surely_refuses_form

__all__ = [
    "MODES",
    "Mode",
    "Reading",
    "Structure",
    "Unfit",
    "ask_again",
    "parameters_of",
    "refuses_form",
    "surely_refuses_form",
    "words_of",
]
