"""A system prompt from its parts: what is said when nothing is asked, and what each option adds."""

from collections import Counter
from pathlib import Path

import pytest

from vqa_async.config import Config, Prompting, Sampling
from vqa_async.errors import ConfigError
from vqa_async.prompts import (
    ANSWERING_SYSTEM_PROMPT,
    DEFAULT_SYSTEM_PROMPT,
    DOMAINS,
    Asking,
    domain_pack,
    styles,
    wording,
)
from vqa_async.prompts.defaults import FORM
from vqa_async.qa import parse_pairs

PACK = 'purpose = "Maps."\nsystem = "Read the legend first."\n[styles]\ncounting = "Count towns."\n'


def asking(system_prompt=None, **prompting):
    return Asking(Sampling(system_prompt=system_prompt), Prompting(**prompting))


def test_the_guides_prompt_stands_where_nothing_is_asked():
    """To the letter: existing outputs were made with it."""
    assert asking().system == DEFAULT_SYSTEM_PROMPT
    assert asking("").system == ""
    assert asking("Be brief.").system == "Be brief."
    assert asking().is_usual


@pytest.mark.parametrize(
    ("system_prompt", "options", "said", "unsaid"),
    [
        (
            None,
            {"style": "counting"},
            [DEFAULT_SYSTEM_PROMPT, "how many", FORM],
            ["Write exactly", "in German"],
        ),
        (None, {"pairs": 1}, ["exactly 1 question-answer pair.", FORM], ["how many"]),
        (None, {"pairs": 3}, ["exactly 3 question-answer pairs."], []),
        (None, {"language": "German"}, ["in German", FORM], ["Write exactly"]),
        (None, {"domain": "medical"}, ["medical", FORM], ["Count only"]),
        (None, {"domain": "medical", "style": "counting"}, ["Count only findings"], ["side markers"]),
        (None, {"domain": PACK, "style": "counting"}, ["Read the legend first.", "Count towns."], []),
        (None, {"domain": PACK, "style": "ocr"}, ["Read the legend first."], ["Count towns."]),
        ("Mine.", {"style": "ocr", "pairs": 2}, ["Mine.\n\n", "exactly 2", FORM], [DEFAULT_SYSTEM_PROMPT]),
        ("Mine.", {"language": "German"}, ["Mine.\n\n", "in German"], ["Q:"]),
        ("", {"style": "yes_no"}, ["Yes or No", FORM], [DEFAULT_SYSTEM_PROMPT]),
    ],
)
def test_each_option_adds_its_part(system_prompt, options, said, unsaid):
    """What is asked is said, what is not is not, and one's own prompt stays in front."""
    text = asking(system_prompt, **options).system
    for part in said:
        assert part in text
    for part in unsaid:
        assert part not in text
    assert "\n\n\n" not in text
    assert text == text.strip()


def test_every_style_and_pack_is_whole():
    """Each says what it is for and what the model is told, and packs add only to styles that exist."""
    assert list(styles()) == [
        *("descriptive", "reasoning", "yes_no", "counting", "ocr", "multiple_choice", "spatial", "mixed")
    ]
    for style in styles().values():
        assert style.purpose
        assert len(style.instruction) > 50
    for name in DOMAINS:
        pack = domain_pack(name)
        assert pack.purpose
        assert len(pack.system) > 100
        assert pack.styles.keys() <= styles().keys()


@pytest.mark.parametrize(
    "text",
    [
        "- Q: How many cars are there?\n  A: 3, two red ones and a blue one.\n\n- Q: And dogs?\n  A: 0",
        "- Q: What is it? (A) a car (B) a bus (C) a tram (D) a van\n  A: (B) a bus",
        "- Q: Is the door open?\n  A: No, it is shut.",
    ],
)
def test_the_form_that_is_asked_for_is_read_back(text):
    """What a model writes that does as the styles say is parsed into as many pairs."""
    pairs = parse_pairs(text)
    assert len(pairs) == text.count("- Q: ")
    assert f"- Q: {pairs[0].question}\n  A: {pairs[0].answer}" == text.split("\n\n")[0]
    assert len(parse_pairs(FORM)) == 1


def test_mixed_takes_a_style_by_the_id_and_all_of_them_about_equally_often():
    """The same record gets the same style in every run, whatever came before it."""
    mixed = asking(style="mixed")
    found = Counter(mixed.style_of(f"r{n}") for n in range(7000))
    assert found.keys() == styles().keys() - {"mixed"}
    assert min(found.values()) > 850
    assert mixed.style_of("r17") == asking(style="mixed", pairs=2).style_of("r17")
    assert mixed.style_of("\ud800")  # an id may come from a file name
    system = mixed.system_for({}, "ocr")
    assert system == mixed.all_systems()["ocr"] == asking(style="ocr").system
    assert "Vary the kind" in mixed.system  # for what has no id of a row


def test_one_style_for_all_is_the_prompt_of_the_run():
    """Nothing needs to be sent in its place."""
    counting = asking(style="counting")
    assert counting.style_of("any") == "counting"
    assert counting.system_for({}, "counting") is None
    assert not counting.is_usual


@pytest.mark.parametrize(
    ("system_prompt", "options", "expected"),
    [
        (None, {}, ANSWERING_SYSTEM_PROMPT),
        (None, {"style": "counting", "pairs": 3}, ANSWERING_SYSTEM_PROMPT),
        ("Mine.", {}, None),
        ("Mine.", {"style": "ocr"}, "Mine."),
        ("", {"style": "ocr"}, ""),
    ],
)
def test_a_question_that_is_given_is_answered_and_none_made_up(system_prompt, options, expected):
    """Style and number shape pairs; for a question of the row's own they are left out."""
    assert asking(system_prompt, **options).system_for_question({}) == expected


def test_domain_and_language_hold_for_answers_too():
    """They are about the image and the words, not about the questions."""
    text = asking(domain=PACK, language="Czech").system_for_question({})
    assert text.startswith(ANSWERING_SYSTEM_PROMPT)
    assert "Read the legend first.\n\nAnswer in Czech." in text
    assert FORM not in text


def test_a_template_of_the_system_prompt_is_added_to_like_any_other():
    """It takes the place of the prompt, for each row."""
    styled = asking(style="counting", system_template="You look at {{ place }}.")
    assert styled.system_for({"place": "Rome"}, "counting").startswith("You look at Rome.\n\nAsk how many")
    assert styled.system_for_question({"place": "Rome"}) == "You look at Rome."
    plain = asking(system_template="You look at {{ place }}.")
    assert plain.system_for({"place": "Rome"}, "") == "You look at Rome."
    assert plain.has_templates


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("medcal", "Did you mean 'medical'"),
        ("x", "There are medical"),
        ("not toml\n", "not TOML"),
        ('system = "x"\n', "purpose"),
        ('purpose = "x"\nsystem = " "\n', "system"),
        ('purpose = "x"\nsystem = "y"\nprompt = "z"\n', "'prompt'"),
        ('purpose = "x"\nsystem = "y"\nstyles = 3\n', "table"),
        ('purpose = "x"\nsystem = "y"\n[styles]\nfunny = "z"\n', "'funny'"),
        ('purpose = "x"\nsystem = "y"\n[styles]\nocr = 1\n', "styles.ocr"),
    ],
)
def test_a_pack_that_cannot_be_used_is_refused_before_anything(text, word):
    """With what is wrong in it."""
    with pytest.raises(ConfigError, match=word):
        asking(domain=text)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"style": "funny"}, "style must be one of descriptive"),
        ({"pairs": -1}, "pairs"),
        ({"language": "a\nb"}, "language"),
        ({"prompt_template": "  "}, "blank"),
        ({"prompt_template": "@missing"}, "--prompt-template cannot be read"),
        ({"domain": "missing.toml"}, "--domain cannot be read"),
        ({"prompt_template": "x", "prompt": "y"}, "--prompt-template takes the place of --prompt"),
        ({"prompt_template": "x", "prompt_key": "y"}, "--prompt-key"),
        ({"system_template": "x", "system_prompt": "y"}, "--system-prompt"),
        ({"output_key": "questions"}, "output_key"),
        ({"output_key": "_params"}, "output_key"),
    ],
)
def test_options_that_cannot_work_are_refused(options, word):
    """When they are made."""
    with pytest.raises(ConfigError, match=word):
        Config.of(**options)


def test_files_become_their_text(tmp_path: Path):
    """So that the run file says what was asked, and a Config made again from its values is the same."""
    (tmp_path / "own.toml").write_text(PACK)
    (tmp_path / "ask.txt").write_bytes(b"\xef\xbb\xbf@someone: what is\r\n{{ x }}?")
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\xff")
    (tmp_path / "long.txt").write_bytes(b"x" * ((1 << 20) + 1))
    options = Prompting(domain=f"{tmp_path}/own.toml", prompt_template=f"@{tmp_path}/ask.txt")
    assert domain_pack(options.domain).styles == {"counting": "Count towns."}
    asked = Asking(None, options).template.render({"x": "this"})
    assert asked == "@someone: what is\nthis?"
    assert Prompting(domain=options.domain, prompt_template=options.prompt_template) == options
    for name in ("bad", "long"):
        with pytest.raises(ConfigError, match=name):
            Prompting(system_template=f"@{tmp_path}/{name}.txt")


def test_the_run_file_keeps_the_wording():
    """Our data files may be worded better one day, and answers to both would be mixed."""
    assert wording(Config.of()) == {}
    assert "Yes or No" in wording(Config.of(style="yes_no"))["instructions"]
    mixed = wording(Config.of(style="mixed"))["instructions"]
    assert "Yes or No" in mixed
    assert "four options" in mixed
