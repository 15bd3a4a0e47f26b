"""`vqa-async prompts`: the styles and domain packs, or the system prompt that options make of them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping

from vqa_async.cli.console import emit
from vqa_async.config import Config, Prompting, Sampling
from vqa_async.prompts import DOMAINS, asking_for, domain_pack, styles

_WIDTH = 100
_INDENT = 19


def show_prompts(prompting: Prompting, system_prompt: str | None) -> int:
    """Print what a run with these options would send, to the letter; without options, what there is."""
    if prompting == Prompting() and system_prompt is None:
        emit("\n".join(_catalogue()))
        return 0
    asking = asking_for(Config(sampling=Sampling(system_prompt=system_prompt), prompting=prompting))
    prompts = asking.all_systems()
    if len(prompts) == 1:
        emit(next(iter(prompts.values())))
    else:
        emit("\n\n".join(f"=== {style}\n\n{prompt}" for style, prompt in prompts.items()))
    return 0


def _catalogue() -> Iterator[str]:
    yield "Styles (--style)"
    yield from _entries({name: style.purpose for name, style in styles().items()})
    yield ""
    yield "Domains (--domain)"
    yield from _entries({name: domain_pack(name).purpose for name in DOMAINS})
    yield from _entries(
        {"FILE.toml": "A pack of your own: purpose, system, and a table of styles if you like."}
    )
    yield ""
    yield "See what is sent: vqa-async prompts --style counting --pairs 3 --language German"


def _entries(purposes: Mapping[str, str]) -> Iterator[str]:
    for name, purpose in purposes.items():
        yield textwrap.fill(
            purpose, _WIDTH, initial_indent=f"  {name:{_INDENT - 2}}", subsequent_indent=" " * _INDENT
        )
