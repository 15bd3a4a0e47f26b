"""Where templates run: Jinja's immutable sandbox, made smaller until nothing in it is without bounds.

Jinja's own sandbox keeps a template from Python's internals, but not from taking for ever or all memory. So
here: loops take a limited number of steps in all; there are no macros, no recursion, no namespaces and no
other templates; what multiplies or joins text is measured before it is done, and what is kept in a variable
after; filters and methods are those listed here. Nothing is random: the same row gives the same text.

Loaded only where there is a template.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from jinja2 import StrictUndefined, Undefined, meta, nodes, pass_context
from jinja2 import Template as Compiled
from jinja2.exceptions import SecurityError, TemplateSyntaxError
from jinja2.filters import FILTERS
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

MOST_CHARS = 1_000_000
"""Of what a template writes, and of any text on the way there."""

MOST_STEPS = 10_000
"""Of all loops of one rendering together; also values in a list that a template makes."""

MOST_RANGE = 1_000
_MOST_BITS = 1_024

BUDGET = "\0budget"
"""Name in the context, which no template can write."""


class TooMuch(SecurityError):
    """A template that would take too long or too much memory."""


class Budget:
    """Steps that are left for one rendering."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = MOST_STEPS

    def take(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise TooMuch(f"it takes more than {MOST_STEPS:,} steps")


def _require_short(chars: int) -> None:
    if chars > MOST_CHARS:
        raise TooMuch(f"it makes a text of more than {MOST_CHARS:,} characters")


def _require_few(items: int) -> None:
    if items > MOST_STEPS:
        raise TooMuch(f"it makes a list of more than {MOST_STEPS:,} values")


def _measure(value: Any) -> int:
    """How many values stand in ``value``, itself included; those that stand there twice count twice."""
    waiting, count, chars = [value], 0, 0
    while waiting:
        one = waiting.pop()
        count += 1
        if isinstance(one, str):
            chars += len(one)
        elif isinstance(one, dict):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple):
            waiting += one
        _require_short(chars + count + len(waiting))
    return count


def shown(value: Any) -> str:
    """``value`` as it is written out: text as it stands, lists and objects as JSON, and null not at all."""
    if isinstance(value, str):
        return value
    if value is None:
        raise SecurityError("it writes out a value that is null: give a default, as in {{ x | default('') }}")
    if isinstance(value, dict | list | tuple):
        return _tojson(value)
    return str(value)


def _tojson(value: Any) -> str:
    _measure(value)
    return json.dumps(value, ensure_ascii=False, default=str)


def _joined(parts: Iterable[Any]) -> str:
    texts, chars = [], 0
    for part in parts:
        texts.append(text := shown(part))
        _require_short(chars := chars + len(text))
    return "".join(texts)


# --- filters -------------------------------------------------------------------------------------------


def _default(value: Any, other: Any = "", boolean: bool = False) -> Any:
    if isinstance(value, Undefined) or value is None or (boolean and not value):
        return other
    return value


def _join(values: Iterable[Any], between: Any = "") -> str:
    glue = shown(between)
    texts, chars = [], 0
    for value in values:
        texts.append(text := shown(value))
        _require_short(chars := chars + len(text) + len(glue))
    return glue.join(texts)


def _replace(value: Any, old: Any, new: Any) -> str:
    text, old_text, new_text = shown(value), shown(old), shown(new)
    _require_short(len(text) + text.count(old_text) * len(new_text))
    return text.replace(old_text, new_text)


def _round(value: float, digits: int = 0) -> float:
    return round(value, digits) if digits and -20 < digits < 20 else round(value)


def _sum(values: Iterable[Any]) -> Any:
    return sum(value for value in values if isinstance(value, int | float))


def _truncate(value: Any, length: int = 255, end: str = "...") -> str:
    text = shown(value)
    return text if len(text) <= length else text[: max(0, length - len(end))] + end


def _on_text(method: Callable[[str], str]) -> Callable[[Any], str]:
    return lambda value: method(shown(value))


@pass_context
def _steps(context: Context, values: Iterable[Any]) -> Iterator[Any]:
    budget: Budget = context[BUDGET]
    for value in values:
        budget.take(1)
        yield value


@pass_context
def _kept(context: Context, value: Any) -> Any:
    budget: Budget = context[BUDGET]
    budget.take(_measure(value) // 100)
    return value


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_AS_IN_JINJA = _words(
    "abs dictsort first float int items last length count list map max min reject rejectattr reverse select "
    "selectattr sort unique groupby"
)

# Names of the last three cannot be written in a template: they are put there by _Bounding.
_FILTERS: dict[str, Callable[..., Any]] = {
    **{name: FILTERS[name] for name in _AS_IN_JINJA},
    **{name: _on_text(getattr(str, name)) for name in ("upper", "lower", "title", "capitalize", "strip")},
    "trim": _on_text(str.strip),
    "string": shown,
    "default": _default,
    "d": _default,
    "join": _join,
    "replace": _replace,
    "round": _round,
    "sum": _sum,
    "truncate": _truncate,
    "tojson": _tojson,
    "steps!": _steps,
    "kept!": _kept,
    "joined!": _joined,
}


# --- the environment -----------------------------------------------------------------------------------

_METHODS: dict[type, frozenset[str]] = {
    str: _words(
        "lower upper strip lstrip rstrip title capitalize casefold split rsplit splitlines startswith "
        "endswith removeprefix removesuffix count find isdigit isalpha isnumeric isupper islower"
    ),
    dict: _words("get items keys values"),
    list: _words("count index"),
    tuple: _words("count index"),
    LoopContext: _words("index index0 revindex revindex0 first last length previtem nextitem cycle changed"),
}


def _range(*bounds: int) -> range:
    numbers = range(*bounds)
    if len(numbers) > MOST_RANGE:
        raise TooMuch(f"it makes a range of more than {MOST_RANGE:,} numbers")
    return numbers


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(["+", "*", "%", "**"])
    concat = staticmethod(_joined)

    def __init__(self) -> None:
        super().__init__(undefined=StrictUndefined, finalize=shown, trim_blocks=True, lstrip_blocks=True)
        self.filters = dict(_FILTERS)
        self.globals = {"range": _range, "dict": dict}

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return attr in _METHODS.get(type(obj), ())

    def is_safe_callable(self, obj: Any) -> bool:
        return obj in (_range, dict) or type(getattr(obj, "__self__", None)) in _METHODS

    def wrap_str_format(self, value: Any) -> None:
        """No format: ``'{:9999999999}'`` is a text without end."""

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" or (operator == "%" and isinstance(left, str)):
            raise SecurityError(f"there is no {operator} {'on text ' if operator == '%' else ''}here")
        if operator == "*":
            _require_product(left, right)
        if operator == "+":
            _require_sum(left, right)
        return super().call_binop(context, operator, left, right)


def _require_product(left: Any, right: Any) -> None:
    for many, times in ((left, right), (right, left)):
        if not isinstance(times, int):
            continue
        if isinstance(many, str):
            _require_short(len(many) * times)
        elif isinstance(many, list | tuple):
            _require_few(len(many) * times)
        elif isinstance(many, int) and many.bit_length() + times.bit_length() > _MOST_BITS:
            raise TooMuch("it makes a number of more than 300 digits")


def _require_sum(left: Any, right: Any) -> None:
    if isinstance(left, str) and isinstance(right, str):
        _require_short(len(left) + len(right))
    elif isinstance(left, list | tuple) and isinstance(right, list | tuple):
        _require_few(len(left) + len(right))


_REFUSED: dict[type[nodes.Node], str] = {
    nodes.Macro: "macro",
    nodes.CallBlock: "call",
    nodes.Include: "include",
    nodes.Import: "import",
    nodes.FromImport: "from",
    nodes.Extends: "extends",
    nodes.Block: "block",
    nodes.NSRef: "namespaces",
    nodes.EvalContextModifier: "autoescape",
    nodes.ScopedEvalContextModifier: "autoescape",
    nodes.Pow: "**",
}


class _Bounding(NodeTransformer):
    """Puts the measures around what could grow, and refuses what cannot be measured."""

    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        if type(node) in _REFUSED:
            raise TemplateSyntaxError(f"{_REFUSED[type(node)]} is not to be had here", node.lineno)
        super().generic_visit(node, *args, **kwargs)
        return node

    def visit_For(self, node: nodes.For) -> nodes.Node:
        if node.recursive:
            raise TemplateSyntaxError("recursive loops are not to be had here", node.lineno)
        self.generic_visit(node)
        node.iter = _filtered(node.iter, "steps!")
        return node

    def visit_Assign(self, node: nodes.Assign) -> nodes.Node:
        self.generic_visit(node)
        node.node = _filtered(node.node, "kept!")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        parts = nodes.List(node.nodes, lineno=node.lineno)
        return _filtered(parts, "joined!")


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def compile_template(text: str) -> tuple[Compiled, frozenset[str]]:
    """``text`` compiled, and the names that a row must have for it: those that it makes no provision for.

    Raises:
        TemplateSyntaxError: it is no template, or uses what is not to be had here.
    """
    environment = _Environment()
    tree = environment.parse(text)
    names = meta.find_undeclared_variables(tree) - environment.globals.keys() - _provided_for(tree)
    tree = _Bounding().visit(tree)
    return environment.from_string(tree), frozenset(names)


def _provided_for(tree: nodes.Template) -> set[str]:
    filters = [node for node in tree.find_all(nodes.Filter) if node.name in ("default", "d")]
    tests = [node for node in tree.find_all(nodes.Test) if node.name in ("defined", "undefined")]
    return {node.node.name for node in [*filters, *tests] if isinstance(node.node, nodes.Name)}
