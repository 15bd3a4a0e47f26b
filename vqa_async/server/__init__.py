"""The embedded endpoint: a real OpenAI-compatible server that measures pixels and says that it is no model.

For the demo, tests and benchmarks: it decodes every image it is sent, answers from what the pixels say,
and behaves badly to order (latency, limits, errors, broken replies).

    options     every option, once
    question    request body -> Question, strictly
    wanted      the form that the answer is wanted in
    looks       image -> Look
    reader      image -> lines of text, where that is ordered (extra 'ocr')
    lines       pieces of text and their places -> lines in reading order
    colours     RGB -> name
    gallery     looks already taken; decoding in threads
    filling     a JSON schema and pairs -> a value that fits
    answers     Looks -> question-answer pairs -> text
    tokens      plausible token counts
    completion  text -> the JSON of a chat completion
    faults      which request gets which fault
    pace        how long an answer takes
    rates       requests and tokens per minute
    seats       how many at once
    statistics  counters
    refusals    errors as OpenAI sends them
    replies     ways to send a reply, proper and not
    files       files that were uploaded, on disk
    batches     batches of requests, and their results
    batch_routes  the routes of both
    app         the routes
    running     the socket: running_server, serve_forever
"""

from vqa_async.server.options import ServerOptions
from vqa_async.server.running import RunningServer, running_server, serve_forever
from vqa_async.server.statistics import ServerStatistics

__all__ = ["RunningServer", "ServerOptions", "ServerStatistics", "running_server", "serve_forever"]
