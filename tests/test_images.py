"""What happens to the bytes of one image: recognised, checked, passed on, turned, shrunk, re-encoded."""

from __future__ import annotations

import os
import socket
import struct
import threading
import zlib
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import pybase64
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms
from xxhash import xxh3_128_hexdigest

from vqa_async.config import ImageOptions
from vqa_async.errors import ImageError
from vqa_async.images import check_image
from vqa_async.images.codec import fitting_size
from vqa_async.images.files import locate, read
from vqa_async.images.header import Header, exif_orientation, read_header
from vqa_async.images.prepare import inspect, prepare_file
from vqa_async.models import ImageRef, PreparedImage

NATIVE = ("JPEG", "PNG", "GIF", "WEBP")
MARKED = {2: (39, 0), 3: (39, 23), 4: (0, 23), 5: (0, 0), 6: (0, 23), 7: (39, 23), 8: (39, 0)}
"""Where, in the stored 40 x 24 picture, the pixel is that belongs top left once it is upright."""


def picture(width: int = 40, height: int = 24, mode: str = "RGB") -> Image.Image:
    """A gradient: every corner has another colour, and no two neighbours are far apart."""
    across = Image.linear_gradient("L").rotate(90).resize((width, height))
    down = Image.linear_gradient("L").resize((width, height))
    return Image.merge("RGB", (across, down, Image.new("L", (width, height), 128))).convert(mode)


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    """The image as a file."""
    out = BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def sent(image: PreparedImage) -> bytes:
    """The image file that a server would find in the request."""
    _, data = image.pieces
    return pybase64.b64decode(data, validate=True)


def opened(image: PreparedImage) -> Image.Image:
    """The image as a server would see it."""
    return Image.open(BytesIO(sent(image)))


def prepared(data: bytes, **options: object) -> PreparedImage:
    """Prepare a file under the given options."""
    return prepare_file(data, "'x'", ImageOptions(**options))  # type: ignore[arg-type]


def refused(data: bytes, **options: object) -> ImageError:
    """The error that preparing a file ends in."""
    with pytest.raises(ImageError) as caught:
        prepared(data, **options)
    assert "Image 'x' " in caught.value.message
    return caught.value


def turned(orientation: int) -> bytes:
    """EXIF that says how the image is turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def close_to(got: object, wanted: object, tolerance: int = 6) -> bool:
    """Whether two colours look the same."""
    return all(abs(a - b) <= tolerance for a, b in zip(got, wanted, strict=True))  # type: ignore[call-overload]


# What is passed on as it is


@pytest.mark.parametrize("format", NATIVE)
def test_file_within_limits_is_sent_byte_for_byte(format: str) -> None:
    """What every API takes is not re-encoded."""
    data = encoded(picture(), format)
    image = prepared(data)
    assert sent(image) == data
    assert image.pieces[0] == f"data:image/{format.lower()};base64,".encode()
    assert (image.width, image.height) == (40, 24)
    assert image.digest == xxh3_128_hexdigest(data)
    assert image.size == sum(map(len, image.pieces))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_eight_bit_png_of_any_mode_is_sent_byte_for_byte(mode: str) -> None:
    """Palettes, alpha and single bits are no reason to re-encode."""
    data = encoded(picture(mode=mode), "PNG")
    assert sent(prepared(data)) == data


@pytest.mark.parametrize("options", [{"progressive": True}, {"exif": turned(1)}, {"comment": b"hello"}])
def test_upright_jpeg_of_any_kind_is_sent_byte_for_byte(options: dict[str, object]) -> None:
    """Progressive scans, EXIF that says upright and comments change nothing."""
    data = encoded(picture(), "JPEG", **options)
    assert sent(prepared(data, validate="full")) == data


def test_grey_jpeg_is_sent_byte_for_byte() -> None:
    """One channel is as good as three."""
    data = encoded(picture(mode="L"), "JPEG")
    assert sent(prepared(data)) == data


def test_picture_of_a_3d_camera_is_sent_as_jpeg() -> None:
    """A multi-picture file is a JPEG with more behind it."""
    data = encoded(picture(), "MPO", save_all=True, append_images=[picture()])
    image = prepared(data)
    assert image.pieces[0] == b"data:image/jpeg;base64,"
    assert sent(image) == data
    assert opened(prepared(data, max_side=20)).size == (20, 12)


def test_bytes_after_the_end_of_a_jpeg_do_not_matter() -> None:
    """Cameras and messengers append things."""
    data = encoded(picture(), "JPEG") + b"\0trailer" * 9
    assert sent(prepared(data)) == data


@pytest.mark.parametrize("stray", [b"\xff\xff", b"\xff\xd0", b"\0\0"])
def test_stray_bytes_between_jpeg_segments_are_stepped_over(stray: bytes) -> None:
    """Padding, a marker without content and plain junk: decoders skip them too."""
    plain = encoded(picture(), "JPEG")
    after_first = 4 + int.from_bytes(plain[4:6], "big")
    assert sent(prepared(plain[:after_first] + stray + plain[after_first:], validate="full"))


def test_padding_between_the_blocks_of_a_gif_is_stepped_over() -> None:
    """Some writers leave zeros there."""
    plain = encoded(picture(), "GIF")
    assert prepared(plain[:-1] + b"\0\0" + plain[-1:]).width == 40


def test_lossless_webp_stays_lossless_when_it_is_turned() -> None:
    """It becomes PNG, where a lossy one becomes JPEG."""
    data = encoded(picture(), "WEBP", lossless=True)
    assert sent(prepared(data)) == data
    assert opened(prepared(encoded(picture(), "WEBP", lossless=True, exif=turned(3)))).format == "PNG"
    assert opened(prepared(encoded(picture(), "WEBP", exif=turned(3)))).format == "JPEG"


def test_repr_of_a_prepared_image_holds_none_of_it() -> None:
    """What is printed or logged is short."""
    assert repr(prepared(encoded(picture(), "PNG"))).startswith("PreparedImage(40x24, ")


# Turned upright


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_turned_image_is_sent_upright(format: str, orientation: int) -> None:
    """All orientations are applied, and the tag is gone, so nobody applies it again."""
    data = encoded(picture(), format, exif=turned(orientation))
    image = prepared(data)
    shown = opened(image)
    assert shown.size == ((24, 40) if orientation >= 5 else (40, 24)) == (image.width, image.height)
    assert shown.getexif().get(0x0112, 1) == 1
    assert close_to(shown.convert("RGB").getpixel((0, 0)), picture().getpixel(MARKED[orientation]), 14)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_image_is_shrunk_upright(orientation: int) -> None:
    """Shrinking while decoding and turning go together."""
    data = encoded(picture(400, 240), "JPEG", exif=turned(orientation))
    shown = opened(prepared(data, max_side=100))
    assert shown.size == ((60, 100) if orientation >= 5 else (100, 60))


def test_orientation_in_xmp_is_applied() -> None:
    """Some editors write it only there."""
    xmp = b'http://ns.adobe.com/xap/1.0/\0<rdf:Description tiff:Orientation="6"/>'
    plain = encoded(picture(), "JPEG")
    data = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(xmp) + 2) + xmp + plain[2:]
    assert opened(prepared(data)).size == (24, 40)


def test_orientation_in_the_xmp_of_a_png_is_applied() -> None:
    """There it is a text chunk."""
    xmp = b"XML:com.adobe.xmp\0\0\0\0\0<tiff:Orientation>8</tiff:Orientation>"
    plain = encoded(picture(), "PNG")
    assert opened(prepared(plain[:33] + png_chunk(b"iTXt", xmp) + plain[33:])).size == (24, 40)


@pytest.mark.parametrize(
    "exif", [b"", b"MM\0*", b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff" + b"\xff" * 40, b"junk" * 9]
)
def test_broken_exif_fails_nothing(exif: bytes) -> None:
    """It says nothing about the pixels, whether the image is passed on or re-encoded."""
    data = encoded(picture(), "JPEG", exif=b"Exif\0\0" + exif)
    assert sent(prepared(data)) == data
    assert opened(prepared(data, max_side=20)).size == (20, 12)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_impossible_orientation_counts_as_upright(value: int) -> None:
    """Only 1 to 8 mean anything."""
    assert exif_orientation(b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 0x0112, 3, 1, value, 0)) == 1


# Re-encoded


@pytest.mark.parametrize(
    ("format", "mime"), [("BMP", b"image/png"), ("TIFF", b"image/png"), ("AVIF", b"image/jpeg")]
)
def test_format_that_apis_do_not_take_is_converted(format: str, mime: bytes) -> None:
    """Lossless stays lossless; lossy becomes JPEG."""
    image = prepared(encoded(picture(), format))
    assert mime in image.pieces[0]
    assert close_to(opened(image).getpixel((39, 23)), picture().getpixel((39, 23)))


@pytest.mark.parametrize("format", ["GIF", "WEBP"])
def test_animation_is_sent_as_its_first_frame(format: str) -> None:
    """Models see one image; which one is not left to chance."""
    frames = [Image.new("RGB", (40, 24), colour) for colour in ("red", "lime", "blue")]
    shown = opened(prepared(encoded(frames[0], format, save_all=True, append_images=frames[1:])))
    assert getattr(shown, "n_frames", 1) == 1
    assert close_to(shown.convert("RGB").getpixel((20, 12)), (255, 0, 0))


def test_later_frame_with_a_giant_size_is_never_decoded() -> None:
    """A bomb in the second frame of an animation stays where it is."""
    data = encoded(picture(), "GIF")[:-1]
    data += b"\x2c" + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x08\x01\x00\0\x3b"
    assert opened(prepared(data)).size == (40, 24)


@pytest.mark.parametrize(("ink", "seen"), [((0, 0, 0, 0), (255, 255, 255)), ((0, 255, 255, 0), (255, 0, 0))])
@pytest.mark.parametrize("side", [0, 20])
def test_cmyk_jpeg_becomes_rgb_with_the_right_colours(ink: tuple[int, ...], seen: object, side: int) -> None:
    """Ink is turned into light, also while shrinking."""
    shown = opened(prepared(encoded(Image.new("CMYK", (40, 24), ink), "JPEG"), max_side=side))
    assert shown.mode == "RGB"
    assert close_to(shown.getpixel((5, 5)), seen)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_clipped(format: str) -> None:
    """Middle grey stays middle grey."""
    wide = Image.new("I;16", (3, 1))
    for x, value in enumerate((0, 32896, 65535)):
        wide.putpixel((x, 0), value)
    shown = opened(prepared(encoded(wide, format)))
    assert [shown.getpixel((x, 0)) for x in range(3)] == [0, 128, 255]


@pytest.mark.parametrize("transparency", [b"", png_chunk(b"tRNS", struct.pack(">HHH", 65535, 0, 700))])
def test_sixteen_bit_rgb_png_becomes_eight_bit(transparency: bytes) -> None:
    """The header tells, where the decoder says only RGB."""
    row = b"\0" + struct.pack(">HHH", 65535, 32896, 0) * 2
    data = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    data += transparency + png_chunk(b"IDAT", zlib.compress(row)) + png_chunk(b"IEND", b"")
    image = prepared(data)
    assert read_header(sent(image), "PNG").sendable
    assert close_to(opened(image).convert("RGB").getpixel((1, 0)), (255, 128, 0), 1)


def test_measurements_are_spread_over_the_greys() -> None:
    """A TIFF of floats has no white of its own."""
    data = encoded(Image.linear_gradient("L").convert("F").point(lambda v: v * 0.01 + 3), "TIFF")
    assert opened(prepared(data)).getextrema() == (0, 255)


@pytest.mark.parametrize("value", [0.0, 7.5])
def test_measurements_that_are_all_the_same_give_one_grey(value: float) -> None:
    """No division by nothing."""
    low, high = opened(prepared(encoded(Image.new("F", (4, 4), value), "TIFF"))).getextrema()
    assert low == high


def test_metadata_bomb_does_not_fail_a_good_image() -> None:
    """Text that unpacks to hundreds of megabytes is not unpacked."""
    bomb = png_chunk(b"zTXt", b"a\0\0" + zlib.compress(b"\0" * 80_000_000, 9))
    plain = encoded(picture(), "PNG", exif=turned(3))
    data = plain[:33] + bomb + plain[33:]
    assert opened(prepared(data)).info == {}


def test_colour_profile_survives_re_encoding() -> None:
    """Colours mean what the profile says, so it goes along."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = encoded(picture(), "JPEG", icc_profile=profile, exif=turned(6))
    assert opened(prepared(data)).info["icc_profile"] == profile


def test_profile_for_other_channels_is_dropped() -> None:
    """A profile for inks would spoil what has become RGB."""
    data = encoded(Image.new("CMYK", (8, 8)), "JPEG", icc_profile=bytes(16) + b"CMYK" + bytes(108))
    assert "icc_profile" not in opened(prepared(data)).info


# Limits


@pytest.mark.parametrize("format", [*NATIVE, "BMP", "TIFF", "AVIF"])
@pytest.mark.parametrize(
    ("options", "size"),
    [({"max_side": 100}, (100, 60)), ({"max_pixels": 6000}, (100, 60)), ({"max_side": 9999}, (400, 240))],
)
def test_image_is_shrunk_to_the_limits(
    format: str, options: dict[str, object], size: tuple[int, int]
) -> None:
    """Both limits, any format, proportions kept."""
    image = prepared(encoded(picture(400, 240), format), **options)
    assert opened(image).size == size == (image.width, image.height)


@given(st.integers(1, 70_000), st.integers(1, 70_000), st.integers(0, 3000), st.integers(0, 10**7))
def test_shrunk_size_is_never_over_a_limit(width: int, height: int, side: int, pixels: int) -> None:
    """Whatever the proportions, neither limit is passed and no side vanishes."""
    options = ImageOptions(max_side=side, max_pixels=pixels)
    w, h = fitting_size(Header("JPEG", width, height), options)
    assert 1 <= w <= min(width, side or width)
    assert 1 <= h <= min(height, side or height)
    assert not pixels or w * h <= pixels


@pytest.mark.parametrize(("mode", "format"), [("RGB", "JPEG"), ("L", "JPEG"), ("RGBA", "PNG"), ("P", "JPEG")])
def test_shrunk_image_is_a_jpeg_unless_it_is_transparent(mode: str, format: str) -> None:
    """JPEG is smaller; only PNG keeps what shows through."""
    image = picture(400, 240, mode)
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    shown = opened(prepared(encoded(image, "PNG"), max_side=100))
    assert (shown.format, shown.size) == (format, (100, 60))


def test_alpha_that_hides_nothing_does_not_prevent_a_jpeg() -> None:
    """Many files carry an alpha channel that is opaque everywhere."""
    assert opened(prepared(encoded(picture(400, 240, "RGBA"), "PNG"), max_side=100)).format == "JPEG"


def test_quality_option_is_used_where_an_image_is_shrunk() -> None:
    """Lower quality, fewer bytes."""
    data = encoded(Image.effect_noise((400, 240), 90), "PNG")
    sizes = [prepared(data, max_side=200, jpeg_quality=quality).size for quality in (30, 60, 95)]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("limit", [900, 5_000, 40_000])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP"])
def test_file_gets_under_max_bytes(limit: int, format: str) -> None:
    """By quality first, by size where that is not enough."""
    noise = Image.effect_noise((500, 300), 120).convert("RGB")
    image = prepared(encoded(noise, format), max_bytes=limit)
    assert len(sent(image)) <= limit
    assert opened(image).size == (image.width, image.height)


def test_max_bytes_leaves_a_smaller_file_alone() -> None:
    """No loss without need."""
    data = encoded(picture(), "PNG")
    assert sent(prepared(data, max_bytes=len(data))) == data


def test_transparency_becomes_white_where_bytes_are_short() -> None:
    """A JPEG cannot show through."""
    image = Image.effect_noise((300, 300), 90).convert("RGBA")
    image.putalpha(0)
    shown = opened(prepared(encoded(image, "PNG"), max_bytes=4000))
    assert shown.format == "JPEG"
    assert close_to(shown.getpixel((0, 0)), (255, 255, 255))


def test_max_bytes_that_no_image_fits_is_an_error() -> None:
    """The loop ends, and says what to change."""
    error = refused(encoded(picture(400, 240), "PNG"), max_bytes=100)
    assert error.code == "image_too_large"
    assert "max_bytes" in error.message


def test_profile_larger_than_max_bytes_is_dropped() -> None:
    """Otherwise nothing would ever fit."""
    profile = bytes(16) + b"RGB " + os.urandom(50_000)
    assert len(sent(prepared(encoded(picture(), "PNG", icc_profile=profile), max_bytes=2000))) <= 2000


# Bombs and damage


def bmp_header(width: int, height: int) -> bytes:
    """The start of a BMP file of any claimed size."""
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 70, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


BOMBS = {
    "gif": b"GIF89a"
    + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0)
    + b"\x2c"
    + struct.pack("<HHHHB", 0, 0, 1, 1, 0)
    + b"\x02\x02\x44\x01\0\x3b",
    "gif frame": b"GIF89a"
    + struct.pack("<HHBBB", 1, 1, 0, 0, 0)
    + b"\x2c"
    + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0)
    + b"\x02\x02\x44\x01\0\x3b",
    "png": b"\x89PNG\r\n\x1a\n"
    + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
    + png_chunk(b"IDAT", b"x")
    + png_chunk(b"IEND", b""),
    "bmp": bmp_header(2**31 - 1, 3000),
    "jpeg": b"\xff\xd8\xff\xc0\0\x0b\x08\xff\xff\xff\xff\x01\x01\x11\0"
    + b"\xff\xda\0\x08\x01\x01\0\0\x3f\0\xff\xd9",
    "webp": b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff" * 6 + b"VP8 \0\0\0\0",
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
def test_giant_claimed_size_is_refused_from_the_header(data: bytes) -> None:
    """Nothing is decoded to find out."""
    assert refused(data).code == "image_too_large"


def test_second_frame_header_cannot_smuggle_in_a_giant_size() -> None:
    """The size that was checked is the size that is decoded."""
    plain = encoded(picture(), "JPEG", exif=turned(3))
    data = plain.replace(
        b"\xff\xda", b"\xff\xc0\0\x11\x08\xff\xff\xff\xff\x03\x01\x22\0\x02\x11\x01\x03\x11\x01\xff\xda"
    )
    assert refused(data).code == "truncated_image"


def test_pixel_limit_is_an_option() -> None:
    """Exactly at the limit passes, one less does not."""
    data = encoded(picture(), "PNG")
    assert prepared(data, max_decode_pixels=960).width == 40
    assert refused(data, max_decode_pixels=959).code == "image_too_large"


@pytest.mark.parametrize("format", NATIVE)
def test_file_cut_off_anywhere_is_found_without_decoding(format: str) -> None:
    """Every cut, from the first bytes to the last one, with a thumbnail inside a JPEG to be fooled by."""
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\0" + encoded(picture(), "JPEG") if format == "JPEG" else b""
    data = encoded(picture(200, 120), format, **({"exif": exif} if exif else {}))
    for percent in range(5, 100):
        assert refused(data[: len(data) * percent // 100]).code == "truncated_image"
    assert refused(data[:-2]).code == "truncated_image"


@pytest.mark.parametrize("format", ["BMP", "TIFF", "AVIF"])
def test_cut_off_file_of_a_converted_format_is_refused(format: str) -> None:
    """Decoding finds it."""
    data = encoded(picture(200, 120), format)
    for percent in range(20, 96, 15):
        assert refused(data[: len(data) * percent // 100]).code in ("truncated_image", "not_an_image")


def test_full_check_finds_damage_that_the_structure_hides() -> None:
    """The header check lets it pass; the full one does not."""
    data = encoded(picture(200, 120), "PNG")
    start = data.index(b"IDAT") + 4
    damaged = data[: start + 20] + bytes(60) + data[start + 80 :]
    assert sent(prepared(damaged)) == damaged
    assert refused(damaged, validate="full").code == "truncated_image"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "not_an_image"),
        (b"hello, world", "not_an_image"),
        (b"<!doctype html><html></html>", "not_an_image"),
        (b"PK\x03\x04" + bytes(40), "not_an_image"),
        (b"BMW is a car", "not_an_image"),
        (b"%PDF-1.7", "format_not_allowed"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "format_not_allowed"),
        (b"8BPS\0\x01", "format_not_allowed"),
        (b"\0\0\1\0\1\0", "format_not_allowed"),
        (b"BLP2" + bytes(280), "format_not_allowed"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "format_not_allowed"),
        (b"<?xml version='1.0'?>\n<!-- drawn -->\n<svg/>", "format_not_allowed"),
        (b"GIF89a\1\0\1\0\0\0\0\x3b", "not_an_image"),
        (b"GIF89a\0\0\0\0\0\0\0\x2c" + bytes(9) + b"\x02\0\x3b", "not_an_image"),
        (b"GIF89a\1\0\1\0\0\0\0\x77", "not_an_image"),
        (b"\xff\xd8\xff\xda\0\x02\xff\xd9", "not_an_image"),
        (b"RIFF\xff\0\0\0WEBPJUNK\0\0\0\0", "truncated_image"),
        (b"RIFF\x0e\0\0\0WEBPJUNK\0\0\0\0\0\0", "not_an_image"),
        (b"RIFF\x0e\0\0\0WEBPVP8 \xff\0\0\0\0\0", "truncated_image"),
        (b"\0\0\0\x14ftypisom\0\0\0\0mp42", "not_an_image"),
        (b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(10), "not_an_image"),
        (b"\x89PNG\r\n\x1a\n" + png_chunk(b"IEND", bytes(40)), "not_an_image"),
        (b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", bytes(13)) + png_chunk(b"IEND", b""), "not_an_image"),
    ],
)
def test_what_is_no_image_that_we_take_is_refused_with_a_reason(data: bytes, code: str) -> None:
    """By content, with a code to tell the cases apart."""
    assert refused(data).code == code


def test_format_with_a_missing_decoder_says_what_to_install() -> None:
    """Photos of phones are common enough to deserve a hint."""
    try:
        import pillow_heif  # noqa: F401
    except ImportError:
        error = refused(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
        assert error.code == "format_not_allowed"
        assert "vqa-async[heif]" in error.message
    else:
        pytest.skip("the decoder is installed")


def test_phone_photo_is_converted_where_the_extra_is_installed() -> None:
    """HEIC in, JPEG out."""
    heif = pytest.importorskip("pillow_heif")
    out = BytesIO()
    heif.from_pillow(picture(64, 40)).save(out)
    assert opened(prepared(out.getvalue())).format == "JPEG"


def test_name_of_a_file_says_nothing_of_its_format(tmp_path: Path) -> None:
    """Content decides."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(picture(), "PNG"))
    assert check_image(ImageRef("path", str(path)), "", ImageOptions()).mime == "image/png"


STARTS = st.sampled_from(
    [
        b"",
        b"\0\0\0\x18ftypavif",
        b"\0\0\0\x18ftypheic",
        b"II*\0\x08\0\0\0",
        b"MM\0*\0\0\0\x08",
        bmp_header(9, 9),
    ]
    + [encoded(picture(), format)[:cut] for format in (*NATIVE, "TIFF", "AVIF") for cut in (16, 60, None)]
)


@given(STARTS, st.binary(max_size=120), st.integers(0, 400))
def test_noise_never_raises_anything_but_an_image_error(start: bytes, noise: bytes, at: int) -> None:
    """Whatever the bytes are, one kind of error comes out, from inspecting and from decoding."""
    data = start[:at] + noise + start[at + len(noise) :]
    with suppress(ImageError):
        inspect(data, ImageOptions())
        prepare_file(data, "'x'", ImageOptions(validate="full", max_side=8))


# Where images come from


def found(value: str | bytes, kind: str = "path", folder: str = "", **options: object) -> bytes:
    """Locate and read."""
    chosen = ImageOptions(**options)  # type: ignore[arg-type]
    data, _ = read(locate(ImageRef(kind, value), folder, chosen), chosen)  # type: ignore[arg-type]
    return data


def not_found(value: str | bytes, kind: str = "path", folder: str = "", **options: object) -> ImageError:
    """The error that locating and reading end in."""
    with pytest.raises(ImageError) as caught:
        found(value, kind, folder, **options)
    assert caught.value.message.startswith("Image ")
    return caught.value


def test_relative_path_is_tried_in_the_folder_then_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The input file's neighbours come first."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").write_bytes(b"here")
    assert found("a", folder=str(folder)) == b"here"
    (folder / "a").write_bytes(b"beside")
    assert found("a", folder=str(folder)) == b"beside"
    assert found(str(tmp_path / "a"), folder=str(folder)) == b"here"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("missing.png", "file_not_found"),
        ("~/missing.png", "file_not_found"),
        ("C:\\missing.png", "file_not_found"),
        ("", "not_a_file"),
        (".", "not_a_file"),
        ("a\0b", "file_not_found"),
        ("a\ud800b", "file_not_found"),
        ("x" * 5000, "unreadable"),
        ("file:///etc/hosts", "url_not_allowed"),
        ("FILE:/etc/hosts", "url_not_allowed"),
        ("ftp://host/a.png", "url_not_allowed"),
        ("s3://bucket/a.png", "url_not_allowed"),
    ],
)
def test_path_that_leads_nowhere_is_an_error_that_shows_it(path: str, code: str, tmp_path: Path) -> None:
    """One short printable sentence, whatever the path holds."""
    error = not_found(path, folder=str(tmp_path))
    assert error.code == code
    assert len(error.message) < 600
    assert error.message.isprintable()


def test_symlink_in_a_circle_is_unreadable(tmp_path: Path) -> None:
    """The system's reason is given."""
    (tmp_path / "a").symlink_to("a")
    assert not_found("a", folder=str(tmp_path)).code == "unreadable"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_without_permission_is_unreadable(tmp_path: Path) -> None:
    """The reason says permission."""
    path = tmp_path / "a"
    path.touch(mode=0)
    error = not_found(str(path))
    assert error.code == "unreadable"
    assert "permission" in error.message


def test_pipe_socket_and_device_are_refused_at_once(tmp_path: Path) -> None:
    """None of them is opened for reading, so nothing can hang or never end."""
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for path in (tmp_path / "pipe", tmp_path / "socket", "/dev/zero"):
            assert not_found(str(path)).code == "not_a_file"


def test_pipe_put_in_place_of_a_file_does_not_hang(tmp_path: Path) -> None:
    """What was found is looked at again once it is open."""
    path = tmp_path / "a.png"
    path.write_bytes(b"data")
    source = locate(ImageRef("path", str(path)), "", ImageOptions())
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ImageError) as caught:
        read(source, ImageOptions())
    assert caught.value.code == "not_a_file"
    path.unlink()
    with pytest.raises(ImageError) as caught:
        read(source, ImageOptions())
    assert caught.value.code == "file_not_found"


def test_pseudo_file_gives_nothing_away() -> None:
    """What claims to have no bytes is read as having none."""
    assert found("/proc/self/environ") == b""


def test_file_over_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """By its size: five sparse gigabytes cost nothing."""
    path = tmp_path / "huge.png"
    path.touch()
    os.truncate(path, 5 << 30)
    error = not_found(str(path))
    assert error.code == "too_large"
    assert "max_file_bytes" in error.message


def test_growing_file_is_read_up_to_the_size_it_was_opened_with(tmp_path: Path) -> None:
    """A writer that never stops does not make a read that never stops."""
    path = tmp_path / "log"
    path.write_bytes(b"x" * 1000)
    stop = threading.Event()

    def grow() -> None:
        with path.open("ab", buffering=0) as file:
            while not stop.is_set():
                file.write(b"y" * 4096)

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        assert len(found(str(path), max_file_bytes=1 << 40)) >= 1000
    finally:
        stop.set()
        writer.join()


@pytest.mark.parametrize(
    "start", ["data:image/png;base64,", "data:;BASE64,", "DATA:text/html;charset=x;Base64,"]
)
def test_data_uri_is_decoded_whatever_it_says_it_is(start: str) -> None:
    """The declared type is not believed; the content is looked at."""
    text = pybase64.b64encode(b"\x89PNG").decode()
    assert found(start + text, "data") == b"\x89PNG"


@pytest.mark.parametrize(
    "uri",
    [
        "data:image/png;base64",
        "data:image/png,AAAA",
        "data:image/png;base64,AA AA",
        "data:image/png;base64,AAA",
        "data:image/png;base64,AA%3D%3D",
        "data:image/png;base64,Ä===",
        "data:image/png;base64,\ud800",
    ],
)
def test_broken_data_uri_is_an_error_that_does_not_quote_it(uri: str) -> None:
    """Strictly decoded; the message names it by its length."""
    error = not_found(uri, "data")
    assert error.code == "bad_data_uri"
    assert f"{len(uri)} characters" in error.message
    assert uri not in error.message


def test_data_uri_and_bytes_have_the_limits_of_files() -> None:
    """No way around max_file_bytes."""
    assert not_found("data:;base64," + "A" * 4000, "data", max_file_bytes=1000).code == "too_large"
    assert not_found(bytes(1001), "bytes", max_file_bytes=1000).code == "too_large"
    assert found(bytes(1000), "bytes", max_file_bytes=1000) == bytes(1000)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/a.png",
        "gopher://host/",
        "s3://bucket/key",
        "file:///etc/passwd",
        "http://",
        "https:///a.png",
        "http://[::1",
        "http://host/a b",
        "http://host/\r\nX: y",
        "http://host/\ud800",
    ],
)
def test_address_that_is_not_of_the_web_is_refused(url: str) -> None:
    """Only http and https, well formed."""
    assert not_found(url, "url").code == "url_not_allowed"


def test_refused_address_is_shown_without_its_secrets() -> None:
    """Signed addresses and passwords stay out of messages."""
    message = not_found("ftp://user:hush@host/a.png?signature=hush", "url").message
    assert "ftp://host/a.png" in message
    assert "hush" not in message


@pytest.mark.parametrize("orientation", [1, 6])
def test_check_tells_the_size_that_would_be_sent(orientation: int) -> None:
    """Turned and shrunk, without encoding."""
    ref = ImageRef("bytes", encoded(picture(400, 240), "JPEG", exif=turned(orientation)))
    checked = check_image(ref, "", ImageOptions(max_side=100, validate="full"))
    assert (checked.width, checked.height) == ((100, 60) if orientation == 1 else (60, 100))


def test_check_leaves_an_address_alone() -> None:
    """Nothing is known of it without the network."""
    checked = check_image(ImageRef("url", "https://host/a.png"), "", ImageOptions())
    assert (checked.width, checked.height, checked.mime) == (0, 0, "")
