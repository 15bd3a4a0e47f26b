"""Images of records, ready to be sent: found, checked, turned, shrunk, in base64, cached.

    png.py       the chunks of a PNG file: walked, judged, thinned out (pure)
    tiff.py      the tags of a TIFF file: bounded, thinned out (pure)
    header.py    what the bytes say of themselves: format, size, orientation, whole or cut off (pure)
    room.py      memory for decoding, shared by threads
    codec.py     decode, turn, shrink, encode; the only importer of the imaging library
    files.py     a path, data: URI or bytes -> the bytes of the file, read safely
    prepare.py   the bytes of a file -> what goes into the request
    small.py     small copies for people to look at
    budget.py    bytes in memory at once, first come, first served
    cache.py     encoded images that may be asked for again
    loader.py    all of it for a record, in threads

Imports go upwards in this list only. Nothing here opens a connection.
"""

from __future__ import annotations

from vqa_async.images.loader import ImageLoader, ImageStatistics
from vqa_async.images.prepare import CheckedImage, check_image
from vqa_async.images.small import SmallCopy, small_copy

__all__ = ["CheckedImage", "ImageLoader", "ImageStatistics", "SmallCopy", "check_image", "small_copy"]
