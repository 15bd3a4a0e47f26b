"""Options of the embedded endpoint: each has its help, and what cannot work is refused by name."""

from __future__ import annotations

import ast
import inspect
import itertools
from dataclasses import fields
from typing import Any

import pytest

from vqa_async.errors import ConfigError
from vqa_async.server import ServerOptions, options, running_server


def test_every_option_has_its_help_below_it() -> None:
    """Flags and documentation are made from these strings."""
    tree = ast.parse(inspect.getsource(options))
    body = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "ServerOptions").body
    helped = {
        field.target.id
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
    }
    assert helped == {field.name for field in fields(ServerOptions)}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("host", " "),
        ("port", 70_000),
        ("model", ()),
        ("model", ("a", "")),
        ("api_key", ("",)),
        ("api_key", ("a\nb",)),
        ("max_images", -1),
        ("max_body_bytes", 10),
        ("latency", -0.1),
        ("latency", float("nan")),
        ("latency_spread", 6),
        ("tokens_per_second", -1),
        ("max_concurrency", -1),
        ("knee", -1),
        ("rpm", -1),
        ("tpm", -1),
        ("retry_after", -1),
        ("drip", -1),
        ("drip_rate", 1.1),
        ("malformed_rate", -0.1),
        ("cut_rate", 2),
        ("wrong_json_rate", 1.5),
        ("disconnect_rate", 2),
        ("error_rate", ("503",)),
        ("error_rate", ("200=0.1",)),
        ("error_rate", ("503=often",)),
        ("error_rate", ("503=-0.1",)),
        ("error_rate", ("503=0.1", "503=0.2")),
    ],
)
def test_a_value_that_cannot_work_is_refused_by_name(option: str, value: Any) -> None:
    """The message names the option."""
    with pytest.raises(ConfigError, match=option):
        ServerOptions(**{option: value})


def test_fault_rates_beyond_one_are_refused() -> None:
    """A request can only have one fault."""
    with pytest.raises(ConfigError, match=r"add up to 1\.1"):
        ServerOptions(error_rate=("500=0.5", "503=.3"), cut_rate=0.2, disconnect_rate=0.1)


def test_a_uniform_latency_cannot_be_negative() -> None:
    """A spread beyond the mean is refused."""
    with pytest.raises(ConfigError, match="latency_spread"):
        ServerOptions(latency=1, latency_distribution="uniform", latency_spread=1.5)


def test_a_single_text_stands_for_a_list_of_one() -> None:
    """As Python callers write it."""
    chosen = ServerOptions(model="m", api_key="k", error_rate="503=.5")
    assert (chosen.model, chosen.api_key, chosen.error_rates()) == (("m",), ("k",), {503: 0.5})


def test_keys_are_not_shown() -> None:
    """The options can be printed."""
    assert "secret" not in repr(ServerOptions(api_key="secret"))


async def test_an_unknown_option_is_refused() -> None:
    """As a settings error that names it."""
    with pytest.raises(ConfigError, match="latancy"):
        async with running_server(latancy=1):
            pass
