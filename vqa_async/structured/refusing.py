"""Whether an error is about the form in which an answer was asked for, and not about the record."""

from __future__ import annotations

import re

from vqa_async.errors import RequestError, StatusError

_STATUSES = (400, 404, 422)
_ABOUT_THE_RECORD = ("content_filter", "content_policy_violation", "context_length_exceeded")

_FORM = re.compile(
    r"response[_ ]?format|json[_ ]?(?:schema|object|mode)|structured[_ ]?outputs?|guided[_ ]?\w*|grammar",
    re.IGNORECASE,
)
_PARAMETER = re.compile(
    r"(?:un(?:known|supported|recognized|recognised|expected|permitted)|not (?:supported|permitted|allowed)|"
    r"extra|additional|requested)\W+(?:\w+\W+){0,3}?"
    r"(?:parameter|field|argument|propert|key|keyword|input)|"
    r"(?:parameter|field|argument|propert|key|keyword|input)\w*\W+(?:\S+\s+){0,4}?"
    r"(?:un(?:known|supported|recognized|recognised|expected)|not (?:supported|permitted|allowed))|"
    r"\bnot supported\b",
    re.IGNORECASE,
)
_OTHER = re.compile(
    r"image|vision|modal|model|max_(?:completion_)?tokens|temperature|seed|context|role|system", re.IGNORECASE
)


def refuses_form(error: RequestError) -> bool:
    """Whether ``error`` may say that the endpoint does not take ``response_format``, or not of this kind.

    Never an error of the server (5xx): those have all kinds of causes, and are tried again anyway.
    """
    if not _may_be_about_form(error):
        return False
    return _names_form(error) or (
        _PARAMETER.search(error.message) is not None and _OTHER.search(_said(error)) is None
    )


def surely_refuses_form(error: RequestError) -> bool:
    """Whether ``error`` names what was refused, so that no other record need try."""
    return _may_be_about_form(error) and _names_form(error)


def _may_be_about_form(error: RequestError) -> bool:
    return (
        isinstance(error, StatusError) and error.status in _STATUSES and error.code not in _ABOUT_THE_RECORD
    )


def _names_form(error: RequestError) -> bool:
    return _FORM.search(_said(error)) is not None


def _said(error: RequestError) -> str:
    """What the server said: our own sentence around it names models and addresses."""
    return error.excerpt if isinstance(error, StatusError) else ""
