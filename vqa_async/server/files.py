"""Files that clients upload and fetch, as OpenAI's /v1/files keeps them: on disk, in a folder of their own.

The folder is made with the first file and goes with the server. Nothing is ever held in memory as a whole.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import BodyPartReader, web

from vqa_async.server.options import ServerOptions
from vqa_async.server.refusals import Refusal

_CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file. ``path`` is where its content is."""

    id: str
    filename: str
    purpose: str
    bytes: int
    created_at: int
    path: Path

    def form(self) -> dict[str, Any]:
        """The file as the API shows it."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.bytes,
            "created_at": self.created_at,
            "expires_at": None,
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
            "status_details": None,
        }


class FileStore:
    """The files of one server."""

    def __init__(self, options: ServerOptions) -> None:
        self._most_bytes = options.batch_max_bytes
        self._folder: Path | None = None
        self._files: dict[str, StoredFile] = {}

    def close(self) -> None:
        """Remove all of them."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._files.clear()

    def place(self) -> Path:
        """Where a new file may be written."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="vqa-serve-"))
        return self._folder / uuid.uuid4().hex

    def add(self, path: Path, filename: str, purpose: str) -> StoredFile:
        """Take ``path``, which was written to its end, for a file."""
        id = f"file-{uuid.uuid4().hex[:24]}"
        size = path.stat().st_size
        stored = StoredFile(id, filename, purpose, size, int(time.time()), path)
        self._files[id] = stored
        return stored

    def get(self, id: str) -> StoredFile:
        """The file with this id.

        Raises:
            Refusal: 404, there is none.
        """
        if id not in self._files:
            raise Refusal(404, f"No such File object: {id[:100]}", param="id")
        return self._files[id]

    def delete(self, id: str) -> dict[str, Any]:
        """Remove a file; what the API says about that."""
        stored = self.get(id)
        del self._files[id]
        stored.path.unlink(missing_ok=True)
        return {"id": id, "object": "file", "deleted": True}

    def newest_first(self, purpose: str = "") -> list[StoredFile]:
        """All files, or those of one purpose."""
        return [file for file in reversed(self._files.values()) if purpose in ("", file.purpose)]

    async def receive(self, request: web.Request) -> StoredFile:
        """The file in a multipart upload, written as it arrives.

        Raises:
            Refusal: it is no such upload, or too large.
        """
        if not request.content_type.startswith("multipart/"):
            raise Refusal(400, "A file is uploaded as multipart/form-data.", param="file")
        path = self.place()
        with contextlib.ExitStack() as unfinished:
            unfinished.callback(path.unlink, missing_ok=True)
            stored = await self._receive(request, path)
            unfinished.pop_all()
            return stored

    async def _receive(self, request: web.Request, path: Path) -> StoredFile:
        purpose, filename = "", ""
        try:
            async for part in await request.multipart():
                if not isinstance(part, BodyPartReader):
                    raise Refusal(400, "A multipart upload must not hold another one.")
                if part.name == "purpose":
                    purpose = (await part.text())[:100]
                elif part.name == "file":
                    filename = part.filename or "upload"
                    await self._write(part, path)
        except (ValueError, AssertionError):
            raise Refusal(400, "The multipart body cannot be read.") from None
        if not filename:
            raise Refusal(400, "The upload has no part named 'file'.", param="file")
        if purpose != "batch":
            raise Refusal(400, "This endpoint takes files of the purpose 'batch' only.", param="purpose")
        return self.add(path, filename, purpose)

    async def _write(self, part: BodyPartReader, path: Path) -> None:
        size = 0
        with path.open("wb") as file:
            while chunk := await part.read_chunk(_CHUNK):
                size += len(chunk)
                if size > self._most_bytes:
                    said = f"The file is larger than {self._most_bytes} bytes, which a batch may have."
                    raise Refusal(413, said, param="file", code="file_too_large")
                file.write(chunk)
