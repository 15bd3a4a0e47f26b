"""The door for replies: whatever an endpoint sends becomes a completion or one error of ours.

The first byte of an input chooses the status, the rest is the body (and, for redirects, the new address).
"""

from __future__ import annotations

import random

import orjson
from json_mutation import mutated

from vqa_async.chat import EXCERPT_CHARS, error_in_ok_reply, read_completion, read_error, read_usage
from vqa_async.errors import RequestError, ResponseError, StatusError

STATUSES = (
    200,
    200,
    200,
    200,
    200,
    400,
    401,
    402,
    403,
    404,
    405,
    408,
    413,
    422,
    429,
    500,
    501,
    503,
    302,
    206,
)

INVISIBLE = "\0\u200b\u200c\u200d\u2060\ufeff"
"""An answer of these and blanks alone is none."""

MESSAGE_CHARS = 800
"""No error's sentence is longer. A failure line keeps 500 characters of it; this bounds what is held."""

_ANSWER = (
    b'{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":'
    b'"assistant","content":"- Q: What?\\n  A: This.","refusal":null,"tool_calls":[]},'
    b'"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":5}}'
)
SEEDS = [
    b"\0" + _ANSWER,
    b"\0" + _ANSWER.replace(b'"- Q: What?\\n  A: This."', b'[{"type":"text","text":"a"}]'),
    b"\0" + _ANSWER.replace(b"- Q: What?\\n  A: This.", b" \\u200b"),
    b"\0" + _ANSWER.replace(b'"refusal":null', b'"refusal":"no"'),
    b"\0" + _ANSWER.replace(b'"stop"', b'"length"').replace(b"What", b"\xc3\xa9\\ud83d\\ude00"),
    b'\0{"error":{"message":"slow down","type":"tokens","code":"rate_limit_exceeded"}}',
    b'\0{"choices":[{"error":{"code":502,"message":"lost"},"finish_reason":"error","message":{}}]}',
    b'\0data: {"choices":[]}\n\ndata: [DONE]',
    b"\0<!DOCTYPE html><html><head><title>x</title></head><body>Welcome</body></html>",
    b'\5{"error":{"message":"The model `m` does not exist","type":"invalid_request_error","code":null}}',
    b'\5{"error":"litellm.BadRequestError: invalid model name passed in model=m"}',
    b'\6{"error":"Unauthorized"}',
    b'\15{"detail":[{"loc":["body","messages"],"msg":"field required","type":"value_error"}]}',
    b'\16{"status":"failure","message":"quota","code":"insufficient_quota"}',
    b"\17<html><style>a{}</style><h1>502 Bad Gateway</h1></html>",
    b"\22https://elsewhere.example/v1/\x1b[31m",
]
TOKENS = [
    *(b"choices message content finish_reason error code type detail refusal tool_calls usage".split()),
    *(b"model text prompt_tokens completion_tokens function_call null true false stop length".split()),
    *(b"content_filter insufficient_quota model_not_found context_length_exceeded 429 1e999 -1".split()),
    *(b'{" ":" "," "} [{" "}] [[[[[[[[ ]]]]]]]] \\ud800 \\u0000 \\u202e <html <style> </style>'.split()),
    *(b"invalid model: ", b"the model ", b'"error":{"message":', b"\xe2\x80\x8b", b"\xef\xbb\xbf", b"data: "),
]

MOST_BYTES = 4096
"""Longest input worth trying."""


def mutate(data: bytes, rng: random.Random) -> bytes | None:
    """Another reply, JSON if this is; None where it is not."""
    body = mutated(data[1:], rng)
    return None if body is None else bytes([rng.randrange(256)]) + body


def check(data: bytes) -> None:
    """Hold the reader of replies to its promise.

    Raises:
        AssertionError: it broke it; so does any other exception.
    """
    status, body = STATUSES[data[0] % len(STATUSES)] if data else 200, data[1:]
    if status == 200:
        _check_ok_reply(body)
    else:
        location = body.decode("latin-1")
        error = read_error(status, body, retry_after_s=None, location=location)
        assert error.status == status
        check_error(error)


def _check_ok_reply(body: bytes) -> None:
    try:
        completion = read_completion(body)
    except (ResponseError, StatusError) as error:
        check_error(error)
    else:
        assert any(not char.isspace() and char not in INVISIBLE for char in completion.text)
        completion.text.encode()  # what is kept is written as UTF-8
        assert completion.usage.prompt_tokens >= 0
        assert completion.usage.completion_tokens >= 0
    assert min(read_usage(body).prompt_tokens, read_usage(body).completion_tokens) >= 0
    try:
        reply = orjson.loads(body)
    except orjson.JSONDecodeError:
        return
    if isinstance(reply, dict):
        check_error(error_in_ok_reply(reply))


def check_error(error: RequestError) -> None:
    """An error is a sentence of bounded length on one line, and nothing foreign hangs on it."""
    assert isinstance(error, ResponseError | StatusError)
    assert error.message
    assert error.message.isprintable()
    assert len(error.message) <= MESSAGE_CHARS
    assert error.excerpt.isprintable() or not error.excerpt
    assert len(error.excerpt) <= EXCERPT_CHARS
    assert error.code.isprintable()
    assert 0 < len(error.code) <= 80
    assert error.__context__ is None
