"""Small copies of images: of every kind that is taken, on white, of no more bytes than asked for."""

from __future__ import annotations

import io
import random

import pytest
from PIL import Image

from vqa_async.errors import ImageError
from vqa_async.images import SmallCopy, small_copy


def file_of(image: Image.Image, format: str, **options: object) -> bytes:
    """An image file."""
    made = io.BytesIO()
    image.save(made, format, **options)
    return made.getvalue()


def shown(copy: SmallCopy) -> Image.Image:
    """The copy as RGB; it is a JPEG of the size that it says."""
    with Image.open(io.BytesIO(copy.data)) as image:
        assert (image.format, image.size) == ("JPEG", (copy.width, copy.height))
        return image.convert("RGB")


@pytest.mark.parametrize(
    ("mode", "format"),
    [
        ("RGB", "PNG"),
        ("RGBA", "PNG"),
        ("P", "PNG"),
        ("L", "PNG"),
        ("1", "PNG"),
        ("I;16", "PNG"),
        ("LA", "PNG"),
        ("RGB", "JPEG"),
        ("CMYK", "JPEG"),
        ("L", "JPEG"),
        ("P", "GIF"),
        ("RGB", "WEBP"),
        ("RGBA", "WEBP"),
        ("RGB", "BMP"),
        ("RGB", "TIFF"),
        ("CMYK", "TIFF"),
        ("RGB", "AVIF"),
    ],
)
def test_every_kind_has_a_copy(mode: str, format: str) -> None:
    """Shrunk in proportion, with the size and format of the original told."""
    image = Image.new("RGB", (300, 200), (200, 40, 40)).convert("L" if mode == "I;16" else mode)
    copy = small_copy(file_of(image.convert(mode), format), 100, 50_000)
    assert (copy.width, copy.height) == (100, 66)
    assert (copy.original_width, copy.original_height, copy.format) == (300, 200, format)
    shown(copy)


def test_a_small_image_is_not_blown_up() -> None:
    """It stays as large as it is."""
    copy = small_copy(file_of(Image.new("RGB", (30, 20)), "PNG"), 100, 50_000)
    assert (copy.width, copy.height) == (30, 20)


def test_what_is_transparent_is_white() -> None:
    """In light and in dark, a logo is seen as its page shows it."""
    image = Image.new("RGBA", (80, 80), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 40, 80))
    copy = shown(small_copy(file_of(image, "PNG"), 80, 50_000))
    assert min(copy.getpixel((70, 40))) > 240  # type: ignore[type-var, arg-type]
    assert copy.getpixel((10, 40))[1] < 30  # type: ignore[index]


def test_a_copy_is_made_to_fit() -> None:
    """By quality, then by size; what fits into nothing is as small as it gets."""
    noise = Image.frombytes("RGB", (400, 300), random.Random(1).randbytes(400 * 300 * 3))
    file = file_of(noise, "PNG")
    large = small_copy(file, 300, 1 << 20)
    small = small_copy(file, 300, 6_000)
    least = small_copy(file, 300, 1)
    assert (large.width, large.height) == (300, 225)
    assert len(small.data) <= 6_000
    assert 64 <= small.width < 300
    assert 50 <= least.width <= 64


def test_what_cannot_be_decoded_is_an_error_of_ours() -> None:
    """Damage and what is no image, as a run says it."""
    whole = file_of(Image.effect_noise((200, 200), 50), "PNG")
    for data in (b"", b"text", whole[:-500], whole[:200] + bytes(300) + whole[500:]):
        with pytest.raises(ImageError):
            small_copy(data, 100, 5_000)
