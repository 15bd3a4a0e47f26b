"""What the embedded endpoint says about the images that it is sent."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import aiohttp
import pytest
from chat_bodies import answer_to, ask, chat_body, encoded, png, solid, uri_of
from PIL import Image

from vqa_async.server import RunningServer, running_server
from vqa_async.server.gallery import Gallery


async def test_solid_red_image_is_called_red_with_its_size(
    client: aiohttp.ClientSession, server: RunningServer
) -> None:
    """The answer names the one colour, the width and the height."""
    answer = await answer_to(client, server, chat_body(png("red", (64, 48))))
    assert "64 x 48 pixels" in answer
    assert "It is red all over." in answer


@pytest.mark.parametrize(
    ("colour", "name"),
    [
        ("black", "black"),
        ("white", "white"),
        ("#808080", "grey"),
        ("blue", "blue"),
        ("darkblue", "dark blue"),
        ("lightblue", "light blue"),
        ("lime", "green"),
        ("yellow", "yellow"),
        ("orange", "orange"),
        ("saddlebrown", "brown"),
        ("hotpink", "pink"),
        ("purple", "purple"),
        ("magenta", "magenta"),
        ("teal", "teal"),
        ("cyan", "cyan"),
    ],
)
async def test_colours_are_called_by_the_names_people_use(
    client: aiohttp.ClientSession, server: RunningServer, colour: str, name: str
) -> None:
    """A solid image of a CSS colour is described with that colour's plain name."""
    assert f"It is {name} all over." in await answer_to(client, server, chat_body(png(colour)))


@pytest.mark.parametrize(
    ("size", "word"),
    [((48, 64), "Portrait"), ((64, 48), "Landscape"), ((7, 7), "Square"), ((1, 1), "Square")],
)
async def test_orientation_follows_from_the_sides(
    client: aiohttp.ClientSession, server: RunningServer, size: tuple[int, int], word: str
) -> None:
    """Higher than wide is portrait, wider than high landscape, equal sides square."""
    assert word in await answer_to(client, server, chat_body(png(size=size)))


async def test_the_raster_is_described_as_stored(
    client: aiohttp.ClientSession, server: RunningServer
) -> None:
    """An EXIF orientation is not applied: turning is the client's duty, and shows when forgotten."""
    exif = Image.Exif()
    exif[0x0112] = 6
    sideways = uri_of(encoded(solid("red"), "JPEG", exif=exif), "image/jpeg")
    assert "64 x 48 pixels (JPEG)" in await answer_to(client, server, chat_body(sideways))


async def test_colours_come_with_shares_largest_first(
    client: aiohttp.ClientSession, server: RunningServer
) -> None:
    """An image of one quarter blue on white is mostly white, then blue."""
    image = solid("white", (40, 40))
    image.paste("blue", (0, 0, 20, 20))
    answer = await answer_to(client, server, chat_body(uri_of(encoded(image))))
    assert "Mostly white (75%), then blue (25%)." in answer


async def test_a_small_share_is_neither_rounded_to_none_nor_its_rest_to_all(
    client: aiohttp.ClientSession, server: RunningServer
) -> None:
    """One pixel of 1600 is under 1%, the others are over 99%."""
    image = solid("white", (40, 40))
    image.putpixel((3, 3), (0, 0, 255))
    answer = await answer_to(client, server, chat_body(uri_of(encoded(image))))
    assert "Mostly white (over 99%), then blue (under 1%)." in answer


async def test_an_alpha_channel_without_use_is_told_apart(
    client: aiohttp.ClientSession, server: RunningServer
) -> None:
    """The image could be transparent, but is not."""
    answer = await answer_to(client, server, chat_body(png((255, 0, 0, 255), mode="RGBA")))
    assert "no pixel is transparent" in answer


@pytest.mark.parametrize(("colour", "word"), [("black", "dark"), ("#888", "medium"), ("white", "bright")])
async def test_brightness_is_judged(
    client: aiohttp.ClientSession, server: RunningServer, colour: str, word: str
) -> None:
    """Black is dark, grey is medium, white is bright."""
    assert f"It is {word}: its mean brightness" in await answer_to(client, server, chat_body(png(colour)))


async def test_a_checkerboard_is_busy_and_full_of_contrast(
    client: aiohttp.ClientSession, server: RunningServer
) -> None:
    """Every neighbour differs, between black and white."""
    board = Image.new("L", (40, 40))
    board.putdata([255 * ((x + y) % 2) for y in range(40) for x in range(40)])
    answer = await answer_to(client, server, chat_body(uri_of(encoded(board))))
    assert "contrast is high" in answer
    assert "It is busy: 100%" in answer


async def test_regular_patterns_of_large_images_are_sampled_fairly(
    client: aiohttp.ClientSession, server: RunningServer
) -> None:
    """Stripes of five pixels do not fall into step with the sampling: both colours are seen."""
    stripes = solid("red", (640, 640))
    for left in range(0, 640, 10):
        stripes.paste("blue", (left, 0, left + 5, 640))
    answer = await answer_to(client, server, chat_body(uri_of(encoded(stripes))))
    shares = dict(re.findall(r"(red|blue) \((\d+)%\)", answer))
    assert all(40 <= int(share) <= 60 for share in shares.values())
    assert shares.keys() == {"red", "blue"}


async def test_transparent_pixels_have_no_colour(
    client: aiohttp.ClientSession, server: RunningServer
) -> None:
    """Their share is said, and colours are those of the visible part."""
    image = solid((0, 0, 0, 0), (40, 40), "RGBA")
    image.paste((0, 0, 255, 255), (0, 0, 40, 10))
    answer = await answer_to(client, server, chat_body(uri_of(encoded(image))))
    assert "It is blue all over." in answer
    assert "Yes, 75% of it is." in answer


async def test_a_wholly_transparent_image_has_no_colours(
    client: aiohttp.ClientSession, server: RunningServer
) -> None:
    """Nothing is claimed of pixels that cannot be seen."""
    answer = await answer_to(client, server, chat_body(png((9, 9, 9, 0), mode="RGBA")))
    assert "every pixel is transparent" in answer


@pytest.mark.parametrize(
    ("mode", "colour", "format"),
    [
        ("1", 1, "PNG"),
        ("L", 255, "PNG"),
        ("I;16", 65535, "PNG"),
        ("CMYK", (0, 0, 0, 0), "JPEG"),
        ("L", 255, "GIF"),
        ("RGB", "white", "WEBP"),
    ],
)
async def test_every_mode_and_format_is_read(
    client: aiohttp.ClientSession, server: RunningServer, mode: str, colour: Any, format: str
) -> None:
    """White is white in one bit, eight, sixteen, in ink, in a palette and in WebP."""
    uri = uri_of(encoded(solid(colour, mode=mode), format), f"image/{format.lower()}")
    answer = await answer_to(client, server, chat_body(uri))
    assert f"({format})" in answer
    assert "It is white all over." in answer


async def test_of_an_animation_the_first_frame_is_described(
    client: aiohttp.ClientSession, server: RunningServer
) -> None:
    """The number of frames is said, and that only one was looked at."""
    data = encoded(solid("red"), "GIF", save_all=True, append_images=[solid("blue"), solid("lime")])
    answer = await answer_to(client, server, chat_body(uri_of(data, "image/gif")))
    assert "It is red all over." in answer
    assert "3; only the first was looked at." in answer


async def test_several_images_are_counted_and_described_in_order(
    client: aiohttp.ClientSession, server: RunningServer
) -> None:
    """Each pair says which image it is about."""
    answer = await answer_to(client, server, chat_body(png("red"), png("blue")))
    assert "- Q: How many images were sent?\n  A: 2." in answer
    assert "dominant colours of image 1?\n  A: It is red all over." in answer
    assert "dominant colours of image 2?\n  A: It is blue all over." in answer


async def test_the_answer_has_the_form_of_a_list_of_pairs(
    client: aiohttp.ClientSession, server: RunningServer
) -> None:
    """Question and answer lines, an empty line between pairs, nothing else."""
    answer = await answer_to(client, server, chat_body(png()))
    assert re.fullmatch(r"(- Q: .+\?\n  A: .+\.(\n\n|$))+", answer)


async def test_text_alone_is_answered_honestly(client: aiohttp.ClientSession, server: RunningServer) -> None:
    """Without an image it says that there was none, and counts the words."""
    answer = await answer_to(client, server, chat_body(text="What is in the picture? 图像"))
    assert "None, so nothing was looked at." in answer
    assert "A: 7." in answer


async def test_content_may_be_plain_text(client: aiohttp.ClientSession, server: RunningServer) -> None:
    """As messages without images are usually written."""
    body = {"model": "looks-1", "messages": [{"role": "user", "content": "just three words"}]}
    assert "A: 3." in await answer_to(client, server, body)


async def test_an_address_is_not_fetched_and_the_answer_says_so(
    client: aiohttp.ClientSession, server: RunningServer
) -> None:
    """The endpoint asks about itself here; no request for the image arrives."""
    answer = await answer_to(client, server, chat_body(f"{server.url}/image.png"))
    assert "which this endpoint does not fetch" in answer
    assert server.stats().images == 0


@pytest.mark.parametrize("text", ["Who are you?", "What model are you", "Are you an AI?", "你是谁?"])
async def test_who_asks_is_told_that_this_is_no_model(
    client: aiohttp.ClientSession, server: RunningServer, text: str
) -> None:
    """The question is answered in a pair of its own."""
    assert "is not a model" in await answer_to(client, server, chat_body(png(), text=text))


@pytest.mark.parametrize("text", ["What model is this car?", "What are you able to see?", "Who is this?"])
async def test_who_asks_about_the_image_is_not_told_about_the_server(
    client: aiohttp.ClientSession, server: RunningServer, text: str
) -> None:
    """Other questions do not get that pair."""
    assert "model" not in await answer_to(client, server, chat_body(png(), text=text))


async def test_json_is_answered_with_json(client: aiohttp.ClientSession, server: RunningServer) -> None:
    """The same pairs, as an object with a list."""
    body = chat_body(png(), response_format={"type": "json_object"})
    pairs = json.loads(await answer_to(client, server, body))["pairs"]
    assert pairs[0] == {"question": "What size is the image?", "answer": "64 x 48 pixels (PNG)."}


@pytest.mark.parametrize("param", ["max_tokens", "max_completion_tokens"])
async def test_max_tokens_cuts_the_answer(
    client: aiohttp.ClientSession, server: RunningServer, param: str
) -> None:
    """The text is a beginning of the full one, and the reason is length."""
    full = await answer_to(client, server, chat_body(png()))
    _, reply = await ask(client, server, chat_body(png(), **{param: 8}))
    choice = reply["choices"][0]
    assert choice["finish_reason"] == "length"
    assert full.startswith(choice["message"]["content"])
    assert len(choice["message"]["content"].split()) == 6
    assert reply["usage"]["completion_tokens"] == 8


async def test_the_same_request_gets_the_same_answer(client: aiohttp.ClientSession) -> None:
    """Neither the cache nor another server changes it."""
    body = chat_body(uri_of(encoded(Image.radial_gradient("L"))), png("teal"))
    answers = set()
    for _ in range(2):
        async with running_server() as server:
            answers |= {await answer_to(client, server, body) for _ in range(2)}
    assert len(answers) == 1


async def test_images_are_priced_by_tiles(client: aiohttp.ClientSession, server: RunningServer) -> None:
    """A large image costs more than a small one, and at low detail as little as any."""
    prices = {}
    for name, size, detail in [
        ("small", (64, 48), "auto"),
        ("large", (1024, 1024), "high"),
        ("low", (1024, 1024), "low"),
    ]:
        body = chat_body(png(size=size), text="")
        body["messages"][0]["content"][1]["image_url"]["detail"] = detail
        prices[name] = (await ask(client, server, body))[1]["usage"]["prompt_tokens"]
    assert prices == {"small": 85 + 170, "large": 85 + 4 * 170, "low": 85}


async def test_without_decoding_every_answer_is_the_same(client: aiohttp.ClientSession) -> None:
    """For load tests images are not looked at, and the answer admits it."""
    async with running_server(decode=False) as server:
        answers = {
            await answer_to(client, server, chat_body(url))
            for url in (png("red"), png("blue"), "data:image/png;base64,broken")
        }
        assert server.stats().images == 0
    assert len(answers) == 1
    assert "not decoded" in answers.pop()


async def test_the_least_recently_used_look_is_forgotten_first() -> None:
    """Asked for again it is taken anew; it is not counted twice."""
    gallery = Gallery(max_looks=2)
    red, blue, lime = png("red"), png("blue"), png("lime")
    first = [await gallery.look(uri) for uri in (red, blue, red, lime)]
    assert await gallery.look(red) is first[0]
    again = await gallery.look(blue)
    assert again == first[1]
    assert again is not first[1]
    assert gallery.distinct == 3
    gallery.close()


async def test_an_image_that_many_bring_at_once_is_counted_once(
    client: aiohttp.ClientSession, server: RunningServer
) -> None:
    """Distinct images are counted, not requests."""
    bodies = [chat_body(png("red")), chat_body(png("blue"))] * 10
    await asyncio.gather(*(answer_to(client, server, body) for body in bodies))
    assert server.stats().images == 2
    assert server.stats().answered == 20
