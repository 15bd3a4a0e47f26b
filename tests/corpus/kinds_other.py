"""What is no image that is taken: other formats, texts, archives, and files that are two things at once."""

from __future__ import annotations

import io
import struct
import time
import zipfile
import zlib

from kind import NO_IMAGE, NOT_TAKEN, Kind, encoded, noise, picture, refused, shown
from PIL import Image

_NOT = (NO_IMAGE, NOT_TAKEN)


def _zipped(inner: bytes, method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr(zipfile.ZipInfo("photo.jpg", (2020, 1, 1, 0, 0, 0)), inner)
    return out.getvalue()


def _icon() -> bytes:
    return encoded(picture(), "ICO", sizes=[(16, 16)])


def _pointer() -> bytes:
    icon = _icon()
    return icon[:2] + b"\x02" + icon[3:]


def _drawn(compressed: bool = False) -> bytes:
    text = b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'><rect width='9' height='9'/></svg>"
    return zlib.compress(text, wbits=31) if compressed else text


def _entities() -> bytes:
    """A thousand million laughs."""
    rows = b"".join(b'<!ENTITY l%d "%s">' % (n, b"&l%d;" % (n - 1) * 10) for n in range(1, 10))
    return b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY l0 "ha">' + rows + b"]><svg>&l9;</svg>"


def _texture() -> bytes:
    """A small texture that claims to unpack to hundreds of megabytes."""
    return b"BLP2" + struct.pack("<iBBBBII", 1, 1, 0, 0, 0, 12_000, 12_000) + bytes(264)


def _film() -> bytes:
    head = struct.pack("<IHHHHHHHI", 200, 0xAF12, 60_000, 60_000, 60_000, 8, 3, 0, 1)
    return head.ljust(128, b"\0") + struct.pack("<IHH", 72, 0xF1FA, 1) + bytes(64)


def _scan() -> bytes:
    """A picture as a document, made at the beginning of time."""
    made = time.gmtime(0)
    return encoded(picture(), "PDF", creationDate=made, modDate=made)


KINDS: tuple[Kind, ...] = (
    refused("ico.ico", "an icon", _icon, NOT_TAKEN),
    refused("cur.cur", "a mouse pointer", _pointer, NOT_TAKEN),
    refused(
        "ico_bomb.ico",
        "an icon with a giant PNG",
        lambda: b"\0\0\1\0\1\0\0\0\0\0\1\0\x20\0\xff\xff\0\0\x16\0\0\0\x89PNG",
        NOT_TAKEN,
    ),
    refused("jpeg_2000.jp2", "JPEG 2000", lambda: encoded(picture(), "JPEG2000"), NOT_TAKEN),
    refused(
        "jpeg_2000_bare.j2k",
        "JPEG 2000 without a container",
        lambda: encoded(picture(), "JPEG2000", no_jp2=True),
        NOT_TAKEN,
    ),
    refused("jpeg_xl.jxl", "JPEG XL", lambda: b"\xff\x0a" + bytes(40), NOT_TAKEN),
    refused(
        "jpeg_xl_box.jxl",
        "JPEG XL in a container",
        lambda: b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40),
        NOT_TAKEN,
    ),
    refused("jpeg_xr.jxr", "JPEG XR", lambda: b"II\xbc\x01\x08\0\0\0" + bytes(40), *_NOT),
    refused(
        "jpeg_ls.jls",
        "JPEG-LS",
        lambda: b"\xff\xd8\xff\xf7\0\x0b\x08\0\x20\0\x30\x01\x01\x11\0\xff\xd9",
        "truncated_image",
        *_NOT,
    ),
    refused(
        "heic.heic",
        "a photo of a phone",
        lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(90),
        "truncated_image",
        *_NOT,
    ),
    refused(
        "heif_sequence.heif",
        "a sequence of them",
        lambda: b"\0\0\0\x18ftyphevc\0\0\0\0msf1hevc" + bytes(90),
        "truncated_image",
        *_NOT,
    ),
    refused("svg.svg", "a drawing", _drawn, NOT_TAKEN),
    refused("svg_entities.svg", "a drawing that unfolds for ever", _entities, *_NOT),
    refused("svg_compressed.svgz", "a drawing, compressed", lambda: _drawn(compressed=True), *_NOT),
    refused("pdf.pdf", "a document", lambda: b"%PDF-1.7\n1 0 obj<<>>endobj\ntrailer<<>>\n%%EOF", NOT_TAKEN),
    refused("pdf_image.pdf", "a scan as a document", _scan, NOT_TAKEN),
    refused(
        "eps.eps",
        "PostScript, which is a program",
        lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        NOT_TAKEN,
    ),
    refused(
        "eps_dos.eps", "PostScript with a head for DOS", lambda: b"\xc5\xd0\xd3\xc6" + bytes(40), NOT_TAKEN
    ),
    refused(
        "psd.psd",
        "Photoshop",
        lambda: b"8BPS\0\x01" + bytes(6) + struct.pack(">HIIHH", 3, 30_000, 30_000, 8, 3),
        NOT_TAKEN,
    ),
    refused("xcf.xcf", "GIMP", lambda: b"gimp xcf v011\0" + bytes(40), *_NOT),
    refused("tga.tga", "Targa, which has no signature", lambda: encoded(picture(), "TGA"), *_NOT),
    refused("pcx.pcx", "Paintbrush", lambda: encoded(picture(), "PCX"), *_NOT),
    refused("ppm.ppm", "portable pixels", lambda: encoded(picture(), "PPM"), *_NOT),
    refused("pgm_bomb.pgm", "portable greys of a giant size", lambda: b"P5 99999 99999 255\n", *_NOT),
    refused("pbm_text.pbm", "portable bits as a text", lambda: b"P1\n# bits\n3 2\n1 0 1\n0 1 0\n", *_NOT),
    refused("dds.dds", "a texture", lambda: encoded(picture(), "DDS"), NOT_TAKEN),
    refused("blp_bomb.blp", "a texture that unpacks to 576 MB", _texture, NOT_TAKEN),
    refused("fli.fli", "an old film", _film, *_NOT),
    refused("xbm.xbm", "bits as a program in C", lambda: encoded(picture("1"), "XBM"), *_NOT),
    refused(
        "xpm.xpm",
        "pixels as a program in C",
        lambda: b'/* XPM */\nstatic char *x[] = {"1 1 1 1", "a c red", "a"};',
        *_NOT,
    ),
    refused("wmf.wmf", "drawing commands of Windows", lambda: b"\xd7\xcd\xc6\x9a" + bytes(40), NOT_TAKEN),
    refused("emf.emf", "newer ones", lambda: b"\1\0\0\0\x6c\0\0\0" + bytes(32) + b" EMF" + bytes(60), *_NOT),
    refused("sgi.sgi", "Silicon Graphics", lambda: encoded(picture(), "SGI"), *_NOT),
    refused("icns.icns", "an icon of a Mac", lambda: b"icns\0\0\0\x08", NOT_TAKEN),
    refused(
        "qoi.qoi",
        "the Quite OK format",
        lambda: b"qoif" + struct.pack(">IIBB", 9, 9, 3, 0) + bytes(8),
        NOT_TAKEN,
    ),
    refused("fits.fits", "of a telescope", lambda: b"SIMPLE  =                    T".ljust(2880), NOT_TAKEN),
    refused("dicom.dcm", "of a clinic", lambda: bytes(128) + b"DICM" + bytes(60), *_NOT),
    refused("film.mp4", "a film", lambda: b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(200), *_NOT),
    refused("text.txt", "a text", lambda: b"hello, world\n", NO_IMAGE),
    refused(
        "text_utf16.txt", "a text of two bytes a letter", lambda: "hello, world".encode("utf-16"), NO_IMAGE
    ),
    refused(
        "html_error.jpg",
        "a page that says 404, saved as a photo",
        lambda: b"<!DOCTYPE html>\n<html><title>404 Not Found</title></html>",
        NO_IMAGE,
    ),
    refused(
        "html_with_drawing.html",
        "a page with a drawing in it",
        lambda: b"<html><body><svg></svg></body></html>",
        *_NOT,
    ),
    refused(
        "json_error.png",
        "an error of an API, saved as an image",
        lambda: b'{"error": "AccessDenied"}',
        NO_IMAGE,
    ),
    refused(
        "lfs_pointer.jpg",
        "the pointer that Git LFS left",
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
        NO_IMAGE,
    ),
    refused(
        "base64.png",
        "an image as text in base64",
        lambda: b"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ",
        NO_IMAGE,
    ),
    refused("zip.zip", "an archive", lambda: _zipped(b"hello"), NO_IMAGE),
    refused(
        "zip_stored_jpeg.zip",
        "an archive that holds a JPEG as it is",
        lambda: _zipped(encoded(picture(), "JPEG")),
        NO_IMAGE,
    ),
    refused(
        "gzip_jpeg.jpg",
        "a JPEG, compressed on the way",
        lambda: zlib.compress(encoded(picture(), "JPEG"), wbits=31),
        NO_IMAGE,
    ),
    refused("empty.jpg", "no byte", lambda: b"", NO_IMAGE),
    refused("one_byte.png", "one byte", lambda: b"\x89", NO_IMAGE),
    refused("nuls.jpg", "zeros, as after a crash", lambda: bytes(100_000), NO_IMAGE),
    refused("ones.jpg", "nothing but 0xFF", lambda: b"\xff" * 100_000, NO_IMAGE),
    refused("random.jpg", "noise", lambda: noise(90, 90).tobytes(), NO_IMAGE),
    refused(
        "leading_space.png", "a space in front of a PNG", lambda: b" " + encoded(picture(), "PNG"), NO_IMAGE
    ),
    refused(
        "leading_mark.jpg",
        "a byte order mark in front of a JPEG",
        lambda: b"\xef\xbb\xbf" + encoded(picture(), "JPEG"),
        NO_IMAGE,
    ),
    shown("wrong_suffix_png.jpg", "a PNG that is called JPEG", lambda: encoded(picture(), "PNG")),
    shown(
        "wrong_suffix_webp.png",
        "a WebP that is called PNG",
        lambda: encoded(picture(), "WEBP", lossless=True),
    ),
    shown("wrong_suffix_bmp.gif", "a BMP that is called GIF", lambda: encoded(picture(), "BMP")),
    shown(
        "no_suffix", "a JPEG without a suffix", lambda: encoded(picture(), "JPEG", quality=95, subsampling=0)
    ),
    shown(
        "photo.txt",
        "a JPEG that is called a text",
        lambda: encoded(picture(), "JPEG", quality=95, subsampling=0),
    ),
    shown(
        "name with spaces, ü and 絵.png",
        "a name that is not of letters only",
        lambda: encoded(picture(), "PNG"),
    ),
    shown(
        "jpeg_then_zip.jpg",
        "a JPEG that is an archive as well",
        lambda: encoded(picture(), "JPEG", quality=95, subsampling=0) + _zipped(b"x"),
    ),
    shown("png_upper_suffix.PNG", "a suffix in capitals", lambda: encoded(picture(), "PNG")),
    shown("empty_palette_image.png", "one colour of a palette", lambda: _red_corner_palette()),
)


def _red_corner_palette() -> bytes:
    image = Image.new("P", (48, 32), 0)
    image.putpalette([255, 0, 0])
    return encoded(image, "PNG")
