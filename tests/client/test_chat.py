"""Request bodies: valid by the published types, true to the record, and sent without copying an image."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from vqa_async.chat import Body, RequestForm
from vqa_async.config import ImageOptions, Sampling
from vqa_async.errors import ConfigError, RecordError
from vqa_async.images import ImageLoader
from vqa_async.models import Asked, ImageRef, Message, PreparedImage
from vqa_async.structured import MODES, parameters_of, words_of
from vqa_async.structured.schema import DEFAULT_SCHEMA

IMAGE = ImageRef("path", "a.png")
PUBLISHED = TypeAdapter(CompletionCreateParamsNonStreaming)


def prepared(name: str = "a", size: int = 100_000) -> PreparedImage:
    """An image whose base64 text is told apart by its first letter."""
    text = (name * size).encode()
    return PreparedImage((b"data:image/png;base64,", text), 22 + size, digest=f"digest of {name}")


def body(
    *messages: Message, images: Iterable[PreparedImage] = (), detail: Any = None, **sampling: Any
) -> Body:
    form = RequestForm("qwen-vl", Sampling(**{"system_prompt": "", **sampling}), detail=detail)
    return form.body(messages, tuple(images))


def joined(made: Body) -> Any:
    return orjson.loads(b"".join(made.pieces))


def user(*parts: str | ImageRef) -> Message:
    return Message("user", parts)


def consumed(value: Any) -> Any:
    """What pydantic gives, checked to the end: it looks into iterables only when they are iterated."""
    if isinstance(value, Mapping):
        return {key: consumed(item) for key, item in value.items()}
    return (
        value if not isinstance(value, Iterable) or isinstance(value, str) else [consumed(i) for i in value]
    )


def published(request: Any) -> Any:
    return consumed(PUBLISHED.validate_python(request, strict=True))


# --- by the book -------------------------------------------------------------------------------------------


CONVERSATIONS = {
    "text": (user("What is it?"),),
    "image": (user(IMAGE, "What is it?"),),
    "image alone": (user(IMAGE),),
    "several turns": (
        Message("system", ("Be brief.",)),
        user("First ", IMAGE, " then ", IMAGE),
        Message("assistant", ("Two squares.",)),
        user("Which is larger?"),
    ),
}


@pytest.mark.parametrize("messages", CONVERSATIONS.values(), ids=CONVERSATIONS.keys())
def test_request_is_valid_by_the_published_types(messages: tuple[Message, ...]) -> None:
    """The openai package's own types take it, and no field is one that they do not know."""
    images = [prepared(name) for name in "ab"]
    made = joined(body(*messages, images=images, detail="low", temperature=0.5, max_tokens=9, seed=1))
    assert published(made) == made
    assert made.keys() <= CompletionCreateParamsNonStreaming.__annotations__.keys() | {"messages", "model"}


@pytest.mark.parametrize(
    "broken",
    [
        {"content": [{"type": "image_url", "image_url": {"url": 5}}]},
        {"content": [{"type": "image_url", "image_url": {"url": "data:", "detail": "huge"}}]},
        {"content": [{"type": "text"}]},
        {"content": None},
        {"role": "human"},
    ],
)
def test_published_types_refuse_what_is_wrong(broken: dict[str, Any]) -> None:
    """The check above can fail: it looks into every part."""
    message = {"role": "user", "content": "x"} | broken
    with pytest.raises(ValidationError):
        published({"model": "m", "messages": [message]})


def test_plain_text_is_a_string_and_not_a_list_of_parts() -> None:
    """The one form that every server knows."""
    assert joined(body(user("Hi")))["messages"] == [{"role": "user", "content": "Hi"}]


def test_parameters_are_left_out_unless_given() -> None:
    """What is not asked for is the endpoint's own default, not ours."""
    assert joined(body(user("Hi"))).keys() == {"model", "messages"}
    made = joined(body(user("Hi"), temperature=0.0, max_tokens=1, seed=0))
    assert {"temperature": 0.0, "max_tokens": 1, "seed": 0}.items() <= made.items()


def test_extra_fields_are_added_and_win_over_ours() -> None:
    """What a user writes into the body by hand is what is sent, even where an option says otherwise."""
    made = joined(body(user("Hi"), temperature=0.2, extra_body='{"temperature": 1, "top_p": 0.9, "é": [{}]}'))
    assert made["temperature"] == 1
    assert made["top_p"] == 0.9
    assert made["é"] == [{}]


@pytest.mark.parametrize("field", ["model", "messages", "stream", "n"])
def test_extra_fields_cannot_take_over_the_request(field: str) -> None:
    """Those that the engine sets, or whose replies it could not read, are refused."""
    with pytest.raises(ConfigError, match=field):
        Sampling(extra_body=orjson.dumps({field: 1}).decode())


# --- the system prompt -------------------------------------------------------------------------------------


def roles(made: Body) -> list[tuple[str, Any]]:
    return [(message["role"], message["content"]) for message in joined(made)["messages"]]


def test_system_prompt_comes_first() -> None:
    """Before whatever the record says."""
    assert roles(body(user("Hi"), system_prompt='Say "x"\n')) == [("system", 'Say "x"\n'), ("user", "Hi")]


def test_record_with_a_system_turn_keeps_its_own() -> None:
    """Two system prompts would contradict each other."""
    made = body(Message("system", ("Mine",)), user("Hi"), system_prompt="Default")
    assert roles(made) == [("system", "Mine"), ("user", "Hi")]


def test_empty_system_prompt_sends_none() -> None:
    """Some models refuse a system turn."""
    assert roles(body(user("Hi"), system_prompt="")) == [("user", "Hi")]


# --- images ------------------------------------------------------------------------------------------------


def test_image_text_is_sent_as_the_very_object_in_the_cache() -> None:
    """By reference: neither joined nor copied, in each of the places where it stands."""
    first, second = prepared("a"), prepared("b")
    made = body(user(IMAGE, "and", IMAGE, IMAGE), images=[first, second, first])
    large = [piece for piece in made.pieces if len(piece) >= 100_000]
    assert [piece is image.pieces[1] for piece, image in zip(large, (first, second, first), strict=True)] == [
        True
    ] * 3
    assert all(len(piece) < 300 for piece in made.pieces if piece not in (first.pieces[1], second.pieces[1]))


def test_images_stand_where_the_record_has_them() -> None:
    """Text and images in the order of the parts, over all turns."""
    images = [prepared(name, 10) for name in "abc"]
    made = joined(
        body(user(IMAGE, "x", IMAGE), Message("assistant", ("y",)), user("z", IMAGE), images=images)
    )
    seen = [
        part["text"] if part["type"] == "text" else part["image_url"]["url"][-1]
        for message in made["messages"]
        if isinstance(message["content"], list)
        for part in message["content"]
    ]
    assert seen == ["a", "x", "b", "z", "c"]


@pytest.mark.parametrize("detail", ["auto", "low", "high"])
def test_detail_is_sent_with_every_image(detail: str) -> None:
    """And not at all unless it is chosen."""
    made = joined(body(user(IMAGE, IMAGE), images=[prepared(), prepared("b", 10)], detail=detail))
    assert [part["image_url"]["detail"] for part in made["messages"][0]["content"]] == [detail] * 2
    plain = joined(body(user(IMAGE), images=[prepared()]))
    assert plain["messages"][0]["content"][0]["image_url"].keys() == {"url"}


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF"])
async def test_image_in_the_body_is_the_file_byte_for_byte(tmp_path: Any, format: str) -> None:
    """Decoded again it has the same bytes, and its address names the right type."""
    path = tmp_path / f"image.{format.lower()}"
    Image.effect_noise((90, 70), 80).convert("RGB").save(path, format)
    async with (
        ImageLoader(ImageOptions()) as loader,
        loader.prepare([ImageRef("path", str(path))], "") as images,
    ):
        made = joined(body(user(IMAGE, "?"), images=images))
    head, _, text = made["messages"][0]["content"][0]["image_url"]["url"].partition(",")
    assert head == f"data:image/{format.lower()};base64"
    assert base64.b64decode(text, validate=True) == path.read_bytes()


async def test_shrunk_image_in_the_body_has_the_pixels_of_the_original(tmp_path: Any) -> None:
    """What is re-encoded is the same picture, smaller."""
    path = tmp_path / "image.png"
    source = Image.new("RGB", (200, 100), (200, 30, 30))
    source.paste((20, 20, 220), (100, 0, 200, 100))
    source.save(path)
    async with (
        ImageLoader(ImageOptions(max_side=50)) as loader,
        loader.prepare([ImageRef("path", str(path))], "") as images,
    ):
        made = joined(body(user(IMAGE), images=images))
    url = made["messages"][0]["content"][0]["image_url"]["url"]
    with Image.open(BytesIO(base64.b64decode(url.partition(",")[2]))) as sent:
        assert sent.size == (50, 25)
        left, right = sent.convert("RGB").getpixel((5, 12)), sent.convert("RGB").getpixel((45, 12))
    assert sum(abs(a - b) for a, b in zip(left, (200, 30, 30), strict=True)) < 20
    assert sum(abs(a - b) for a, b in zip(right, (20, 20, 220), strict=True)) < 20


# --- for every record --------------------------------------------------------------------------------------

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
PARTS = st.lists(
    TEXTS | st.builds(prepared, st.sampled_from("abc"), st.sampled_from([1, 4000, 4096, 5000])), max_size=4
)
TURNS = st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), PARTS), max_size=4)


def as_openai(part: str | PreparedImage, detail: str | None) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    url = {"url": b"".join(part.pieces).decode()}
    return {"type": "image_url", "image_url": url | ({"detail": detail} if detail else {})}


def naive(turns: Any, model: str, system: str, detail: str | None, parameters: dict[str, Any]) -> Any:
    """The request as anyone would write it: a dict, with the images in it."""
    messages = [{"role": "system", "content": system}]
    if not system or any(role == "system" for role, _ in turns):
        messages = []
    for role, parts in turns:
        alone = len(parts) == 1 and isinstance(parts[0], str)
        messages.append(
            {"role": role, "content": parts[0] if alone else [as_openai(p, detail) for p in parts]}
        )
    return {"model": model, "messages": messages, **parameters}


@given(
    TURNS, TEXTS, TEXTS, st.sampled_from([None, "low"]), st.dictionaries(st.just("seed"), st.integers(0, 99))
)
def test_body_is_the_json_that_anyone_would_write(
    turns: Any, model: str, system: str, detail: Any, parameters: dict[str, int]
) -> None:
    """Whatever the texts hold: the pieces together are the plain dict as JSON, of the size told."""
    messages = [
        Message(role, tuple(p if isinstance(p, str) else IMAGE for p in parts)) for role, parts in turns
    ]
    images = [p for _, parts in turns for p in parts if isinstance(p, PreparedImage)]
    form = RequestForm(model, Sampling(system_prompt=system, **parameters), detail=detail)
    made = form.body(messages, images)
    assert joined(made) == naive(turns, model, system, detail, parameters)
    assert made.size == sum(map(len, made.pieces))


@given(st.text(min_size=1))
def test_text_that_is_not_unicode_is_an_error_of_its_record(text: str) -> None:
    """Unpaired surrogates end as a RecordError, everything else is sent."""
    try:
        text.encode()
    except UnicodeEncodeError:
        for parts in ((text,), (text, IMAGE)):
            with pytest.raises(RecordError, match="surrogates") as caught:
                body(user(*parts), images=[prepared()])
            assert caught.value.code == "invalid_text"
    else:
        assert joined(body(user(text)))["messages"][0]["content"] == text


def test_unpaired_surrogate_is_refused() -> None:
    """The example, should the property above never draw one."""
    with pytest.raises(RecordError, match="surrogates"):
        body(user("\ud800"))


# --- the digest --------------------------------------------------------------------------------------------


def test_digest_is_the_same_for_the_same_request_only() -> None:
    """It tells apart texts, images, their order, the model and the parameters, and nothing else."""
    a, b = prepared("a"), prepared("b")
    same = [body(user(IMAGE, IMAGE, "x"), images=[a, b], seed=1).digest for _ in range(2)]
    others = [
        body(user(IMAGE, IMAGE, "x"), images=[b, a], seed=1),
        body(user(IMAGE, IMAGE, "x"), images=[a, a], seed=1),
        body(user(IMAGE, "x", IMAGE), images=[a, b], seed=1),
        body(user(IMAGE, IMAGE, "y"), images=[a, b], seed=1),
        body(user(IMAGE, IMAGE, "x"), images=[a, b], seed=2),
        body(user(IMAGE, IMAGE, "x"), images=[a, b], seed=1, system_prompt="s"),
        RequestForm("other", Sampling(system_prompt="", seed=1)).body([user(IMAGE, IMAGE, "x")], [a, b]),
    ]
    assert same[0] == same[1]
    assert len({same[0], *(other.digest for other in others)}) == 1 + len(others)
    assert len(same[0]) == 32


# --- structured answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_structured_requests_are_valid_by_the_published_types(name: str, mode: Any) -> None:
    """In each of the forms, for each conversation."""
    messages = CONVERSATIONS[name]
    count = sum(isinstance(part, ImageRef) for message in messages for part in message.parts)
    fixed, words = parameters_of(mode, DEFAULT_SCHEMA), words_of(mode, DEFAULT_SCHEMA)
    form = RequestForm("m", Sampling(), fixed=fixed, words=words)
    request = joined(form.body(messages, [prepared(size=100)] * count, room=70))
    assert published(request)
    assert request["max_tokens"] == 70
    assert ("fits this JSON schema" in str(request["messages"])) == (mode != "json_schema")


def test_words_are_said_to_who_was_not_asked_anything_yet() -> None:
    """In a turn of their own; and below an image that closes a turn."""
    form = RequestForm("m", Sampling(system_prompt=""), words="Answer with JSON.")
    alone = joined(form.body([Message("system", ("Look.",))], []))["messages"]
    assert alone[1] == {"role": "user", "content": "Answer with JSON."}
    (turn,) = joined(form.body([user("Look:", IMAGE)], [prepared(size=10)]))["messages"]
    assert turn["content"][-1] == {"type": "text", "text": "Answer with JSON."}
    (empty,) = joined(form.body([user()], []))["messages"]
    assert empty["content"] == "\n\nAnswer with JSON."


@pytest.mark.parametrize(
    ("sampling", "params", "room"),
    [
        ({}, None, None),
        ({"max_tokens": 5}, None, 5),
        ({"max_tokens": 5}, {"max_tokens": 7}, 7),
        ({"max_tokens": 5}, {"max_tokens": None}, None),
        ({"extra_body": {"max_completion_tokens": 9}}, {"seed": 1}, 9),
    ],
)
def test_room_is_that_of_the_request(sampling: Any, params: Any, room: int | None) -> None:
    """A record's own comes first."""
    assert RequestForm("m", Sampling(**sampling)).room(Asked(params=params)) == room
