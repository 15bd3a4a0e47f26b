"""One record: images -> body -> permit -> transport -> reply -> pairs. Retry happens here, nowhere else.

course     one record on its way: what is asked, what happened so far
client     VLMClient: the way of a record to its Success or Failure
exchange   one request and its reply, and whom that concerns
hedging    the same request again where it takes too long
secrets    what must not appear in anything that is kept
"""

from vqa_async.client.client import VLMClient
from vqa_async.client.course import Save, Wait
from vqa_async.client.forms import Forms
from vqa_async.client.reasking import Reasks

__all__ = ["Forms", "Reasks", "Save", "VLMClient", "Wait"]
