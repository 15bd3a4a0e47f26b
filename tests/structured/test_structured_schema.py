"""Schemas: where they come from, which are refused before anything is asked, and their strict versions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field

from vqa_async import Config, ConfigError
from vqa_async.schemas import schema_text
from vqa_async.structured import Structure, parameters_of, words_of
from vqa_async.structured.schema import DEFAULT_SCHEMA, strict_version


class Thing(BaseModel):
    name: str
    colour: str | None = None


class Scene(BaseModel):
    things: list[Thing]
    count: int = Field(default=0, ge=0)


class Unwritable:
    @staticmethod
    def model_json_schema() -> dict[str, Any]:
        raise ValueError("no way\nto write it")


CLOSED = {"additionalProperties": False}


def an_object(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, **more}


# --- where they come from ------------------------------------------------------------------------------


def test_a_schema_is_the_same_from_wherever_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class, its dict, a file, the name of a class and the text itself all give one text."""
    expected = schema_text(Scene)
    path = tmp_path / "scene.json"
    path.write_text("\ufeff" + json.dumps(Scene.model_json_schema()))
    (tmp_path / "my_scenes.py").write_text(
        "class Scene:\n    @staticmethod\n    def model_json_schema():\n"
        f"        return {Scene.model_json_schema()!r}\n"
    )
    monkeypatch.chdir(tmp_path)
    for given in (Scene.model_json_schema(), str(path), path, "my_scenes:Scene", expected):
        assert schema_text(given) == expected
    assert Config.of(schema=Scene).answers.structured
    assert Config.of(schema=Scene).answer_settings()["schema"] == expected


def test_settings_without_structure_are_those_of_before() -> None:
    """An output that was made without it can be resumed."""
    assert not {"structured", "schema", "max_tokens_ceiling"} & Config.of(reasks=3).answer_settings().keys()
    assert Config.of(structured=True).answer_settings()["structured"] is True
    assert schema_text("") == ""


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("nowhere.json", "cannot be read"),
        ("[1]", "cannot be read"),
        ("{oops", "is not JSON"),
        ("no_such_module_here:Model", "cannot be imported"),
        ("json:nothing", "names no class"),
        ("json:dumps", "names no class"),
        (Unwritable, "Unwritable gives no JSON schema: no way$"),
        ({"enum": [object()]}, "cannot be written"),
        (5, "is not a JSON object"),
    ],
)
def test_what_is_no_schema_is_refused(given: object, said: str) -> None:
    """Each with a sentence that says what was looked at."""
    with pytest.raises(ConfigError, match=said):
        Config.of(schema=given)


def test_a_file_that_holds_no_object_is_refused(tmp_path: Path) -> None:
    """A list is JSON, and no schema."""
    path = tmp_path / "list.json"
    path.write_text("[1]")
    with pytest.raises(ConfigError, match="is not a JSON object"):
        schema_text(str(path))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"reasks": -1}, "reasks"),
        ({"max_tokens_ceiling": 0}, "max_tokens_ceiling"),
        ({"max_tokens_ceiling": 100, "max_tokens": 100}, "above max_tokens"),
        ({"structured": True, "extra_body": {"response_format": {}}}, "response_format"),
        ({"output_key": "structured"}, "taken"),
    ],
)
def test_settings_that_cannot_work_are_refused(options: dict[str, Any], said: str) -> None:
    """Before anything is opened."""
    with pytest.raises(ConfigError, match=said):
        Config.of(**options)


# --- which are refused -------------------------------------------------------------------------------------


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "objekt"}, r"no valid JSON schema, at \$\.type"),
        ({"properties": {"a": {"$ref": "http://example.com/a.json"}}}, "which is not in it"),
        ({"$ref": "#/$defs/Missing"}, "which is not in it"),
        ({"anyOf": [{"$ref": "#/anyOf/7"}]}, "which is not in it"),
        ({"$ref": "#/anyOf/x", "anyOf": [{}]}, "which is not in it"),
        ({"$ref": "#/type/deeper", "type": "object"}, "which is not in it"),
        (nested(101), "nested too deep"),
        (nested(240), "nested too deep"),
        (nested(900), "cannot be written"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(schema: dict[str, Any], said: str) -> None:
    """What is wrong with it is said before the first request."""
    with pytest.raises(ConfigError, match=said):
        Structure(schema_text(schema))


def test_references_within_the_schema_are_followed() -> None:
    """By name, by number, with escapes, and to the whole."""
    schema = an_object({"a": {"$ref": "#/$defs/x~1y"}, "b": {"$ref": "#"}, "c": {"$ref": "#/anyOf/0"}})
    schema |= {"$defs": {"x/y": {"type": "integer"}}, "anyOf": [{"type": "object"}]}
    structure = Structure(schema_text(schema))
    assert not hasattr(structure.read('{"a": 1, "b": {"a": 2}}', cut_off=False), "reason")
    assert hasattr(structure.read('{"b": {"a": "no"}}', cut_off=False), "reason")


def test_a_missing_library_is_named_before_anything_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the usual schema none is needed."""
    monkeypatch.setitem(__import__("sys").modules, "json_repair", None)
    with pytest.raises(ConfigError, match=r"pip install 'vqa-async\[structured\]'"):
        Structure(schema_text(Scene))
    text = 'Here: {"qa_pairs": [{"question": "A?", "answer": "B"}, {"question'
    assert [pair.question for pair in Structure().read(text, cut_off=False).pairs] == ["A?"]  # type: ignore[union-attr]


# --- strict versions ---------------------------------------------------------------------------------------


def test_the_usual_schema_is_its_own_strict_version() -> None:
    """It was written so."""
    assert strict_version(DEFAULT_SCHEMA) == DEFAULT_SCHEMA


def test_a_model_gets_a_strict_version() -> None:
    """Objects are closed, what has a default or may be null is required, and titles beside references go."""
    strict = strict_version(Scene.model_json_schema())
    assert strict is not None
    assert strict["required"] == ["things", "count"]
    assert strict["additionalProperties"] is False
    assert strict["properties"]["count"] == {"type": "integer", "minimum": 0, "title": "Count"}
    assert strict["$defs"]["Thing"]["required"] == ["name", "colour"]
    assert strict["properties"]["things"]["items"] == {"$ref": "#/$defs/Thing"}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": {"type": "string"}},
        {"$ref": "#/$defs/A", "$defs": {"A": an_object({})}},
        {"anyOf": [an_object({})], "properties": {}},
        an_object({"a": {"type": "string"}}),  # may be left out, and has nothing to say then
        an_object({"a": True}),
        an_object({}, additionalProperties=True),
        an_object({"a": {"type": "object"}}, required=["a"]),
        an_object({"a": {"oneOf": [{"type": "string"}]}}, required=["a"]),
    ],
)
def test_what_strict_mode_would_change_is_asked_for_loosely(schema: dict[str, Any]) -> None:
    """There is no strict version, and the request says so."""
    assert strict_version(schema) is None
    form = parameters_of("json_schema", schema)["response_format"]["json_schema"]
    assert form == {"name": "vqa", "strict": False, "schema": schema}


@pytest.mark.parametrize("kind", [{"type": ["string", "null"]}, {"type": "null"}, {"default": 3}])
def test_what_may_be_left_out_is_required_where_that_says_no_more(kind: dict[str, Any]) -> None:
    """Null says the same as nothing."""
    strict = strict_version(an_object({"a": kind, "default": {"type": "null"}}))
    assert strict is not None
    assert strict["required"] == ["a", "default"]  # a property of that name is no keyword
    assert "default" not in strict["properties"]["a"]


def test_words_are_said_where_the_parameters_do_not_say_it_all() -> None:
    """A schema, some JSON, nothing: what is missing stands below the question."""
    assert words_of("json_schema", DEFAULT_SCHEMA) == ""
    assert parameters_of("json_object", DEFAULT_SCHEMA) == {"response_format": {"type": "json_object"}}
    assert parameters_of("words", DEFAULT_SCHEMA) == {}
    for mode in ("json_object", "words"):
        assert "JSON schema" in words_of(mode, DEFAULT_SCHEMA)  # type: ignore[arg-type]
