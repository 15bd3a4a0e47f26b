"""Images of records that others wrote: only from the folder that is named, whatever leads out of it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from PIL import Image

from vqa_async.config import ImageOptions
from vqa_async.errors import ConfigError, ImageError
from vqa_async.images import ImageLoader
from vqa_async.images.files import locate, read, read_if_cached
from vqa_async.models import ImageRef


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with an image, beside one that must not be read."""
    for folder in ("root/sub", "outside", "rootless"):
        (tmp_path / folder).mkdir(parents=True)
    for path in ("root/in.png", "root/sub/deep.png", "outside/secret.png", "rootless/near.png"):
        Image.new("RGB", (8, 8), "red").save(tmp_path / path)
    (tmp_path / "root/link.png").symlink_to(tmp_path / "outside/secret.png")
    (tmp_path / "root/inner.png").symlink_to("in.png")
    (tmp_path / "root/door").symlink_to(tmp_path / "outside")
    (tmp_path / "root/loop.png").symlink_to("loop.png")
    return tmp_path / "root"


@pytest.mark.parametrize("path", ["in.png", "sub/deep.png", "sub/../in.png", "./in.png", "inner.png"])
async def test_what_is_in_the_folder_is_read(root: Path, path: str) -> None:
    """However it is written, also through a link that stays inside."""
    async with (
        ImageLoader(ImageOptions(image_root=str(root))) as loader,
        loader.prepare([ImageRef("path", path)], str(root)) as [image],
    ):
        assert (image.width, image.height) == (8, 8)


@pytest.mark.parametrize(
    "path",
    [
        "../outside/secret.png",
        "sub/../../outside/secret.png",
        "link.png",
        "door/secret.png",
        "../rootless/near.png",
        "{tmp}/outside/secret.png",
        "/etc/passwd",
        "/proc/self/environ",
    ],
)
@pytest.mark.parametrize("validate", ["header", "full"])
async def test_what_is_outside_is_refused(root: Path, path: str, validate: str) -> None:
    """By its real place, not by how it is written: links are resolved on both sides."""
    options = ImageOptions(image_root=str(root), validate=validate)  # type: ignore[arg-type]
    ref = ImageRef("path", path.format(tmp=root.parent))
    async with ImageLoader(options) as loader:
        with pytest.raises(ImageError, match=r"outside of .*--image-root") as raised:
            async with loader.prepare([ref], str(root)):
                pass
    assert raised.value.code == "path_outside_root"


def test_folder_that_is_itself_a_link_is_resolved(root: Path) -> None:
    """Both sides are compared by what they really are."""
    (root.parent / "alias").symlink_to(root)
    options = ImageOptions(image_root=str(root.parent / "alias"))
    assert locate(ImageRef("path", "in.png"), str(root.parent / "alias"), options).size > 0


def test_folder_that_is_missing_is_refused() -> None:
    """Nothing would ever be in it."""
    with pytest.raises(ConfigError, match="--image-root"):
        ImageOptions(image_root="/nowhere/at/all")


def test_link_that_is_swapped_while_it_is_read_leads_nowhere(root: Path) -> None:
    """10,000 looks at a link that somebody else moves in and out: what is outside is never read."""
    inside, outside = root / "in.png", root.parent / "outside/secret.png"
    Image.new("RGB", (9, 9), "blue").save(outside)
    secret = outside.read_bytes()
    options = ImageOptions(image_root=str(root))
    moving, over = root / "moving.png", threading.Event()

    def swap() -> None:
        while not over.is_set():
            for target in (outside, inside):
                spare = root / "spare"
                spare.symlink_to(target)
                os.replace(spare, moving)

    moving.symlink_to(inside)
    thread = threading.Thread(target=swap)
    thread.start()
    refused = given = 0
    try:
        for number in range(10_000):
            try:
                source = locate(ImageRef("path", "moving.png"), str(root), options)
                found = (read_if_cached if number % 2 else read)(source, options)
            except ImageError:
                refused += 1
                continue
            if found is not None:
                given += 1
                assert found[0] != secret
    finally:
        over.set()
        thread.join()
    assert refused
    assert given


async def test_urls_are_refused_where_they_are_not_wanted() -> None:
    """Nothing is handed on to the endpoint, and nothing downloaded."""
    async with ImageLoader(ImageOptions(no_image_urls=True)) as loader:
        with pytest.raises(ImageError, match="--no-image-urls") as raised:
            async with loader.prepare([ImageRef("url", "https://example.com/a.png")], ""):
                pass
    assert raised.value.code == "url_not_allowed"
    with pytest.raises(ConfigError, match="choose one"):
        ImageOptions(no_image_urls=True, fetch_images=True)
