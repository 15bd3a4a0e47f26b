"""The error tree: drawn as it is, split by what the caller does next, whole after a journey."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from vqa_async import errors
from vqa_async.errors import ResponseError, StatusError, VQAError

CLASSES = {
    name: kind
    for name, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, VQAError) and kind.__module__ == errors.__name__
}


def drawn() -> dict[str, str]:
    """Each class in the docstring's drawing, with the one that it is drawn under ("" for the root)."""
    parents: dict[str, str] = {}
    line_of_descent: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        name = line.split()[0] if line.startswith("    ") else ""
        if name not in CLASSES:
            continue
        depth = len(line) - len(line.lstrip())
        while line_of_descent and line_of_descent[-1][0] >= depth:
            line_of_descent.pop()
        parents[name] = line_of_descent[-1][1] if line_of_descent else ""
        line_of_descent.append((depth, name))
    return parents


def made(kind: type[VQAError]) -> VQAError:
    return kind("It went wrong.", status=418) if issubclass(kind, StatusError) else kind("It went wrong.")


ALL = pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES.keys())


def test_tree_is_drawn_as_it_is() -> None:
    """Every class stands in the docstring, under its parent; and every one is public."""
    assert drawn() == {
        name: "" if kind is VQAError else kind.__bases__[0].__name__ for name, kind in CLASSES.items()
    }
    assert set(errors.__all__) == CLASSES.keys()


# (retryable, stops_run): try again? is any record of use?
FLAGS = {
    "VQAError": (False, False),
    "ConfigError": (False, True),
    "InputError": (False, True),
    "RecordError": (False, False),
    "ImageError": (False, False),
    "RequestError": (False, False),
    "TransportError": (True, False),
    "StatusError": (False, False),
    "RateLimited": (True, False),
    "ServerError": (True, False),
    "AuthError": (True, True),
    "QuotaExceeded": (True, True),
    "ModelNotFound": (True, True),
    "EndpointNotFound": (True, True),
    "Rejected": (False, False),
    "ResponseError": (True, False),
    "BatchError": (True, False),
    "BudgetReached": (True, True),
    "JournalError": (False, True),
    "JournalLocked": (False, True),
    "JournalDamaged": (False, True),
    "SettingsChanged": (False, True),
    "BatchesPending": (False, True),
    "DiskError": (False, True),
}


def test_flags_are_known_for_every_class() -> None:
    """A new class needs a decision."""
    assert FLAGS.keys() == CLASSES.keys()


@ALL
def test_flags_say_what_to_do_next(kind: type[VQAError]) -> None:
    """Try again, stop the run, or neither."""
    error = made(kind)
    assert (error.retryable, error.stops_run) == FLAGS[kind.__name__]


@ALL
def test_error_is_its_message(kind: type[VQAError]) -> None:
    """One sentence, and a code that can be counted; every class says in its docstring what it means."""
    error = made(kind)
    assert str(error) == error.message == "It went wrong."
    assert error.args == ("It went wrong.",)
    assert error.code.isidentifier()
    assert error.code.islower()
    assert kind.__doc__


def test_codes_of_classes_are_distinct() -> None:
    """A failure counted by its code is counted by its class."""
    codes = [kind.code for kind in CLASSES.values()]
    assert len(set(codes)) == len(codes)


@ALL
@pytest.mark.parametrize(
    "journey", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))]
)
def test_error_arrives_whole_in_another_process(kind: type[VQAError], journey: object) -> None:
    """With all its facts, also those that were set after it was made."""
    error = made(kind)
    error.code = "special"
    error.stops_run = not error.stops_run
    assert callable(journey)
    arrived = journey(error)
    assert type(arrived) is kind
    assert arrived.args == error.args
    assert vars(arrived) == vars(error)


def test_errors_of_requests_carry_facts() -> None:
    """Status, wait and excerpt, not prose to be parsed."""
    error = StatusError("no", status=429, retry_after_s=2.0, excerpt="slow", endpoint="http://x", code="c")
    facts = (error.status, error.retry_after_s, error.excerpt, error.endpoint, error.code)
    assert facts == (429, 2.0, "slow", "http://x", "c")
    assert (error.attempts, error.elapsed_s) == (0, 0.0)
    refused = ResponseError("no", retryable=False, excerpt="I cannot")
    assert (refused.retryable, refused.excerpt) == (False, "I cannot")
