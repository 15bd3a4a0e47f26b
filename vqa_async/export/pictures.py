"""The images of an export: where they are seen from it, their bytes, their copies."""

from __future__ import annotations

import os
import posixpath
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b, sha256
from pathlib import Path

import pybase64

from vqa_async.config import ImageOptions
from vqa_async.errors import ImageError, InputError
from vqa_async.models import ImageRef
from vqa_async.sources import StoredImages

FOLDER = "images"

_SUFFIXES = {"JPEG": "jpg", "PNG": "png", "GIF": "gif", "WEBP": "webp", "BMP": "bmp"}
_SUFFIXES |= {"TIFF": "tif", "AVIF": "avif", "HEIF": "heic"}
_MIMES = {"jpg": "image/jpeg", "tif": "image/tiff"}
_OPTIONS = ImageOptions()


@dataclass(frozen=True, slots=True)
class Picture:
    """One image as an export has it.

    Attributes:
        reference: path, URL or data: URI, as it is written into a row.
        data: the bytes of the image file; None where it is only referred to.
        suffix: what files of its kind end in, without the dot; "" where its bytes were not read.
    """

    reference: str
    data: bytes | None = None
    suffix: str = ""

    @property
    def name(self) -> str:
        """A file name that says what is in it: equal names, equal content."""
        return f"{blake2b(self.data or b'', digest_size=16).hexdigest()}.{self.suffix}"

    @property
    def data_uri(self) -> str:
        """It as a ``data:`` URI; as its reference, where its bytes were not read."""
        if self.data is None:
            return self.reference
        mime = _MIMES.get(self.suffix, f"image/{self.suffix}")
        return f"data:{mime};base64,{pybase64.b64encode_as_string(self.data)}"


def image_file(ref: ImageRef, folder: str) -> bytes:
    """The bytes of the image file that ``ref`` leads to. Blocks; opens no connection.

    Raises:
        ImageError: it cannot be read, or is no image.
    """
    from vqa_async.images.files import locate, read  # with them comes the imaging library

    source = locate(ref, folder, _OPTIONS)
    if source.kind == "url":
        raise ImageError(f"Image {source.name} is a URL, which is not downloaded.", code="url_not_allowed")
    data, _ = read(source, _OPTIONS)
    try:
        _suffix(data)
    except ImageError as error:
        raise ImageError(f"Image {source.name} {error.message}", code=error.code) from None
    return data


def _suffix(data: bytes) -> str:
    from vqa_async.images.header import sniff

    return _SUFFIXES[sniff(data)]


class Pictures:
    """Makes images ready for one export.

    Args:
        folder: where relative references are looked for first; "" for the working directory alone.
        target: folder that the export stands in.
        mode: "", copy, link or embed.
        absolute: write paths from the root on.

    Attributes:
        unfound: references that lead nowhere, as far as they were looked at.
        copies: files made or found in ``images/``.
    """

    def __init__(self, folder: str, target: Path, mode: str, *, absolute: bool) -> None:
        self._folder = folder
        self._target = target
        self._mode = mode
        self._absolute = absolute
        self.unfound = 0
        self._stored = StoredImages(folder)
        self.copies: set[str] = set()

    def picture(self, ref: ImageRef) -> Picture:
        """``ref`` for a row of the export; a copy is made where that is wanted.

        Raises:
            ImageError: it cannot be read.
            OSError: its copy cannot be written.
        """
        if ref.kind == "url":
            return Picture(str(ref.value))
        if not self._mode:
            return Picture(self._reference(ref))
        data = self._file(ref)
        picture = Picture(str(ref.value) if ref.kind == "path" else "", data, _suffix(data))
        if self._mode == "embed":
            return picture
        self._keep(picture, ref)
        return Picture(self._seen(f"{FOLDER}/{picture.name}"), suffix=picture.suffix)

    def same(self, ref: ImageRef) -> Iterator[str]:
        """What tells that two references are of one image: where they lead; the content, where it is read."""
        if ref.kind == "path":
            yield f"path {os.path.abspath(os.path.join(self._folder, str(ref.value)))}"
        else:
            yield f"{ref.kind} {_digest(ref.value)}"
        if self._mode and ref.kind != "url":
            with suppress(ImageError):
                yield f"content {_digest(self._file(ref))}"

    def close(self) -> None:
        """Close the input that embedded images are read from."""
        self._stored.close()

    def _file(self, ref: ImageRef) -> bytes:
        """The bytes of the image file, which may stand in a file of the input.

        Raises:
            ImageError: it cannot be read, or is no image.
        """
        try:
            stored = (
                self._stored.get(ref.value) if isinstance(ref.value, str) and ref.kind == "path" else None
            )
        except InputError as error:
            raise ImageError(f"Image {ref.value!s}: {error.message}", code="file_not_found") from None
        return image_file(ref if stored is None else ImageRef("bytes", stored), self._folder)

    def _reference(self, ref: ImageRef) -> str:
        if ref.kind == "bytes":
            raise ImageError(
                "An image is in the input itself: use --with-images.", code="bad_image_reference"
            )
        value = str(ref.value)
        if ref.kind == "data":
            return value
        places = (os.path.join(self._folder, value), value)
        found = next((place for place in places if os.path.exists(place)), "")
        self.unfound += not found
        return self._seen(os.path.abspath(found or places[0]))

    def _seen(self, path: str) -> str:
        """A path as it is seen from the export."""
        if self._absolute:
            return os.path.abspath(self._target / path)
        if not os.path.isabs(path):
            return path
        with suppress(ValueError):  # on another drive
            return os.path.relpath(path, self._target).replace(os.sep, "/")
        return path

    def _keep(self, picture: Picture, ref: ImageRef) -> None:
        assert picture.data is not None
        if picture.name in self.copies:
            return
        path = self._target / FOLDER / picture.name
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or path.stat().st_size != len(picture.data):
            fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
            try:
                if not (self._mode == "link" and ref.kind == "path" and self._linked(ref, fresh)):
                    fresh.write_bytes(picture.data)
                fresh.replace(path)
            finally:
                fresh.unlink(missing_ok=True)
        self.copies.add(picture.name)

    def _linked(self, ref: ImageRef, fresh: Path) -> bool:
        from vqa_async.images.files import locate

        source = locate(ref, self._folder, _OPTIONS)
        try:
            os.link(os.path.realpath(str(source.content)), fresh)
        except OSError:  # another disk, or one without links
            return False
        return True


def name_of(ref: ImageRef) -> str:
    """What an image is called wherever the data set lies; its split goes by it."""
    return posixpath.normpath(str(ref.value)) if ref.kind == "path" else _digest(ref.value)


def _digest(content: str | bytes) -> str:
    raw = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    return sha256(raw).hexdigest()
