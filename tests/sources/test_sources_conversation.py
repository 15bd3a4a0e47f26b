"""Conversations and image fields of every form, as tables of input and messages."""

import pytest

from vqa_async.errors import RecordError
from vqa_async.models import ImageRef, Message
from vqa_async.sources.conversation import read_conversation
from vqa_async.sources.references import read_images

A, B = ImageRef("path", "a.png"), ImageRef("path", "b.png")


def ask(text):
    return [{"from": "human", "value": text}]


@pytest.mark.parametrize(
    ("conversation", "images", "expected"),
    [
        ("Why?", [A], [("user", A, "Why?")]),
        (ask("Why?"), [], [("user", "Why?")]),
        (ask("Why?"), [A, B], [("user", A, B, "Why?")]),
        (ask("<image>\nWhy?"), [A], [("user", A, "Why?")]),
        (ask("Why?\n<image>"), [A], [("user", "Why?", A)]),
        (ask("<image>"), [A], [("user", A)]),
        (ask("<image>\n<image>\nWhich?"), [A, B], [("user", A, B, "Which?")]),
        (ask("Is\n<image>\nlike\n\n<image>?"), [A, B], [("user", "Is", A, "like\n", B, "?")]),
        (
            [{"from": "system", "value": "Hm."}, *ask("One?"), {"from": "gpt", "value": "1"}, *ask("Two?")],
            [A],
            [("system", "Hm."), ("user", "One?"), ("assistant", "1"), ("user", A, "Two?")],
        ),
        (
            [*ask("See <image>"), {"from": "gpt", "value": "or <image>?"}],
            [A, B],
            [("user", "See ", A), ("assistant", "or ", B, "?")],
        ),
        (
            [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Why?"}],
            [A],
            [("system", "Be brief."), ("user", A, "Why?")],
        ),
        (
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "This"},
                        {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
                        {"type": "image_url", "image_url": "b.png"},
                    ],
                }
            ],
            [],
            [("user", "This", ImageRef("url", "https://x/y.png"), B)],
        ),
        ([{"from": "ChatGPT", "value": "x"}, {"from": "USER", "value": "y", "extra": 1}], [],
         [("assistant", "x"), ("user", "y")]),
    ],
)  # fmt: skip
def test_conversations_become_messages_with_images_in_place(conversation, images, expected):
    """Every form gives the same messages; images stand at their placeholders or before the last question."""
    messages = read_conversation(conversation, "conversation", images)
    assert messages == tuple(Message(role, parts) for role, *rest in expected for parts in [tuple(rest)])


@pytest.mark.parametrize(
    ("conversation", "images", "said"),
    [
        (ask("<image> <image>"), [A], "2 <image> placeholders, but the row has 1 image."),
        (ask("<image>?"), [], "1 <image> placeholder, but the row has 0 images."),
        (ask("<image>?"), [A, B], "1 <image> placeholder, but the row has 2 images."),
        ([{"from": "gpt", "value": "Yes."}], [], "no user turn"),
        ([*ask("x"), {"from": "tool", "value": "y"}], [], "conversation[1].from is 'tool'"),
        ([{"from": 3, "value": "y"}], [], "conversation[0].from is a number"),
        ([{"from": ["x"], "value": "y"}], [], "conversation[0].from is a list"),
        ([{"from": "human", "value": None}], [], "conversation[0].value must be text, not null"),
        ([{"from": "human"}], [], "conversation[0].value must be text, not null"),
        (ask(""), [], "conversation[0].value is empty"),
        (ask(" \n"), [], "conversation[0].value is empty"),
        ([{"value": "x"}], [], "conversation[0] has neither"),
        (["x"], [], "conversation[0] must be an object, not a string"),
        ({"from": "human"}, [], "conversation must be a list of turns or a string, not an object"),
        (7, [], "conversation must be a list of turns or a string, not a number"),
        ("  ", [], "conversation is empty"),
        ([*ask("x"), {"role": "user", "content": []}], [], "conversation[1].content is empty"),
        ([{"role": "user", "content": ["x"]}], [], "conversation[0].content[0] must be an object"),
        (
            [*ask("x"), {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "audio"}]}],
            [],
            "conversation[1].content[1].type is 'audio'",
        ),
        ([{"role": "user", "content": [{}]}], [], "conversation[0].content[0].type is null"),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": 1}}]}],
            [],
            "conversation[0].content[0].image_url.url must be a path",
        ),
        (
            [{"role": "user", "content": [{"type": "image_url"}]}],
            [],
            "conversation[0].content[0].image_url must be a path, a URL or a data: URI, not null",
        ),
    ],
)  # fmt: skip
def test_a_conversation_that_cannot_be_sent_is_refused_with_the_place(conversation, images, said):
    """The message names the path of what is wrong, or both numbers where they do not match."""
    with pytest.raises(RecordError) as caught:
        read_conversation(conversation, "conversation", images)
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("a.png", "path"),
        ("/x/a b.png", "path"),
        (r"C:\images\a.png", "path"),
        ("scan 10:15.png", "path"),
        ("http://x/a.png", "url"),
        ("HTTPS://x/a.png", "url"),
        ("data:image/png;base64,AAAA", "data"),
        ("DATA:image/png;base64,AAAA", "data"),
    ],
)
def test_a_reference_is_a_path_a_url_or_data(value, kind):
    """The kind follows from how the string begins; the string itself is kept as written."""
    assert read_images(value, "image") == [ImageRef(kind, value)]
    assert read_images([value, value], "image") == [ImageRef(kind, value)] * 2


@pytest.mark.parametrize("scheme", ["file", "s3", "ftp", "gs"])
def test_a_scheme_that_cannot_be_read_is_named(scheme):
    """Addresses other than http(s) are refused rather than looked for as files."""
    with pytest.raises(RecordError, match=f"image has the scheme {scheme}://") as caught:
        read_images(f"{scheme}://bucket/a.png", "image")
    assert caught.value.code == "bad_image_reference"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"path": "a.png"}, "image must be a path, a URL or a data: URI, not an object"),
        (["a.png", ["b.png"]], "image[1] must be a path, a URL or a data: URI, not a list"),
        (["a.png", None], "image[1] must be a path, a URL or a data: URI, not null"),
        (5, "not a number"),
        (True, "not a boolean"),
        ("", "not an empty string"),
        ([""], "image[0] must be"),
        (b"", "not an empty value"),
    ],
)
def test_an_image_field_of_the_wrong_type_is_refused_with_the_place(value, said):
    """Nothing is guessed from other types."""
    with pytest.raises(RecordError) as caught:
        read_images(value, "image")
    assert said in caught.value.message
