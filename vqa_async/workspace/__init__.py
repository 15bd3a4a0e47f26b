"""What ``vqa-async init`` and ``vqa-async demo`` write: settings, sample data with images, a script.

    settings    vqa.toml, made from the options of ``config``
    samples     the records of sample_data.json and of text_data.json
    pictures    their images, drawn here so that nothing has to be downloaded
    papers      images with text to read: a sign, a receipt, a form
    script      image_vqa.py, the guide's pipeline
    steps       what to do in it, as is said when it was made

This file writes them and nothing else does. A file that exists is somebody's work and is never written over,
so making a workspace again only fills in what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from vqa_async.config import Config
from vqa_async.errors import ConfigError
from vqa_async.workspace.papers import PAPERS
from vqa_async.workspace.pictures import PICTURES
from vqa_async.workspace.samples import sample_data, text_data
from vqa_async.workspace.script import pipeline_script
from vqa_async.workspace.settings import settings_toml
from vqa_async.workspace.steps import next_steps

__all__ = ["create_workspace", "next_steps"]

_DATA = Path("data", "image_vqa")


def create_workspace(
    folder: Path, *, base_url: str = "http://localhost:8000/v1", model: str = "looks-1"
) -> tuple[Path, ...]:
    """Make ``folder`` a workspace to run in, and return the paths of the files that were written.

    Args:
        folder: made if it does not exist; files in it that exist are left as they are.
        base_url: the endpoint that the settings and the script name.
        model: the model that they name.

    Raises:
        ConfigError: ``base_url`` cannot be one, or the folder cannot be written.
    """
    config = Config.of(base_url=base_url, model=model)
    try:
        return tuple(path for path, content in _files(folder, config) if _write_new(path, content))
    except (OSError, UnicodeEncodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"The workspace {folder} cannot be written: {reason}.") from None


def _files(folder: Path, config: Config) -> Iterator[tuple[Path, Callable[[], bytes]]]:
    yield folder / "vqa.toml", lambda: settings_toml(config).encode()
    yield folder / "image_vqa.py", lambda: pipeline_script(config).encode()
    yield folder / _DATA / "sample_data.json", sample_data
    yield folder / _DATA / "text_data.json", text_data
    for name, picture in (PICTURES | PAPERS).items():
        yield folder / _DATA / name, picture


def _write_new(path: Path, content: Callable[[], bytes]) -> bool:
    """Write a file unless it exists; whether it was written."""
    if path.exists():
        return False
    written = content()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        file = path.open("xb")
    except FileExistsError:  # a dangling link, or another process was faster
        return False
    try:
        with file:
            file.write(written)
    except OSError:
        path.unlink(missing_ok=True)  # half a file would be left alone the next time
        raise
    return True
