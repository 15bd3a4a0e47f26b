"""The options of a submission, written down for whoever fetches its answers. Never a key, never a header."""

from __future__ import annotations

import os
from dataclasses import asdict, fields, replace
from typing import Any

from vqa_async.config import Config, Endpoint, JournalOptions, option_classes
from vqa_async.errors import ConfigError, InputError
from vqa_async.journal import BatchLog, JournalPaths

_OF_NOW = ("timeouts", "retry", "limits", "batches")
"""Groups of options that may be others when the answers are fetched, as they change none."""


def log_of(output: str | os.PathLike[str]) -> BatchLog:
    """The log of the batches of ``output``.

    Raises:
        InputError: nothing was ever handed in.
    """
    paths = JournalPaths.of(output)
    log = BatchLog(paths.batches)
    if log.submission is None:
        raise InputError(
            f"Nothing of {paths.successes} was handed to a batch API. Check the name, or start with: "
            "vqa-async batch submit."
        )
    return log


def stored_config(output: str | os.PathLike[str], given: Config) -> tuple[Config, dict[str, Any]]:
    """The options with which ``output`` was submitted, and its source as ``run`` takes it.

    Args:
        output: path of OUT.jsonl.
        given: gives what is never written down (headers), and how to reach the provider and to wait now.

    Raises:
        InputError: nothing was ever handed in.
        ConfigError: another endpoint is named than the one where the batches are.
    """
    submission = log_of(output).submission
    assert submission is not None
    kept = option_classes()
    groups = {name: _made(kept[name], values) for name, values in submission.config.items() if name in kept}
    # What was allowed once is not allowed for good.
    groups["journal"] = JournalOptions(groups["journal"].fsync, groups["journal"].fsync_interval)
    there, now = groups["endpoint"], given.endpoint
    named = given.endpoints[0].base_url if given.endpoints else now.base_url[0]
    if named not in (submission.endpoint, Endpoint().base_url[0]):
        raise ConfigError(
            f"The batches of {output} are at {submission.endpoint}, and not at {named}: leave --base-url out."
        )
    endpoint = replace(
        there,
        api_key_env=now.api_key_env or there.api_key_env,
        header=(*now.header, *(given.endpoints[0].header if given.endpoints else ())),
        insecure=now.insecure or there.insecure,
        trust_env=now.trust_env or there.trust_env,
    )
    mine = {name: getattr(given, name) for name in _OF_NOW if getattr(given, name) != kept[name]()}
    return Config(**{**groups, **mine, "endpoint": endpoint}), submission.source


def _made(group: Any, values: dict[str, Any]) -> Any:
    """A group of options; those that this version does not know are passed over."""
    known = {option.name for option in fields(group)}
    return group(**{name: value for name, value in values.items() if name in known})


def kept_config(config: Config) -> dict[str, Any]:
    """What of ``config`` is written down: all but headers, which may be secret, and several endpoints."""
    values = {name: asdict(getattr(config, name)) for name in option_classes()}
    one = config.all_endpoints()[0]
    values["endpoint"] |= {"base_url": [one.base_url], "model": one.model, "api_key_env": one.api_key_env}
    del values["endpoint"]["header"]
    return values
