"""The text of ``vqa.toml``: every option of ``config``, so that the file is its own manual.

Names and defaults come from the dataclasses, in the groups of ``vqa-async run --help``; the help is the
string below each field, which exists only in the source and is read from its syntax tree. An option that is
added there is in the file. Taking the # away from any line that is an option gives a file that can be used.
"""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator
from dataclasses import fields
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from vqa_async.config import Config, option_classes

_ACTIVE = ("base_url", "model", "max_workers")
_GROUPS = {
    "Where": ("endpoint",),
    "What to ask": ("sampling", "prompting", "answers", "columns", "selection"),
    "Pace and patience": ("limits", "timeouts", "retry"),
    "Budget": ("budget",),
    "Images": ("images",),
    "Results and resuming": ("journal",),
    "Batches": ("batches",),
    "Checked answers": ("quality", "verification"),
    "Watched from outside": ("observability",),
}
"""The groups of the help, with the fields of Config that stand in each. A field that none has comes last."""

_EXAMPLES: dict[str, Any] = {
    "system_prompt": "Answer in one short sentence.",
    "temperature": 0.2,
    "max_tokens": 512,
    "max_tokens_ceiling": 4096,
    "seed": 7,
    "shuffle": 7,
    "detail": "high",
    "price_input": 0.15,
    "price_output": 0.6,
}
"""Values for options that have none of their own, which TOML could not say."""
_WIDTH = 100

_HEAD = """\
# Settings of `vqa-async run --config vqa.toml`. A flag or an environment variable (VQA_MAX_WORKERS) wins over
# this file. A line such as #timeout = 600.0 is an option at its default: take the # away to change it. What
# has no default shows an example. output, limit, format, json and quiet may stand here too.
# The API key does not belong here: put it into the environment variable DF_API_KEY or OPENAI_API_KEY.
"""


_TAIL = """\
# ==== Several endpoints
#
# Each with what is its own, instead of base_url above. These tables stand at the end of the file:
#
#     [[endpoints]]
#     base_url = "http://gpu-1:8000/v1"
#     model = "qwen2.5-vl-7b"
#     weight = 2.0
#
#     [[endpoints]]
#     base_url = "https://gateway.example/v1"
#     model = "vendor/qwen2.5-vl-7b"
#     api_key_env = "GATEWAY_KEY"
#     header = ["X-Team: blue"]
#     max_workers = 20
#     rpm = 600
#     tpm = 1000000
"""


def settings_toml(config: Config) -> str:
    """``vqa.toml`` with the main options as in ``config`` and all others commented out at their defaults."""
    return "\n".join([_HEAD, *_groups(config), _TAIL])


def _groups(config: Config) -> Iterator[str]:
    left = dict.fromkeys(option_classes())
    for title, names in _GROUPS.items():
        yield f"# ==== {title}\n"
        for name in names:
            left.pop(name)
            yield from _options(getattr(config, name))
    for name in left:
        yield f"# ==== {name.capitalize()}\n"
        yield from _options(getattr(config, name))


def _options(values: Any) -> Iterator[str]:
    help_of, hints = option_help(), get_type_hints(type(values))
    yield f"# ---- {_first_line(type(values).__doc__ or '')}\n"
    for option in fields(values):
        value, help = getattr(values, option.name), help_of[option.name]
        if value is None:
            value = _EXAMPLES.get(option.name, _example(hints[option.name]))
            help = f"{help} For example:"
        yield _option(option.name, value, help)


def _example(hint: Any) -> Any:
    """Some value of the type that ``hint`` names, other than None."""
    if get_origin(hint) is Literal:
        return get_args(hint)[0]
    if get_origin(hint) is tuple:
        return ()
    kind = next((kind for kind in get_args(hint) if kind is not NoneType), hint)
    if kind is hint:
        return kind()
    return _example(kind)


def _option(name: str, value: Any, help: str) -> str:
    lead = "" if name in _ACTIVE else "#"
    line = f"{lead}{name} = {_toml_value(value)}"
    return textwrap.fill(help, _WIDTH, initial_indent="# ", subsequent_indent="# ") + f"\n{line}\n"


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, str):
        # JSON's escapes are TOML's too; only DEL may stand bare in the one and not in the other.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return f"{value:_}" if isinstance(value, int) else repr(value)


def option_help() -> dict[str, str]:
    """The help of each option: the string below its field, on one line."""
    trees = (ast.parse(inspect.getsource(options)) for options in option_classes().values())
    classes = (node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef))
    return {name: text for node in classes for name, text in _documented_fields(node)}


def _documented_fields(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, below in zip(node.body, node.body[1:], strict=False):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, " ".join(text.split())


def _first_line(text: str) -> str:
    return text.strip().split("\n", 1)[0]
