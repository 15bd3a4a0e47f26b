"""Files of requests, and beside each the file that says which record each request is for."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import orjson

from vqa_async.batches.records import custom_id, encode
from vqa_async.chat import Body
from vqa_async.config import BatchOptions
from vqa_async.errors import RecordError
from vqa_async.journal.replacing import open_fresh, sync_file, sync_folder
from vqa_async.models import Record

ENDPOINT = "/v1/chat/completions"
"""Where the provider sends the requests of a batch; a name, whatever its own address looks like."""


class RequestFile:
    """A file that is being filled; what a killed process left of it is thrown away.

    Args:
        requests, records: the two files.
        options: how much may be in one.
        opening: how a request for the endpoint's model begins.

    Attributes:
        count: requests in it.
        size: bytes of them.
    """

    def __init__(self, requests: Path, records: Path, options: BatchOptions, opening: bytes) -> None:
        self._options = options
        self._opening = opening
        self._folder = requests.parent
        self._requests: BinaryIO = open_fresh(requests)
        self._records: BinaryIO = open_fresh(records)
        self.count = 0
        self.size = 0

    def add(self, record: Record, body: Body) -> bool:
        """Add a request; False where the file is full without it.

        Raises:
            RecordError: it is larger than a file may be.
            OSError: it cannot be written.
        """
        name = custom_id(record)
        head = b'{"custom_id":%b,"method":"POST","url":"%b","body":' % (orjson.dumps(name), ENDPOINT.encode())
        pieces, size = body.for_model(self._opening)
        size += len(head) + 2
        if size > self._options.batch_bytes:
            raise RecordError(
                f"Its request has {size:,} bytes, more than a file of a batch may have (--batch-bytes): "
                "shrink the images (--max-side), or ask for it live.",
                code="request_too_large",
            )
        if self.count == self._options.batch_requests or self.size + size > self._options.batch_bytes:
            return False
        self._requests.writelines((head, *pieces, b"}\n"))
        self._records.write(encode(name, record, body.digest))
        self.count += 1
        self.size += size
        return True

    def seal(self) -> None:
        """Both files are whole; force them to the disk.

        Raises:
            OSError: they cannot be written.
        """
        for file in (self._requests, self._records):
            with file:
                sync_file(file)
        sync_folder(self._folder)

    def drop(self) -> None:
        """Let go of both; the next that is filled writes over them."""
        self._requests.close()
        self._records.close()
