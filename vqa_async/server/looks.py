"""What the pixels of one image say: a ``data:`` URI -> Look.

Decoding is strict, as at a real endpoint: exact base64, a MIME type that matches the bytes, every pixel
decoded, nothing missing at the end. The raster is described as stored: EXIF orientation is not applied,
so a client has to send upright pixels to be told so.

Measuring is done on a sample of at most 61 x 61 pixels. It is taken by nearest neighbour, because
averaging would invent colours that are not in the image, and 61 is prime, so that the regular patterns
of test images do not fall into step with the sampling.

Runs in a thread; no state.
"""

from __future__ import annotations

import io
import re
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import pybase64
from PIL import Image, ImageChops, ImageFile, ImageStat
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from vqa_async.errors import ImageError
from vqa_async.server.colours import colour_name

MAX_PIXELS = 200_000_000
"""Images with more pixels than this are refused by their header. The largest phone cameras make as many."""

_SAMPLE_SIDE = 61
_EDGE = 24  # difference in brightness (of 255) between neighbours that the eye takes for an edge
# Five bits a channel, each value to its nearest level: shades that nobody tells apart are counted together.
_FIVE_BITS = [round(round(value * 31 / 255) * 255 / 31) for value in range(256)]
_NAMED_COLOURS = 4  # more than that nobody reads

# The file classes are used directly: Image.open would guess the format, and guard against large images
# with a process-wide setting that belongs to whoever embeds this.
_FORMATS: dict[str, type[ImageFile.ImageFile]] = {
    "image/png": PngImageFile,
    "image/jpeg": JpegImageFile,
    "image/gif": GifImageFile,
    "image/webp": WebPImageFile,
}
# What Pillow's parsers raise for damage: the first four by design, the others where a field that they read
# makes no sense.
_DAMAGE = (
    OSError,
    SyntaxError,
    EOFError,
    Image.DecompressionBombError,
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
)
Reading: TypeAlias = Callable[[Image.Image], tuple[str, ...]]
"""Image -> the lines of text on it."""

_HEAD = re.compile(r"data:([a-z0-9.+-]+/[a-z0-9.+-]+)?((?:;[^;,]*)*),", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen.

    Attributes:
        width: pixels, as stored.
        height: pixels, as stored.
        format: ``PNG``, ``JPEG``, ``GIF`` or ``WEBP``.
        frames: how many pictures the file holds; the first was looked at.
        colours: names with their shares of the visible pixels, largest first.
        brightness: mean brightness, 0 to 1, on a white page where transparent.
        contrast: standard deviation of the brightness, 0 to 0.5.
        edges: share of neighbouring sample pixels that clearly differ, 0 to 1.
        transparent: share of transparent pixels, None for an image without transparency.
        text: lines of text in reading order, None where none was looked for.
    """

    width: int
    height: int
    format: str
    frames: int
    colours: tuple[tuple[str, float], ...]
    brightness: float
    contrast: float
    edges: float
    transparent: float | None
    text: tuple[str, ...] | None = None


def look_at(uri: str, read: Reading | None = None) -> Look:
    """Decode the image in a ``data:`` URI and measure it; with ``read``, also look for text.

    Raises:
        ImageError: it is not one whole image of the type that it says.
    """
    mime, data = _split(uri)
    _check_content(mime, data)
    image, frames = _load(mime, data)
    with image:
        look = _measure(image, frames)
        return look if read is None else replace(look, text=read(image))


def _split(uri: str) -> tuple[str, bytes]:
    head = _HEAD.match(uri[:200])
    if head is None or not (head[2] or "").lower().endswith(";base64"):
        raise ImageError("is not of the form data:image/...;base64,...", code="bad_data_uri")
    mime = (head[1] or "").lower().replace("image/jpg", "image/jpeg")
    if mime not in _FORMATS:
        raise ImageError(
            f"has the type {mime or 'text/plain'}; PNG, JPEG, GIF and WebP are understood",
            code="unsupported_image",
        )
    return mime, _decode_base64(uri[head.end() :])


def _decode_base64(text: str) -> bytes:
    try:
        data = pybase64.b64decode(text, validate=True)
    except ValueError:  # binascii.Error is one; so is what non-ASCII text gives
        raise ImageError("is not valid base64", code="bad_base64") from None
    if not data:
        raise ImageError("is empty", code="empty_image")
    return data


def _check_content(mime: str, data: bytes) -> None:
    found = _sniff(data)
    if found is None:
        raise ImageError(f"says it is {mime} but is not an image", code="not_an_image")
    if found != mime:
        raise ImageError(f"says it is {mime} but is {found}", code="mime_mismatch")
    if not _is_whole(mime, data):
        raise ImageError("is truncated: its end is missing", code="truncated_image")


def _sniff(data: bytes) -> str | None:
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    return "image/webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def _is_whole(mime: str, data: bytes) -> bool:
    # Pillow forgives a missing end once all pixels are there. Bytes after the end are common and harmless.
    if mime == "image/png":
        return b"IEND\xaeB`\x82" in data
    if mime == "image/jpeg":
        return data.find(b"\xff\xd9", data.find(b"\xff\xda")) > 0
    if mime == "image/webp":
        return len(data) >= 8 + int.from_bytes(data[4:8], "little")
    return _has_trailer(data)


def _has_trailer(gif: bytes) -> bool:
    """Whether the blocks of a GIF file lead to the one that ends it."""
    try:
        at = _after_table(gif[10], 13)
        while (kind := gif[at]) != 0x3B:
            if kind == 0x2C:  # a frame: place, table, code size, pixels
                at = _after_blocks(gif, _after_table(gif[at + 9], at + 10) + 1)
            else:  # an extension with its name, or padding
                at = _after_blocks(gif, at + 2) if kind == 0x21 else at + 1
    except IndexError:
        return False
    return True


def _after_table(flags: int, at: int) -> int:
    return at + (3 << ((flags & 7) + 1)) if flags & 0x80 else at


def _after_blocks(gif: bytes, at: int) -> int:
    while length := gif[at]:
        at += 1 + length
    return at + 1


def _load(mime: str, data: bytes) -> tuple[ImageFile.ImageFile, int]:
    try:
        image = _FORMATS[mime](io.BytesIO(data))
        if image.width * image.height > MAX_PIXELS:
            raise ImageError(
                f"is {image.width} x {image.height} pixels, more than {MAX_PIXELS:,}", code="too_many_pixels"
            )
        frames = int(getattr(image, "n_frames", 1))  # walks the file: damage shows here, too
        image.load()
        if image.mode == "P" and image.palette is None:
            raise ValueError("its palette is missing")
    except _DAMAGE:
        raise ImageError("cannot be decoded: it is damaged or truncated", code="truncated_image") from None
    return image, frames


def _measure(image: ImageFile.ImageFile, frames: int) -> Look:
    sample = _sample(image)
    grey = _on_white(sample).convert("L")
    light = ImageStat.Stat(grey)
    has_alpha = image.has_transparency_data
    return Look(
        width=image.width,
        height=image.height,
        format=str(image.format),
        frames=frames,
        colours=_colours(sample),
        brightness=light.mean[0] / 255,
        contrast=light.stddev[0] / 255,
        edges=_edge_share(grey),
        transparent=1 - _visible_share(sample) if has_alpha else None,
    )


def _sample(image: Image.Image) -> Image.Image:
    size = (min(image.width, _SAMPLE_SIDE), min(image.height, _SAMPLE_SIDE))
    sample = image.resize(size, Image.Resampling.NEAREST)
    if sample.mode.startswith("I"):  # 16-bit grey; a plain conversion would cut it off at 255
        sample.info.pop("transparency", None)  # a 16-bit value that 8-bit modes cannot hold
        sample = sample.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    return sample.convert("RGBA")


def _on_white(sample: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", sample.size, "white"), sample)


def _visible_share(sample: Image.Image) -> float:
    return sum(sample.getchannel("A").histogram()[128:]) / (sample.width * sample.height)


def _colours(sample: Image.Image) -> tuple[tuple[str, float], ...]:
    data = sample.point(_FIVE_BITS * 4).tobytes()
    seen = Counter(zip(data[0::4], data[1::4], data[2::4], data[3::4], strict=True))
    named: Counter[str] = Counter()
    for (red, green, blue, alpha), count in seen.items():
        if alpha >= 128:
            named[colour_name(red, green, blue)] += count
    largest = sorted(named.items(), key=lambda item: (-item[1], item[0]))[:_NAMED_COLOURS]
    return tuple((name, count / named.total()) for name, count in largest)


def _edge_share(grey: Image.Image) -> float:
    width, height = grey.size
    across = _differences(grey, (1, 0, width, height), (0, 0, width - 1, height)) if width > 1 else []
    down = _differences(grey, (0, 1, width, height), (0, 0, width, height - 1)) if height > 1 else []
    counts = [sum(pair) for pair in zip(across, down, strict=True)] if across and down else across or down
    return sum(counts[_EDGE:]) / sum(counts) if counts else 0.0


def _differences(
    grey: Image.Image, one: tuple[int, int, int, int], other: tuple[int, int, int, int]
) -> list[int]:
    return ImageChops.difference(grey.crop(one), grey.crop(other)).histogram()
