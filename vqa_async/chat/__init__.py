"""The chat-completions protocol: a record's messages -> request body, reply bytes -> completion or error.

No network, no clock: bytes and values in, bytes and values out.

    body       a request body in pieces, the images by reference
    form       messages -> body; what is the same for every record is serialised once
    replies    the body of a 200 -> completion
    refusals   any other reply, and errors in a 200 -> one error of errors.py
    excerpts   the start of what somebody sent, fit to be shown

What the many servers that call themselves OpenAI-compatible really send (error as a string, as a list, in
``detail``, in a 200) is read here only.
"""

from vqa_async.chat.body import Body, opening_of
from vqa_async.chat.excerpts import EXCERPT_CHARS, excerpt, printable
from vqa_async.chat.form import RequestForm
from vqa_async.chat.refusals import error_in_ok_reply, read_error
from vqa_async.chat.replies import read_completion, read_usage

__all__ = [
    "EXCERPT_CHARS",
    "Body",
    "RequestForm",
    "error_in_ok_reply",
    "excerpt",
    "opening_of",
    "printable",
    "read_completion",
    "read_error",
    "read_usage",
]
