"""Requests that a real endpoint refuses are refused here, in its words: status, form, the field at fault."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import aiohttp
import pytest
from chat_bodies import answer_to, ask, chat_body, encoded, png, solid, uri_of
from PIL import Image

from vqa_async.server import RunningServer, running_server


def header_of_a_bomb() -> bytes:
    """A PNG whose header promises 400 million pixels, and not much more."""
    fields = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    header = struct.pack(">I", 13) + fields + struct.pack(">I", zlib.crc32(fields))
    return b"\x89PNG\r\n\x1a\n" + header + encoded(solid("red"))[33:]


NOISE = Image.radial_gradient("L").convert("RGB")

BROKEN_IMAGES = {
    "bad_base64": "data:image/png;base64,@@@@",
    "bad_base64 padding": png()[:-1],
    "bad_base64 line break": png()[:60] + "\n" + png()[60:],
    "bad_base64 not ASCII": "data:image/png;base64,äöü",
    "empty_image": "data:image/png;base64,",
    "bad_data_uri no base64": "data:image/png,abc",
    "bad_data_uri no comma": "data:image/png;base64",
    "unsupported_image": uri_of(encoded(solid("red"), "BMP"), "image/bmp"),
    "unsupported_image no type": "data:;base64,AAAA",
    "mime_mismatch": uri_of(encoded(solid("red")), "image/jpeg"),
    "not_an_image": uri_of(b"<html>404</html>"),
    "too_many_pixels": uri_of(header_of_a_bomb()),
    "truncated_image PNG": uri_of(encoded(NOISE)[:-12]),
    "truncated_image PNG half": uri_of(encoded(NOISE)[:400]),
    "truncated_image PNG damaged": uri_of(encoded(NOISE)[:100] + b"\0\0\0\0" + encoded(NOISE)[104:]),
    "truncated_image JPEG": uri_of(encoded(NOISE, "JPEG")[:-2], "image/jpeg"),
    "truncated_image JPEG half": uri_of(encoded(NOISE, "JPEG")[:900], "image/jpeg"),
    "truncated_image GIF": uri_of(encoded(NOISE, "GIF")[:-1], "image/gif"),
    "truncated_image WEBP": uri_of(encoded(NOISE, "WEBP")[:-2], "image/webp"),
}


@pytest.mark.parametrize("case", BROKEN_IMAGES)
async def test_a_broken_image_is_refused_and_named(
    client: aiohttp.ClientSession, server: RunningServer, case: str
) -> None:
    """A 400 says which of the images is broken, and how."""
    status, reply = await ask(client, server, chat_body(png(), BROKEN_IMAGES[case]))
    error = reply["error"]
    assert (status, error["type"]) == (400, "invalid_request_error")
    assert error["code"] == case.split()[0]
    assert error["param"] == "messages[0].content[2].image_url"
    assert error["message"].startswith("Image 2 (")


async def test_a_broken_image_is_refused_every_time(
    client: aiohttp.ClientSession, server: RunningServer
) -> None:
    """A refusal is not mistaken for a look already taken."""
    body = chat_body(BROKEN_IMAGES["not_an_image"])
    assert [(await ask(client, server, body))[0] for _ in range(2)] == [400, 400]
    assert server.stats().images == 0


async def test_bytes_after_the_end_of_an_image_are_forgiven(
    client: aiohttp.ClientSession, server: RunningServer
) -> None:
    """Cameras append their own data to JPEG files."""
    uri = uri_of(encoded(NOISE, "JPEG") + b"camera data", "image/jpg")
    assert "256 x 256" in await answer_to(client, server, chat_body(uri))


def with_content(content: Any, role: str = "user") -> dict[str, Any]:
    return {"model": "looks-1", "messages": [{"role": role, "content": content}]}


BAD_REQUESTS: dict[str, tuple[Any, str | None]] = {
    "a list": ([], None),
    "no model": ({"messages": [{"role": "user", "content": "x"}]}, "model"),
    "no messages": ({"model": "looks-1"}, "messages"),
    "no message": ({"model": "looks-1", "messages": []}, "messages"),
    "a message that is text": ({"model": "looks-1", "messages": ["x"]}, "messages[0]"),
    "a content part that is text": (with_content(["x"]), "messages[0].content[0]"),
    "an image without address": (
        with_content([{"type": "image_url", "image_url": {"detail": "low"}}]),
        "messages[0].content[0].image_url",
    ),
    "an unknown role": (with_content("x", role="human"), "messages[0]"),
    "content of no kind": (with_content(7), "messages[0].content"),
    "no content": (with_content(None), "messages[0].content"),
    "no part": (with_content([]), "messages[0].content"),
    "an unknown part": (with_content([{"type": "video"}]), "messages[0].content[0]"),
    "a text part without text": (with_content([{"type": "text"}]), "messages[0].content[0]"),
    "an image that is text": (
        with_content([{"type": "image_url", "image_url": "data:,"}]),
        "messages[0].content[0].image_url",
    ),
    "a path as address": (chat_body("/tmp/a.png"), "messages[0].content[1].image_url"),
    "an unknown detail": (
        with_content([{"type": "image_url", "image_url": {"url": png(), "detail": "huge"}}]),
        "messages[0].content[0].image_url",
    ),
    "a stream": (chat_body(stream=True), "stream"),
    "several answers": (chat_body(n=2), "n"),
    "a high temperature": (chat_body(temperature=3), "temperature"),
    "a temperature of no kind": (chat_body(temperature="hot"), "temperature"),
    "no tokens": (chat_body(max_tokens=0), "max_tokens"),
    "tokens of no kind": (chat_body(max_completion_tokens=True), "max_completion_tokens"),
    "an unknown format": (chat_body(response_format={"type": "xml"}), "response_format"),
    "a format of no kind": (chat_body(response_format="json"), "response_format"),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
async def test_a_bad_request_is_refused_with_the_field_at_fault(
    client: aiohttp.ClientSession, server: RunningServer, case: str
) -> None:
    """A 400 in OpenAI's form names the parameter."""
    body, param = BAD_REQUESTS[case]
    status, reply = await ask(client, server, body)
    assert status == 400
    assert reply["error"].keys() == {"message", "type", "param", "code"}
    assert reply["error"]["type"] == "invalid_request_error"
    assert reply["error"]["param"] == param


async def test_a_body_that_is_not_json_is_refused(
    client: aiohttp.ClientSession, server: RunningServer
) -> None:
    """A 400 says so."""
    async with client.post(f"{server.base_url}/chat/completions", data=b'{"model": ') as response:
        assert response.status == 400
        assert "not JSON" in (await response.json())["error"]["message"]


@pytest.mark.parametrize("data", [b"not gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\0broken"])
async def test_a_body_that_cannot_be_unpacked_is_refused(
    client: aiohttp.ClientSession, server: RunningServer, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    """A 400, and nothing in the log: it is the client's mistake."""
    headers = {"Content-Encoding": "gzip"}
    async with client.post(f"{server.base_url}/chat/completions", data=data, headers=headers) as response:
        assert response.status == 400
    assert caplog.records == []


async def test_an_assistant_turn_may_be_empty(client: aiohttp.ClientSession, server: RunningServer) -> None:
    """Other clients send null there, and the last user turn is still found."""
    body = chat_body(text="two words")
    body["messages"] += [{"role": "assistant", "content": None}]
    assert "A: 2." in await answer_to(client, server, body)


async def test_an_unknown_model_is_a_404_that_lists_the_known_ones(client: aiohttp.ClientSession) -> None:
    """The code is the one that clients look for."""
    async with running_server(model=("one", "two")) as server:
        status, reply = await ask(client, server, chat_body())
        assert (status, reply["error"]["code"]) == (404, "model_not_found")
        assert "one, two" in reply["error"]["message"]
        assert (await ask(client, server, {**chat_body(), "model": "two"}))[0] == 200


async def test_too_many_images_are_refused_with_both_numbers(client: aiohttp.ClientSession) -> None:
    """The limit itself is let through."""
    async with running_server(max_images=2) as server:
        assert (await ask(client, server, chat_body(png(), png())))[0] == 200
        status, reply = await ask(client, server, chat_body(png(), png(), png()))
        assert (status, reply["error"]["code"]) == (400, "too_many_images")
        assert "has 3 images" in reply["error"]["message"]


async def test_a_body_over_the_limit_is_refused(client: aiohttp.ClientSession) -> None:
    """A 413 in OpenAI's form says the limit."""
    async with running_server(max_body_bytes=2000) as server:
        status, reply = await ask(client, server, chat_body(text="x" * 3000))
        assert (status, reply["error"]["code"]) == (413, "request_too_large")
        assert "2000 bytes" in reply["error"]["message"]


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer ", "Basic secret-1", "Bearer schlüssel"])
async def test_a_wrong_or_missing_key_is_a_401(client: aiohttp.ClientSession, header: str | None) -> None:
    """For chat and for the list of models; the key that was sent is not shown back."""
    headers = {} if header is None else {"Authorization": header}
    async with running_server(api_key=("secret-1", "secret-2")) as server:
        status, reply = await ask(client, server, chat_body(), headers=headers)
        assert (status, reply["error"]["code"]) == (401, "invalid_api_key")
        assert "wrong" not in reply["error"]["message"]
        async with client.get(f"{server.base_url}/models", headers=headers) as response:
            assert response.status == 401


@pytest.mark.parametrize("key", ["secret-1", "secret-2"])
async def test_each_accepted_key_opens(client: aiohttp.ClientSession, key: str) -> None:
    """Several keys may be in use at once."""
    headers = {"Authorization": f"Bearer {key}"}
    async with running_server(api_key=("secret-1", "secret-2")) as server:
        assert (await ask(client, server, chat_body(), headers=headers))[0] == 200
        async with client.get(f"{server.base_url}/models", headers=headers) as response:
            assert response.status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/nothing", 404), ("POST", "/chat/completions", 404), ("GET", "/v1/chat/completions", 405)],
)
async def test_an_unknown_address_is_refused_in_json(
    client: aiohttp.ClientSession, server: RunningServer, method: str, path: str, status: int
) -> None:
    """The message says where chat is, or how to ask there."""
    async with client.request(method, server.url + path) as response:
        assert response.status == status
        assert "POST" in (await response.json())["error"]["message"]
