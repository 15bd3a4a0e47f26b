"""The text on an image, by a small OCR model: image -> lines. The one file that imports rapidocr.

Its models come in the package's wheel, so that nothing is downloaded. It is loaded once, which takes a
second or two, and reads one image at a time: two at once would only share the processor.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from threading import Lock
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from vqa_async.errors import ConfigError
from vqa_async.server.lines import Piece, lines_of

_MOST_THREADS = 4
_MOST_SIDE = 1600  # a page of small print is still legible; 2000 pixels took a third more memory and time
_MOST_SLENDER = (
    4  # it enlarges the short side to 736 pixels, which takes gigabytes where the long one is a strip
)
_TRIAL = "ready"
_PARAMETERS = {
    "Global.log_level": "critical",
    "Global.use_cls": False,  # whether a line stands on its head: upright images are asked for
    "Global.max_side_len": _MOST_SIDE,
}


class TextReader:
    """Reads text. Made by ``load_reader``, called from threads."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._turn = Lock()

    def read(self, image: Image.Image) -> tuple[str, ...]:
        """The lines of text on ``image``, in reading order."""
        import numpy

        pixels = numpy.asarray(_page(image))[:, :, ::-1]  # it wants blue first
        with self._turn:
            found = self._model(numpy.ascontiguousarray(pixels))
        return lines_of(_pieces(found))


def require_ocr() -> None:
    """Make sure that the extra is installed, which takes no time.

    Raises:
        ConfigError: it is not.
    """
    for name in ("rapidocr", "onnxruntime"):
        if find_spec(name) is None:
            raise ConfigError(f"--ocr needs {name}, which is not installed: pip install 'vqa-async[ocr]'.")


def load_reader() -> TextReader:
    """The model, loaded and tried.

    Raises:
        ConfigError: the extra is not installed, or the model does not work here.
    """
    require_ocr()
    try:
        import onnxruntime  # type: ignore[import-untyped]
        from rapidocr import RapidOCR
    except ImportError as error:  # what it is linked with is not there, as in a slim container
        raise ConfigError(f"The OCR model cannot be loaded: {error}.") from None
    onnxruntime.set_default_logger_severity(4)  # it would tell of graphics cards that are not there
    # Half of the processors: the other half is for the endpoint, and for whoever asks it.
    threads = max(1, min(_MOST_THREADS, (os.cpu_count() or 1) // 2))
    bounds = {f"EngineConfig.onnxruntime.{kind}_op_num_threads": threads for kind in ("intra", "inter")}
    try:
        reader = TextReader(RapidOCR(params={**_PARAMETERS, **bounds}))
        read = reader.read(_trial_page())  # only now are its models loaded
    except Exception as error:  # whatever a foreign library raises where its files are missing or damaged
        raise ConfigError(f"The OCR model cannot be loaded: {error or type(error).__name__}.") from None
    if _TRIAL not in " ".join(read).lower():
        raise ConfigError(f"The OCR model does not work here: it reads {read} where {_TRIAL!r} stands.")
    return reader


def _trial_page() -> Image.Image:
    page = Image.new("RGB", (240, 80), "white")
    font = ImageFont.load_default(size=40)
    ImageDraw.Draw(page).text((120, 40), _TRIAL, fill="black", font=font, anchor="mm")
    return page


def _page(image: Image.Image) -> Image.Image:
    """``image`` in three colours of 8 bits on white paper, not larger than is read and no mere strip."""
    image = _fitted(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    least = -(-max(image.size) // _MOST_SLENDER)
    if min(image.size) >= least:
        return image
    page = Image.new("RGB", (max(image.width, least), max(image.height, least)), "white")
    page.paste(image, ((page.width - image.width) // 2, (page.height - image.height) // 2))
    return page


def _fitted(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits, of which a plain conversion would cut off all above 255
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    shrink = max(image.size) / _MOST_SIDE
    if shrink <= 1:
        return image
    size = (max(1, round(image.width / shrink)), max(1, round(image.height / shrink)))
    if image.mode not in ("1", "P"):
        return image.resize(size, Image.Resampling.BOX)
    # Indices cannot be averaged, and all of the image in colours might be a gigabyte: halfway by the nearest.
    half = (min(image.width, 2 * size[0]), min(image.height, 2 * size[1]))
    kind = "RGBA" if image.has_transparency_data else "RGB"
    return image.resize(half, Image.Resampling.NEAREST).convert(kind).resize(size, Image.Resampling.BOX)


def _pieces(found: Any) -> Iterator[Piece]:
    if found.boxes is None or found.txts is None:  # nothing was found
        return
    for box, text, score in zip(found.boxes, found.txts, found.scores, strict=True):
        heights = [float(corner[1]) for corner in box]
        yield Piece(text, min(float(x) for x, _ in box), min(heights), max(heights), float(score))
