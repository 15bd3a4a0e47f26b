"""The text of ``vqa.toml``: every option of ``config``, so that the file is its own manual.

Names, defaults and groups come from the dataclasses; the help is the string below each field, which exists
only in the source and is read from its syntax tree. An option that is added there is in the file.
"""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import vqa_async.config
from vqa_async.config import Config, option_classes

_ACTIVE = ("base_url", "model", "max_workers")
_WIDTH = 100

_HEAD = """\
# Settings of `vqa-async run --config vqa.toml`. A flag or an environment variable (VQA_MAX_WORKERS) wins over
# this file. A line such as #seed = ... is an option at its default: take the # away to change it.
# The API key does not belong here: put it into the environment variable DF_API_KEY or OPENAI_API_KEY.
"""


_TAIL = """\
# ---- Several endpoints, each with what is its own, instead of base_url. They stand at the end of the file.

#[[endpoints]]
#base_url = "http://gpu-1:8000/v1"
#model = "qwen2.5-vl-7b"
#weight = 2.0

#[[endpoints]]
#base_url = "https://gateway.example/v1"
#model = "vendor/qwen2.5-vl-7b"
#api_key_env = "GATEWAY_KEY"
#header = ["X-Team: blue"]
#max_workers = 20
#rpm = 600
#tpm = 1000000
"""


def settings_toml(config: Config) -> str:
    """``vqa.toml`` with the main options as in ``config`` and all others commented out at their defaults."""
    return "\n".join([_HEAD, *_groups(config), _TAIL])


def _groups(config: Config) -> Iterator[str]:
    help_of = option_help()
    for group in option_classes():
        values = getattr(config, group)
        yield f"# ---- {_first_line(type(values).__doc__ or group)}\n"
        for option in fields(values):
            yield _option(option.name, getattr(values, option.name), help_of[option.name])


def _option(name: str, value: Any, help: str) -> str:
    lead = "" if name in _ACTIVE else "#"
    line = f"{lead}{name} = {_toml_value(value)}".rstrip()
    return textwrap.fill(help, _WIDTH, initial_indent="# ", subsequent_indent="# ") + f"\n{line}\n"


def _toml_value(value: Any) -> str:
    """``value`` as TOML; "" for None, which TOML does not have."""
    if value is None:
        return ""
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
    tree = ast.parse(inspect.getsource(vqa_async.config))
    classes = (node for node in tree.body if isinstance(node, ast.ClassDef))
    return {name: text for node in classes for name, text in _documented_fields(node)}


def _documented_fields(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, below in zip(node.body, node.body[1:], strict=False):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, " ".join(text.split())


def _first_line(text: str) -> str:
    return text.strip().split("\n", 1)[0]
