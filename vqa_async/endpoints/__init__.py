"""Several base URLs as one: which endpoint takes the next request, and when.

state     one endpoint: address, headers, and how it fares
pool      hands out permits: who may send next, and where to
permit    one permit, and the place in the line of who waits for it
outage    whether any endpoint is left that answers
"""

from vqa_async.endpoints.outage import CHECK_START_AFTER
from vqa_async.endpoints.permit import Permit
from vqa_async.endpoints.pool import EndpointPool
from vqa_async.endpoints.state import IDEMPOTENCY_KEY, EndpointState, EndpointStatistics, endpoint_state

__all__ = [
    "CHECK_START_AFTER",
    "IDEMPOTENCY_KEY",
    "EndpointPool",
    "EndpointState",
    "EndpointStatistics",
    "Permit",
    "endpoint_state",
]
