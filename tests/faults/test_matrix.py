"""No fault is forgotten: each row of the matrix has tests that exist, and the README shows them."""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import os
import tomllib
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
GROUPS = {"L": 14, "R": 12, "N": 10, "I": 16, "S": 14, "D": 14, "P": 17, "O": 15}
ROWS = [f"{group}{n}" for group, count in GROUPS.items() for n in range(1, count + 1)]
MATRIX: dict[str, Any] = tomllib.loads((Path(__file__).parent / "matrix.toml").read_text())


def script() -> ModuleType:
    """scripts/faults as a module."""
    loader = importlib.machinery.SourceFileLoader("faults_script", str(ROOT / "scripts" / "faults"))
    spec = importlib.util.spec_from_loader("faults_script", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@cache
def found_in(file: str) -> dict[str, str]:
    """The tests of a file that can be collected, with the first lines of their docstrings."""
    path = ROOT / file
    assert path.name.startswith("test_")
    assert path.is_file(), f"{file} is not there"
    return {
        node.name: (ast.get_docstring(node) or "").partition("\n")[0]
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def test_every_row_is_there_in_order() -> None:
    """A fault without a row: all 112 of the eight groups are in the matrix, and nothing else."""
    assert list(MATRIX) == ["groups", *ROWS]
    assert list(MATRIX["groups"]) == list(GROUPS)
    assert len(ROWS) == 112


@pytest.mark.parametrize("name", ROWS)
def test_row_names_tests_that_exist_or_says_why_there_are_none(name: str) -> None:
    """A row whose test was renamed or deleted: every test that is named is there, and says what it shows."""
    row = MATRIX[name]
    assert set(row) <= {"fault", "tests", "why", "long"}
    assert row["fault"]
    assert ("tests" in row) is not ("why" in row)
    for test in row.get("tests", ()):
        file, _, function = test.partition("::")
        assert function in found_in(file), test
        assert found_in(file)[function], f"{test} does not say what it shows"
    assert len(set(row.get("tests", ()))) == len(row.get("tests", ()))
    assert row.get("tests") != []


@pytest.mark.parametrize("name", [name for name in ROWS if "long" in MATRIX[name]])
def test_long_form_is_a_command_that_exists(name: str) -> None:
    """A long form that nobody can run: its script is there."""
    command, *arguments = MATRIX[name]["long"].split()
    if command == "python":
        assert (ROOT / Path(*arguments[1].split("."))).with_suffix(".py").is_file()
    else:
        assert os.access(ROOT / command, os.X_OK)


def test_every_test_of_this_folder_is_in_the_matrix() -> None:
    """A test of a fault that no row knows: each one here is named by a row."""
    named = {test for row in MATRIX.values() for test in row.get("tests", ())}
    for path in sorted(Path(__file__).parent.glob("test_faults_*.py")):
        file = str(path.relative_to(ROOT))
        assert [name for name in found_in(file) if f"{file}::{name}" not in named] == []


def test_readme_has_the_table_of_the_matrix() -> None:
    """A table that is out of date: scripts/faults has been run since a row changed."""
    readme = (ROOT / "README.md").read_text()
    assert "<!-- faults: written by scripts/faults -->" in readme
    assert "<!-- end of faults -->" in readme
    assert script().with_table(readme) == readme
