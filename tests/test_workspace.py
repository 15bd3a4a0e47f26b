"""What a new workspace holds, and that making one never harms what is there."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import pytest
from PIL import Image, ImageChops, ImageOps

from vqa_async.cli.app import app, run
from vqa_async.cli.batching import submit
from vqa_async.config import Config, option_classes
from vqa_async.errors import ConfigError
from vqa_async.prompts import DEFAULT_PROMPT
from vqa_async.workspace import create_workspace, next_steps
from vqa_async.workspace.papers import PAPERS
from vqa_async.workspace.pictures import PICTURES
from vqa_async.workspace.settings import _example

ALL = PICTURES | PAPERS
DATA = Path("data", "image_vqa")
STEPS = ("serve", "check", "run", "export")
RED, YELLOW, BLUE, GREEN = (220, 20, 30), (255, 221, 0), (20, 60, 220), (20, 160, 50)
WHITE, BLACK, SKY, SEA = (255, 255, 255), (0, 0, 0), (130, 200, 250), (40, 110, 170)

# The colours that a person would name, each with the share of the image that it covers at least.
LOOKS: dict[str, list[tuple[tuple[int, int, int], float]]] = {
    "poster.png": [((18, 20, 48), 0.3), ((245, 180, 60), 0.1)],
    "red_circle.png": [(RED, 0.4), (WHITE, 0.4)],
    "blue_square.png": [(BLUE, 0.2), (YELLOW, 0.6)],
    "green_triangle.png": [(GREEN, 0.25), (WHITE, 0.5)],
    "pie_chart.png": [((210, 40, 40), 0.1), ((250, 210, 40), 0.1), ((70, 160, 60), 0.05), (WHITE, 0.4)],
    "bar_chart.png": [((40, 90, 200), 0.1), (WHITE, 0.6)],
    "house.jpg": [(SKY, 0.4), ((80, 170, 70), 0.15), ((180, 50, 40), 0.04), ((255, 215, 40), 0.02)],
    "traffic_light.png": [((235, 30, 30), 0.04), ((40, 40, 40), 0.1), ((205, 225, 240), 0.5)],
    "chessboard.png": [((240, 217, 181), 0.49), ((110, 70, 45), 0.49)],
    "clock.png": [(WHITE, 0.4), ((60, 120, 130), 0.3)],
    "rainbow.png": [((255, 0, 0), 0.14), ((255, 255, 0), 0.14), ((0, 128, 0), 0.14), ((0, 0, 255), 0.14)],
    "tree_turned.jpg": [((150, 205, 245), 0.3), ((30, 110, 45), 0.2), ((95, 160, 60), 0.15)],
    "logo_transparent.png": [((110, 40, 160), 0.2), ((240, 120, 20), 0.08)],
    "sunset.webp": [((30, 50, 95), 0.2), ((255, 230, 120), 0.03)],
    "boats_left.png": [(SEA, 0.3), ((190, 225, 245), 0.4)],
    "boats_right.png": [(SEA, 0.3), ((190, 225, 245), 0.4)],
    "night.jpg": [((8, 10, 28), 0.5)],
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace that the tests only read."""
    folder = tmp_path_factory.mktemp("made") / "work"
    create_workspace(folder)
    return folder


@pytest.fixture(scope="module")
def records(workspace: Path) -> list[dict[str, Any]]:
    """The sample data of the workspace."""
    loaded: list[dict[str, Any]] = json.loads((workspace / DATA / "sample_data.json").read_bytes())
    return loaded


def opened(name: str) -> Image.Image:
    image = Image.open(BytesIO(ALL[name]()))
    image.load()
    return image


def share_near(image: Image.Image, colour: tuple[int, int, int]) -> float:
    """How much of the opaque part of ``image`` is within a few steps of ``colour``."""
    pixels = zip(*(band.tobytes() for band in image.convert("RGBA").split()), strict=True)
    near = sum(
        1
        for r, g, b, a in pixels
        if a and max(abs(r - colour[0]), abs(g - colour[1]), abs(b - colour[2])) <= 16
    )
    return near / (image.width * image.height)


def test_a_new_workspace_has_settings_script_data_and_images(tmp_path: Path) -> None:
    """All files are written and returned, in a folder that did not exist."""
    folder = tmp_path / "deep" / "work"
    written = create_workspace(folder)
    assert set(written) == {path for path in folder.rglob("*") if path.is_file()}
    expected = {Path("vqa.toml"), Path("image_vqa.py"), DATA / "sample_data.json", DATA / "text_data.json"}
    assert {path.relative_to(folder) for path in written} == expected | {DATA / name for name in ALL}


def test_making_it_again_writes_nothing(tmp_path: Path) -> None:
    """The second call finds every file and leaves them as they are."""
    before = {path: path.stat().st_mtime_ns for path in create_workspace(tmp_path)}
    assert create_workspace(tmp_path) == ()
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_what_exists_is_kept_and_what_is_missing_is_added(tmp_path: Path) -> None:
    """A file of the user's is neither changed nor reported; the others are written around it."""
    (tmp_path / "vqa.toml").write_text("mine")
    written = create_workspace(tmp_path)
    assert (tmp_path / "vqa.toml").read_text() == "mine"
    assert tmp_path / "vqa.toml" not in written
    assert tmp_path / "image_vqa.py" in written


def test_a_link_that_leads_nowhere_is_left_alone(tmp_path: Path) -> None:
    """A dangling link is somebody's too: nothing is written through it."""
    (tmp_path / "vqa.toml").symlink_to(tmp_path / "elsewhere.toml")
    assert tmp_path / "vqa.toml" not in create_workspace(tmp_path)
    assert not (tmp_path / "elsewhere.toml").exists()


def test_a_folder_that_cannot_be_made_is_one_clear_sentence(tmp_path: Path) -> None:
    """Where a file stands in the way the error names the folder, and is ours."""
    (tmp_path / "taken").write_text("")
    with pytest.raises(ConfigError, match=r"^The workspace .*taken.* cannot be written: .+\.$"):
        create_workspace(tmp_path / "taken")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_one_clear_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When writing fails the error is ours, and no half file is left to be taken for a whole one."""
    path_open = Path.open

    def open_full(self: Path, mode: str = "r", **rest: Any) -> Any:
        if mode == "xb":
            path_open(self, mode).close()
            return path_open(Path("/dev/full"), "wb")
        return path_open(self, mode, **rest)

    monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(ConfigError, match="No space left"):
        create_workspace(tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_base_url_that_is_none_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    """A mistake in the arguments leaves no folder behind."""
    with pytest.raises(ConfigError, match="not an http"):
        create_workspace(tmp_path / "work", base_url="localhost:8000")
    assert not (tmp_path / "work").exists()


def test_a_model_name_that_no_file_can_hold_is_refused(tmp_path: Path) -> None:
    """Half a surrogate pair, as from a broken command line, is an error of ours."""
    with pytest.raises(ConfigError, match="cannot be written"):
        create_workspace(tmp_path, model="m\ud800")


def test_every_image_is_small() -> None:
    """No image has 40 kB, all together stay below 300 kB."""
    sizes = {name: len(picture()) for name, picture in ALL.items()}
    assert max(sizes.values()) < 40_000
    assert sum(sizes.values()) < 300_000


@pytest.mark.parametrize("name", ALL)
def test_an_image_is_what_its_name_says(name: str) -> None:
    """Each file has the format of its suffix and decodes in full."""
    formats = {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP"}
    assert opened(name).format == formats[Path(name).suffix]


@pytest.mark.parametrize("name", PICTURES)
def test_an_image_has_the_colours_of_its_subject(name: str) -> None:
    """The colours that a person would name cover the share of the image that the subject takes."""
    image = opened(name)
    shares = {colour: share_near(image, colour) for colour, _ in LOOKS[name]}
    assert all(shares[colour] >= at_least for colour, at_least in LOOKS[name]), shares


@pytest.mark.parametrize("name", ALL)
def test_an_image_is_the_same_every_time(name: str) -> None:
    """Drawing twice gives the same bytes, so digests of the sample data do not depend on the run."""
    assert ALL[name]() == ALL[name]()


def test_the_turned_photo_is_upright_once_its_orientation_is_applied() -> None:
    """It is stored lying, says orientation 6, and shows the sky above the meadow only when turned."""
    stored = opened("tree_turned.jpg")
    shown = ImageOps.exif_transpose(stored).convert("RGB")
    assert stored.getexif()[0x0112] == 6
    assert (stored.size, shown.size) == ((320, 240), (240, 320))
    sky, meadow = shown.getpixel((20, 10)), shown.getpixel((20, 310))
    assert isinstance(sky, tuple)
    assert isinstance(meadow, tuple)
    assert sky[2] > 200
    assert meadow[1] > meadow[2] + 50


def test_the_logo_is_transparent_around_its_shapes() -> None:
    """The corner is fully transparent and the ring fully opaque."""
    alpha = opened("logo_transparent.png").getchannel("A")
    assert (alpha.getpixel((0, 0)), alpha.getpixel((100, 20))) == (0, 255)


def test_the_two_boat_images_differ_in_a_flag_and_a_bird() -> None:
    """The images of the multi-image record differ in two small places and nowhere else."""
    difference = ImageChops.difference(opened("boats_left.png"), opened("boats_right.png"))
    flag, bird = (60, 43, 94, 66), (198, 27, 222, 41)
    assert difference.crop(flag).getbbox()
    assert difference.crop(bird).getbbox()
    difference.paste("black", flag)
    difference.paste("black", bird)
    assert difference.getbbox() is None


def test_the_sample_data_has_the_form_of_the_guide(records: list[dict[str, Any]], workspace: Path) -> None:
    """A list of records with image names and ShareGPT turns, indented by two, the poster first."""
    text = (workspace / DATA / "sample_data.json").read_text(encoding="utf-8")
    assert text.startswith('[\n  {\n    "image": [\n      "poster.png"\n')
    assert records[0]["conversation"] == [{"from": "human", "value": DEFAULT_PROMPT}]
    for turn in (turn for record in records for turn in record["conversation"]):
        assert turn.keys() == {"from", "value"}
        assert turn["from"] in ("human", "gpt")


def test_every_image_is_asked_about_and_found_beside_the_data(
    records: list[dict[str, Any]], workspace: Path
) -> None:
    """Names are relative to the file, so the working directory does not matter; no image is left out."""
    names = [name for record in records for name in record.get("image", [])]
    assert all((workspace / DATA / name).is_file() for name in names)
    assert sorted(names) == sorted(PICTURES)


def test_pictures_with_text_have_records_of_their_own(workspace: Path) -> None:
    """Each paper is asked about, and one is asked the plain question what it says."""
    records = json.loads((workspace / DATA / "text_data.json").read_bytes())
    assert {name for record in records for name in record["image"]} == set(PAPERS)
    assert ["What does the sign say?"] in [record.get("questions") for record in records]


def test_the_next_steps_are_commands_for_this_workspace(tmp_path: Path) -> None:
    """They name the folder unless it is the working directory, and files that are there."""
    steps = next_steps(tmp_path / "my work")
    assert steps[0].startswith(f"Next, after cd '{tmp_path}/my work'. ")
    assert next_steps(Path())[0].startswith("Next. ")
    create_workspace(tmp_path)
    commands = [step.split() for step in steps if step.startswith("  ")]
    assert [command[:2] for command in commands] == [["vqa-async", x] for x in STEPS]
    app.config = ()
    for command in commands:
        app.parse_args(command[1:], exit_on_error=False, print_error=False)
    named = {word for step in steps for word in step.split() if word.startswith("data/") or ".toml" in word}
    assert {name for name in named if not (tmp_path / name.rstrip(",.")).exists()} == set()


def test_the_sample_data_has_a_record_of_each_kind(records: list[dict[str, Any]]) -> None:
    """Several images with placeholders, several turns, no image, and other questions than the usual one."""
    several = next(record for record in records if len(record.get("image", [])) == 2)
    assert several["conversation"][0]["value"].count("<image>") == 2
    assert ["human", "gpt", "human"] in [[turn["from"] for turn in r["conversation"]] for r in records]
    assert [record.keys() for record in records if "image" not in record] == [{"conversation"}]
    assert len({record["conversation"][-1]["value"] for record in records}) >= 5


def options() -> Iterable[tuple[str, Any]]:
    """Every option's name and default."""
    config = Config()
    for group in option_classes():
        values = getattr(config, group)
        yield from ((option.name, getattr(values, option.name)) for option in fields(values))


def test_the_settings_name_the_endpoint_the_model_and_the_width(workspace: Path) -> None:
    """As written, the file sets the main options and leaves all others at their defaults."""
    settings = tomllib.loads((workspace / "vqa.toml").read_text(encoding="utf-8"))
    assert settings == {"base_url": ["http://localhost:8000/v1"], "model": "looks-1", "max_workers": 10}
    assert Config.of(**settings) == Config.of(base_url="http://localhost:8000/v1", model="looks-1")


def option_lines(text: str) -> list[str]:
    """The lines that are an option behind a #."""
    return re.findall(r"^#\w+ = .*$", text, re.MULTILINE)


def test_every_option_stands_in_the_settings_at_its_default(workspace: Path) -> None:
    """Taking the # away from all of them gives a file with each at the default that it has anyway, if any."""
    text = (workspace / "vqa.toml").read_text(encoding="utf-8")
    active = {"base_url", "model", "max_workers"}
    lines = option_lines(text)
    loaded = tomllib.loads(re.sub(r"^#(\w+ = )", r"\1", text, flags=re.MULTILINE))
    assert loaded.keys() == {name for name, _ in options()}
    assert len(lines) == len(loaded) - len(active)
    for name, default in options():
        if name not in active and default is not None:
            assert loaded[name] == (list(default) if isinstance(default, tuple) else default)


def test_each_line_by_itself_can_be_used(workspace: Path) -> None:
    """Taking the # away from any one line gives settings that are good, the examples included."""
    text = (workspace / "vqa.toml").read_text(encoding="utf-8")
    for line in option_lines(text):
        Config.of(**tomllib.loads(text.replace(f"\n{line}\n", f"\n{line[1:]}\n")))


def test_the_settings_are_grouped_as_the_help_is(workspace: Path) -> None:
    """Under the title of the group that `run --help` shows an option in."""
    text = (workspace / "vqa.toml").read_text(encoding="utf-8")
    shown: dict[str, str] = {}
    hints = [*get_type_hints(submit, include_extras=True).values()]  # `run` comes last: it has the say
    for hint in [*hints, *get_type_hints(run, include_extras=True).values()]:
        kind, *marks = get_args(hint) or (hint,)
        if is_dataclass(kind):
            shown |= {option.name: marks[0].group[0].name for option in fields(kind)}
    for name, _ in options():
        above = text[: re.search(rf"^#?{name} = ", text, re.MULTILINE).start()]  # type: ignore[union-attr]
        assert re.findall(r"^# ==== (.+)$", above, re.MULTILINE)[-1] == shown[name], name


def test_an_option_without_a_default_has_an_example_of_its_type() -> None:
    """Whatever type an option to come may have."""
    hints = [int | None, Literal["a", "b"] | None, tuple[str, ...] | None, float | None, str]
    assert [_example(hint) for hint in hints] == [0, "a", (), 0.0, ""]


def test_the_settings_show_how_several_endpoints_are_named(workspace: Path) -> None:
    """Taking the # away from the tables at the end gives endpoints that can be used."""
    text = (workspace / "vqa.toml").read_text(encoding="utf-8")
    tables = text[text.index("#     [[endpoints]]") :].replace("#", "")
    config = Config.of(**tomllib.loads(tables))
    assert [one.base_url for one in config.endpoints] == [
        "http://gpu-1:8000/v1",
        "https://gateway.example/v1",
    ]


def test_every_option_has_its_help_above_it(workspace: Path) -> None:
    """No option stands there without a comment, and the help is that of the configuration."""
    lines = (workspace / "vqa.toml").read_text(encoding="utf-8").split("\n")
    for name, _ in options():
        at = next(at for at, line in enumerate(lines) if re.match(rf"#?{name} =", line))
        assert lines[at - 1].startswith("# "), name
    assert any(line.startswith("# Requests in flight at most, over all endpoints.") for line in lines)


@pytest.mark.parametrize(
    "model", ['a"b\\c', "tab\tand\x7f\x01", "模型/视觉-7B", "line\nbreak", "${x} $model"]
)
def test_strange_model_names_survive_in_settings_and_script(model: str, tmp_path: Path) -> None:
    """Quotes, controls, line breaks and other scripts are escaped as each language wants it."""
    create_workspace(tmp_path, base_url="https://example.test/v1/chat/completions", model=model)
    settings = tomllib.loads((tmp_path / "vqa.toml").read_text(encoding="utf-8"))
    tree = ast.parse((tmp_path / "image_vqa.py").read_bytes())
    named = {kw.arg: kw.value.value for kw in ast.walk(tree) if is_literal_keyword(kw)}
    assert settings["model"] == named["model_name"] == model
    assert settings["base_url"] == [named["api_url"]] == ["https://example.test/v1"]


def is_literal_keyword(node: ast.AST) -> bool:
    return isinstance(node, ast.keyword) and isinstance(node.value, ast.Constant)


def test_the_script_takes_the_guide_s_names_from_this_package(workspace: Path) -> None:
    """It imports the three classes of the guide, and argparse, and nothing else."""
    tree = ast.parse((workspace / "image_vqa.py").read_bytes())
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [ast.unparse(node) for node in imports] == [
        "import argparse",
        "from vqa_async.dataflow import APIVLMServing_openai, FileStorage, PromptedVQAGenerator",
    ]


def test_no_file_holds_or_sets_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys in the environment are not written down, and the script does not touch the environment."""
    monkeypatch.setenv("DF_API_KEY", "sk-from-the-environment")
    written = create_workspace(tmp_path)
    assert not [path for path in written if b"sk-" in path.read_bytes()]
    assert "environ[" not in (tmp_path / "image_vqa.py").read_text(encoding="utf-8")


def test_pillow_is_not_loaded_until_something_is_drawn() -> None:
    """Importing the workspace costs a command that draws nothing no imaging library."""
    code = "import sys, vqa_async.workspace; sys.exit('PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
