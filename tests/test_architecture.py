"""The house as it is drawn: imports go downwards only, no cycles, each foreign library behind its own door.

Read from the syntax tree, so that an import inside a function counts as much as one at the top.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import vqa_async

PACKAGE = Path(vqa_async.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# Who may import what from outside; everyone may use the standard library and orjson.
DOORS = {
    "aiohttp": {"transport", "server", "dashboard"},  # a page of our own is served by what is there already
    "yarl": {"transport"},
    "PIL": {"images", "server", "workspace"},  # the engine's images; the endpoint's eyes; the sample's brush
    "pillow_heif": {"images"},
    "rapidocr": {"server"},
    "onnxruntime": {"server"},
    "numpy": {"server"},
    "pybase64": {"images", "server", "export", "report", "dashboard"},
    "pyarrow": {"export", "sources", "dataflow", "distributed"},
    "ray": {"distributed"},
    "xxhash": {"images"},
    "tenacity": {"client", "batches"},  # a record's own requests; the calls of a batch API
    "aiofiles": {"sources"},
    "fsspec": {"sources"},
    "backports": {"sources"},
    "datasets": {"sources"},
    "filelock": {"journal"},
    "jinja2": {"prompts", "report"},
    "cyclopts": {"cli"},
    "rich": {"cli", "watch", "api"},
    "uvloop": {"api"},
    "genai_prices": {"spending"},
    "jsonschema": {"structured"},
    "json_repair": {"structured"},
    "rapidfuzz": {"quality"},
    "py3langid": {"quality"},
    "prometheus_client": {"metrics"},
    "opentelemetry": {"tracing"},
    "pytest_asyncio": {"testing"},
}


@cache
def floors() -> dict[str, int]:
    """Each room of the map in the package's docstring, with the number of its floor."""
    rooms: dict[str, int] = {}
    floor = -1
    for line in (vqa_async.__doc__ or "").splitlines():
        if numbered := re.match(r"    (\d) [a-z ]+?  +(.*)", line):
            floor, names = int(numbered[1]), numbered[2]
        elif floor >= 0 and line.startswith(" " * 12):
            names = line
        else:
            continue
        rooms |= dict.fromkeys(re.split(r" {3,}", names.strip())[0].split(), floor)
    return rooms


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


def module_of(path: Path) -> str:
    parts = list(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Every module that a file imports, by its full name."""

    def found() -> Iterator[str]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: imports are absolute here"
                yield node.module or ""
                yield from (f"{node.module}.{alias.name}" for alias in node.names)

    return frozenset(found())


def own_imports(path: Path) -> frozenset[str]:
    modules = {module_of(file) for file in FILES}
    return frozenset(name for name in imports_of(path) if name in modules and name != module_of(path))


INSIDE = [path for path in FILES if room_of(path) not in ("__init__", "__main__")]


def test_every_room_stands_on_the_map() -> None:
    """The map in the package's docstring names each file and folder, and nothing that is not there."""
    assert set(floors()) == {room_of(path) for path in INSIDE}


@pytest.mark.parametrize("path", INSIDE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downwards(path: Path) -> None:
    """A file imports rooms of its own floor or of a lower one."""
    own = floors()[room_of(path)]
    for name in own_imports(path) - {"vqa_async"}:
        room = name.split(".")[1]
        assert floors()[room] <= own, f"{path.name} reaches up to {room}"


def test_there_is_no_cycle_between_files() -> None:
    """Files can be read in an order in which each uses only what came before."""
    graph = {module_of(path): own_imports(path) - {"vqa_async"} for path in INSIDE}
    for name in graph:  # a package is its own front, not a user of itself
        graph[name] = frozenset(other for other in graph[name] if not name.startswith(f"{other}."))
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a cycle: {error.args[1]}")


def test_there_is_no_cycle_between_rooms() -> None:
    """Rooms on one floor may lean on each other only one way."""
    graph: dict[str, set[str]] = {}
    for path in INSIDE:
        used = {name.split(".")[1] for name in own_imports(path) - {"vqa_async"}}
        graph.setdefault(room_of(path), set()).update(used - {room_of(path)})
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a cycle: {error.args[1]}")


@pytest.mark.parametrize("library", DOORS)
def test_a_foreign_library_has_its_own_door(library: str) -> None:
    """Only the rooms named here import it, so it can be replaced in one place."""
    users = {
        room_of(path)
        for path in INSIDE
        if any(name == library or name.startswith(f"{library}.") for name in imports_of(path))
    }
    assert users <= DOORS[library]


def test_the_engine_touches_the_imaging_library_in_one_file_only() -> None:
    """Of the rooms that answer records, images/codec.py alone imports Pillow."""
    users = {
        str(path.relative_to(PACKAGE))
        for path in INSIDE
        if room_of(path) not in ("server", "workspace") and any(n.startswith("PIL") for n in imports_of(path))
    }
    assert users == {"images/codec.py"}


def test_only_the_command_line_prints() -> None:
    """A library that prints cannot be a guest."""
    for path in INSIDE:
        if room_of(path) == "cli":
            continue
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        assert not [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"], path


def test_decisions_do_no_input_or_output() -> None:
    """Rooms of floor 1 know no loop, file, socket or clock."""
    forbidden = {"asyncio", "time", "socket", "pathlib", "os", "io", "threading"}
    for path in INSIDE:
        if floors()[room_of(path)] == 1:
            assert not {name.split(".")[0] for name in imports_of(path)} & forbidden, path
            assert not [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Await)], path


def test_broad_handlers_stand_only_where_an_error_becomes_a_result() -> None:
    """`except Exception` is for a record's error (live or in a batch), a caller's iterable, a watcher, what a
    thread hands on, and libraries that raise whatever they like: file systems, and an OCR model that is
    loaded; nowhere else."""
    allowed = {"client/client.py": 2, "engine/run.py": 1, "engine/engine.py": 1}
    allowed |= {"sources/own_thread.py": 1, "sources/remote.py": 1, "server/reader.py": 1}
    for path in INSIDE:
        broad = len(re.findall(r"except (?:Base)?Exception\b|except:", path.read_text()))
        assert broad == allowed.get(str(path.relative_to(PACKAGE)), 0), path


def test_no_pattern_repeats_a_group_possessively() -> None:
    """Python 3.11.0 to 3.11.3 read on at the wrong place where such a group fails half way; atomic groups are
    the same and are read rightly. Debian 12 has one of those."""
    for path in INSIDE:
        found = re.findall(r"\)(?:[*+?]|\{+[0-9,]+\}+)\+", path.read_text())
        assert not found, path


def test_public_names_are_all_there() -> None:
    """Each name in __all__ loads from its home."""
    for name in vqa_async.__all__:
        assert getattr(vqa_async, name) is not None
    assert set(vqa_async.__all__) <= set(dir(vqa_async))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        vqa_async.nothing  # noqa: B018
