"""A provider's batch API instead of live requests: the same records and journal, at half the price, later.

batches     Batches: submit, look, fetch, cancel
desk        what the rest works with: options, client, provider
stored      the options of a submission, written down
provider    the HTTP calls, with retries
records     a record as a line beside the requests, and its custom_id
filling     records -> files of requests
sending     a file -> a batch, each step noted before and after it, so that nothing is handed in twice
submitting  an input -> batches
results     a line of a file of results -> a reply, or why there is none
fetching    batches that are over -> the journal
"""

from vqa_async.batches.batches import Batches
from vqa_async.batches.desk import Desk
from vqa_async.batches.fetching import Fetched, PartState
from vqa_async.batches.provider import Provider
from vqa_async.batches.stored import stored_config
from vqa_async.batches.submitting import Submitted

__all__ = ["Batches", "Desk", "Fetched", "PartState", "Provider", "Submitted", "stored_config"]
