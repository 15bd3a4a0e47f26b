"""A user's template over the columns of a row. What it writes is text, and never read as a template again."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from vqa_async.errors import ConfigError, RecordError

MOST_TEMPLATE_CHARS = 100_000

_OF_DATA = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What expressions raise on values that they do not fit."""


class Template:
    """A compiled template. The columns of a row are its names; ``row`` is the row as a whole.

    Args:
        text: the template.
        option: the option that it was given by, for messages.

    Raises:
        ConfigError: it is no template.

    Example:
        >>> Template("What is the {{ colour }} thing?", "--prompt-template").render({"colour": "red"})
        'What is the red thing?'
    """

    def __init__(self, text: str, option: str) -> None:
        from jinja2 import TemplateSyntaxError

        from vqa_async.prompts.sandbox import compile_template

        self._option = option
        if len(text) > MOST_TEMPLATE_CHARS:
            raise ConfigError(f"{option} has more than {MOST_TEMPLATE_CHARS:,} characters.")
        try:
            self._compiled, self._names = compile_template(text)
        except TemplateSyntaxError as error:
            raise ConfigError(f"{option} is no template: {error.message} (line {error.lineno}).") from None
        except (RecursionError, SyntaxError, ValueError) as error:  # nested without end; a huge number
            raise ConfigError(f"{option} is no template: {type(error).__name__}.") from None

    def check(self, row: Mapping[str, Any]) -> None:
        """Refuse a template that cannot work, by the first row.

        Raises:
            ConfigError: the row has no column of a name that it needs, or it does what is not allowed.
        """
        for name in sorted(self._names - {"row"}):
            if name not in row:
                raise ConfigError(f"{self._option} uses {name!r}, {_missing(name, row)}")
        from jinja2 import TemplateError

        try:
            self._write(row)
        except TemplateError as error:
            raise ConfigError(
                f"{self._option} fails on the first row: {str(error.message)[:300].rstrip('. ')}."
            ) from None
        except _OF_DATA:
            pass  # that row's own; it becomes a Failure when it is read

    def render(self, row: Mapping[str, Any]) -> str:
        """What it writes for ``row``.

        Raises:
            RecordError: it cannot be written for this row, or is blank.
        """
        from jinja2 import TemplateError

        try:
            text = self._write(row)
        except TemplateError as error:
            raise self._failed(str(error.message)) from None
        except _OF_DATA as error:
            raise self._failed(f"{type(error).__name__}: {error}") from None
        if not text.strip():
            raise self._failed("what it writes is blank")
        if not _is_unicode(text):
            raise self._failed("what it writes holds unpaired surrogates, which are no characters")
        return text

    def _write(self, row: Mapping[str, Any]) -> str:
        from vqa_async.prompts.sandbox import BUDGET, Budget

        return self._compiled.render({"row": row, **row, BUDGET: Budget()})

    def _failed(self, reason: str) -> RecordError:
        return RecordError(
            f"{self._option} does not work for it: {reason[:300].rstrip('. ')}.", code="template"
        )


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _missing(name: str, row: Mapping[str, Any]) -> str:
    columns = [column for column in row if isinstance(column, str)]
    near = difflib.get_close_matches(name, columns, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"It has {', '.join(columns[:20]) or 'none'}."
    return (
        f"but the first row has no column of that name. {hint} "
        f"Where rows may lack it, write {{{{ {name} | default('') }}}}."
    )
