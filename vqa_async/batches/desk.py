"""What submitting and fetching work with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vqa_async.batches.provider import Provider
from vqa_async.client import VLMClient
from vqa_async.config import Config


@dataclass(frozen=True, slots=True)
class Desk:
    """What is needed to hand records in and to take their answers out.

    Attributes:
        config: all options.
        client: makes requests and reads replies.
        provider: the batch API.
        notify: told in sentences what the user should know.
    """

    config: Config
    client: VLMClient
    provider: Provider
    notify: Callable[[str], None]
