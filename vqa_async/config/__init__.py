"""Every option, once: name, default, unit and help.

Command-line flags, environment variables, TOML keys, ``open_engine(...)`` keywords and the option table of
the README all follow from the fields here; the string below a field is its help everywhere. Values check
themselves when made, so a Config that exists can be run.

Field names are flat: no two groups share one, because ``--max-workers``, ``VQA_MAX_WORKERS``,
``max_workers = 64`` in TOML and ``max_workers=64`` in Python all name the same field.

The API key is not an option. Only the NAME of the environment variable that holds it is, so no
configuration that is printed, compared or written down can contain it.

    values     what the option classes share: they check themselves with these; not for others
    endpoints  where requests go: addresses, models, headers, the name of the variable with the key
    asking     what is asked, and what an answer is to be: prompts, parameters, styles, schemas
    rows       which rows of an input are asked about, and where in them everything stands
    images     how images are found, checked, shrunk and encoded
    pace       how much at once, how much in all, and how long anything may take
    results    how results are kept, and what is told of a run while it goes on
    quality    which pairs are looked at, how, and which are put to a model once more
    whole      all options together: what an engine is opened with
"""

from vqa_async.config.asking import PARAMS_KEY, SET_BY_ENGINE, Answers, Prompting, Sampling, Style
from vqa_async.config.endpoints import (
    DEFAULT_BASE_URL,
    DEFAULT_KEY_VARIABLES,
    Endpoint,
    NamedEndpoint,
    find_api_key,
    key_variables,
    normalise_base_url,
    usable_key,
)
from vqa_async.config.images import ImageOptions
from vqa_async.config.pace import Budget, Limits, RetryPolicy, Timeouts
from vqa_async.config.quality import BASIC_CHECKS, EXTRA_CHECKS, RUN_CHECKS, Quality, Verification
from vqa_async.config.results import BatchOptions, Distribution, JournalOptions, LogLevel, Observability
from vqa_async.config.rows import Columns, InputFormat, Selection
from vqa_async.config.whole import Config, option_classes, option_groups

__all__ = [
    "BASIC_CHECKS",
    "DEFAULT_BASE_URL",
    "DEFAULT_KEY_VARIABLES",
    "EXTRA_CHECKS",
    "PARAMS_KEY",
    "RUN_CHECKS",
    "SET_BY_ENGINE",
    "Answers",
    "BatchOptions",
    "Budget",
    "Columns",
    "Config",
    "Distribution",
    "Endpoint",
    "ImageOptions",
    "InputFormat",
    "JournalOptions",
    "Limits",
    "LogLevel",
    "NamedEndpoint",
    "Observability",
    "Prompting",
    "Quality",
    "RetryPolicy",
    "Sampling",
    "Selection",
    "Style",
    "Timeouts",
    "Verification",
    "find_api_key",
    "key_variables",
    "normalise_base_url",
    "option_classes",
    "option_groups",
    "usable_key",
]
