"""Templates over the columns of a row: what they may do, what not, and that none goes on for ever."""

import time

import pytest

from vqa_async.errors import ConfigError, RecordError
from vqa_async.prompts.templates import Template

ROW = {
    "a": "x",
    "n": 3,
    "l": [1, 2, "b"],
    "t": "abc" * 100,
    "null": None,
    "meta": {"author": "Eve"},
    "file name": "f.png",
    "code": "{{ a }}",
}


def template(text):
    return Template(text, "--prompt-template")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("{{ a }} {{ n + 1 }} {{ meta.author }} {{ row['file name'] }}", "x 4 Eve f.png"),
        ("{{ l }} {{ meta | tojson }}", '[1, 2, "b"] {"author": "Eve"}'),
        ("{{ a ~ n ~ l | join('-') }}", "x31-2-b"),
        ("{{ a | upper }}{{ a.upper() }}{{ l | map('string') | join }}", "XX12b"),
        (
            "{% for x in l %}{{ loop.index }}{{ x }}{% if not loop.last %}, {% endif %}{% endfor %}",
            "11, 22, 3b",
        ),
        ("{% for c in 'abc' if c != 'b' %}{{ c }}{% endfor %}", "ac"),
        ("{{ null | default('-') }}{{ gone | default('+') }}{{ '' | d('!', true) }}", "-+!"),
        ("{% if null %}yes{% else %}no{% endif %}{% if gone is defined %}yes{% endif %}", "no"),
        ("{% set y = n * 2 %}{{ y }} {{ 'ab' * 2 }} {{ [1] * 2 }} {{ [1] + [2] }}", "6 abab [1, 1] [1, 2]"),
        ("{% set y %}<{{ a }}>{% endset %}{{ y }}", "<x>"),
        ("{{ 2.567 | round(1) }} {{ 2.5 | round }} {{ l | sum }} {{ 7 % 4 }}", "2.6 2 3 3"),
        ("{{ t | truncate(8) }} {{ a | truncate }} {{ t | replace('abc', '') }}.", "abcab... x ."),
        ("{{ range(3) | list }} {{ dict(k=1) | tojson }} {{ true }}", '[0, 1, 2] {"k": 1} True'),
        ("{{ code }}", "{{ a }}"),
        ("{{ a }} < {{ '&' }}", "x < &"),
        ("{% if n > 2 %}\n  many\n{% endif %}\n", "  many\n"),
    ],
)
def test_what_a_template_writes(text, written):
    """Values as they stand, lists as JSON, and what a row holds is text: never a template again."""
    assert template(text).render(ROW) == written


@pytest.mark.parametrize(
    "text",
    [
        "{{ a[",
        "{% for x in l %}",
        "{% macro m() %}{% endmacro %}",
        "{% call m() %}{% endcall %}",
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{% from 'x' import y %}",
        "{% extends 'x' %}",
        "{% block x %}{% endblock %}",
        "{% set ns.x = 1 %}",
        "{% autoescape true %}{% endautoescape %}",
        "{% for i in l recursive %}{{ loop(i) }}{% endfor %}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ a | center(1000000000) }}",
        "{{ l | random }}",
        "{{ a | nothing }}",
        f"{{{{ {'(' * 3000}1{')' * 3000} }}}}",
        "x" * 100_001,
    ],
)
def test_what_is_no_template_is_refused_at_once(text):
    """When it is compiled: before a row is read."""
    with pytest.raises(ConfigError, match="--prompt-template"):
        template(text)


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__ }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ a['__class__'] }}",
        "{{ '{0.__class__}'.format(a) }}",
        "{{ '{:9999999999}'.format(1) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ l | map(attribute='__class__') | list }}",
        "{{ range.__globals__ }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ lipsum(n=1000000) }}",
        "{{ l.append(1) }}",
        "{{ meta.update(a=1) }}",
        "{{ a.zfill(1000000000) }}",
        "{{ joiner() }}",
        "{{ loop }}{% for x in l %}{{ loop(x) }}{% endfor %}",
        "{{ f() }}",
    ],
)
def test_what_leads_out_of_the_sandbox_is_refused_by_the_first_row(text):
    """Neither Python's insides nor methods that change or swell a value can be reached."""
    with pytest.raises(ConfigError, match="--prompt-template"):
        template(text).check(ROW)
    with pytest.raises(RecordError, match="--prompt-template"):
        template(text).render({**ROW, "f": open})


DOUBLED = "{% set a = [a, a] %}" * 40
SQUARED = "{% set n = n * n %}" * 40


@pytest.mark.parametrize(
    "text",
    [
        "{% for a in range(1000) %}{% for b in range(1000) %}{% endfor %}{% endfor %}x",
        "{% for a in t %}{% for b in t %}{% for c in t %}{% endfor %}{% endfor %}{% endfor %}x",
        "{{ range(100000000) | list }}",
        "{{ 'a' * 1000000000 }}",
        "{{ [1] * 1000000000 }}",
        "{{ 1000000000 * (1, 2) }}",
        "{% set a = 'a' * 900000 %}{{ a ~ a }}",
        "{% set a = 'a' * 900000 %}{{ a + a }}",
        "{% set a = [1] * 9000 %}{{ a + a }}",
        "{% set a = 'a' * 900000 %}{{ [a] * 1000 }}",
        "{% set a = 'a' * 900000 %}{{ ([a] * 1000) | join(a) }}",
        "{% set a = 'a' * 900000 %}{{ a }}{{ a }}",
        "{{ 'a' * 1000 | replace('', t * 1000) }}",
        "{{ (t * 1000) | replace('', t) }}",
        "{% set x %}{% for i in range(1000) %}{{ t * 3 }}{% endfor %}{% endset %}"
        "{% for i in range(1000) %}{{ x }}{% endfor %}",
        "{{ ([[1] * 10000] * 10000) | string | upper }}",
        "{% set y = {'k': [[1] * 10000] * 10000} %}",
        DOUBLED + "{{ a }}",
        SQUARED + "{{ n }}",
    ],
)
def test_nothing_goes_on_for_ever_or_fills_the_memory(text):
    """Steps, lengths and sizes are bounded, and the bound is met soon."""
    compiled = template(text)
    began = time.process_time()
    with pytest.raises(RecordError, match="more than"):
        compiled.render(ROW)
    assert time.process_time() - began < 2


def test_a_missing_column_is_named_before_the_first_request():
    """With the nearest that there is, or those that there are, and how to allow for it."""
    with pytest.raises(ConfigError, match=r"'colour', but .* Did you mean 'color'\?"):
        template("{{ colour }}").check({"color": "red"})
    with pytest.raises(ConfigError, match=r"It has a, n.*default"):
        template("{{ zzzzzz }}").check({"a": 1, "n": 2, 3: 4})
    with pytest.raises(ConfigError, match="It has none"):
        template("{{ a }}").check({})
    with pytest.raises(ConfigError, match="fails on the first row"):
        template("{{ row.gone }}").check({"a": 1})


@pytest.mark.parametrize(
    "text", ["{{ x | default('') }}{{ x }}", "{% if x is defined %}{{ x }}{% endif %}", "{{ row }}", "plain"]
)
def test_a_column_that_is_provided_for_may_be_missing(text):
    """What the template itself asks about is no mistake in it."""
    if "{{ x }}" in text and "if" not in text:
        with pytest.raises(ConfigError):
            template(text).check({})  # used bare as well
    else:
        template(text).check({})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{{ n / 0 }}", "ZeroDivisionError"),
        ("{{ gone }}", "'gone' is undefined"),
        ("{{ null }}", "null"),
        ("{{ a + n }}", "TypeError"),
        ("{{ l | round }}", "TypeError"),
        ("{{ null | upper }}", "null"),
        ("{% if n > 5 %}x{% endif %} ", "blank"),
        ('{{ "\\ud800" }}', "surrogates"),
    ],
)
def test_a_row_that_it_does_not_fit_is_an_error_of_that_row(text, reason):
    """And of no other."""
    with pytest.raises(RecordError, match=reason) as error:
        template(text).render(ROW)
    assert error.value.code == "template"


def test_what_only_one_row_can_be_blamed_for_passes_the_check():
    """A value that does not fit says nothing of the template."""
    template("{{ 6 / n }}").check({"n": 0})
