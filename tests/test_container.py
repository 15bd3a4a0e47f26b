"""The Dockerfile can be built: its sources exist and are let through, its base is pinned, its user is nobody.

There is no Docker where these tests run, so that they read it as a linter would.
"""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def instructions() -> list[tuple[str, str]]:
    """Name and arguments of each instruction, continued lines joined, comments left out."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    split = (line.split(None, 1) for line in lines if line.strip())
    return [(name, rest) for name, rest in split]


def of(name: str) -> list[str]:
    return [rest for found, rest in instructions() if found == name]


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps ``path`` out: the last line that speaks of it decides."""
    result = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if not line.startswith("#") and pattern in ("*", path):
            result = not line.startswith("!")
    return result


def copied() -> list[str]:
    """What is copied from the checkout."""
    words = [shlex.split(rest) for rest in of("COPY") if "--from" not in rest]
    return [source for line in words for source in line[:-1]]


def test_every_instruction_is_one_that_docker_knows() -> None:
    """In capitals, the first a FROM."""
    known = {"FROM", "ARG", "WORKDIR", "COPY", "RUN", "USER", "ENV", "ENTRYPOINT", "CMD"}
    assert {name for name, _ in instructions()} <= known
    assert instructions()[0][0] == "FROM"


def test_both_stages_have_the_same_pinned_base() -> None:
    """A version of Python and of Debian, slim; what one stage installs the other can run."""
    bases = [rest.split()[0] for rest in of("FROM")]
    assert len(bases) == 2
    (base,) = set(bases)
    assert re.fullmatch(r"python:3\.\d+-slim-[a-z]+", base)
    versions = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
    assert base.split(":")[1].split("-")[0] in versions


@pytest.mark.parametrize("source", copied())
def test_what_is_copied_is_there_and_let_through(source: str) -> None:
    """Each source exists and .dockerignore does not keep it out."""
    assert (ROOT / source).exists()
    assert not ignored(source)


def test_nothing_else_gets_into_the_build() -> None:
    """No data, key, repository or test."""
    let_through = {path.name for path in ROOT.iterdir() if not ignored(path.name)}
    assert let_through <= {"pyproject.toml", "README.md", "LICENSE", "vqa_async"}


def test_what_the_build_needs_is_copied() -> None:
    """The package, and the files that its description names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {"pyproject.toml", "vqa_async", project["readme"], *project["license-files"]}
    assert needed == set(copied())


def test_the_extras_exist() -> None:
    """The default is made of names in pyproject.toml, and stands where it can be changed."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (argument,) = of("ARG")
    name, _, value = argument.partition("=")
    assert name == "EXTRAS"
    assert set(value.split(",")) <= set(extras)
    assert any('".[$EXTRAS]"' in line for line in of("RUN"))
    readme = (ROOT / "README.md").read_text()
    assert all(f"`{extra}`" in readme for extra in value.split(","))


def test_it_does_not_run_as_root_and_gets_the_signals() -> None:
    """A numbered user before the entry point, which is in exec form: no shell stands in between."""
    names = [name for name, _ in instructions()]
    (user,) = of("USER")
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert json.loads(of("ENTRYPOINT")[0]) == ["vqa-async"]
    assert json.loads(of("CMD")[0]) == ["--help"]


def test_only_registries_are_needed() -> None:
    """Nothing is fetched by address, and no caches stay in the image."""
    runs = " ".join(of("RUN"))
    assert not re.search(r"https?://|\b(curl|wget|git|apt-get)\b", runs)
    assert "--no-cache-dir" in runs
    assert not of("ADD")


def test_what_is_installed_is_where_it_is_looked_for() -> None:
    """The environment keeps its path from one stage to the other, and is on PATH."""
    (folder,) = {word for rest in of("RUN") for word in re.findall(r"-m venv (\S+)", rest)}
    assert f"--from=build {folder} {folder}" in of("COPY")
    assert f"PATH={folder}/bin:$PATH" in of("ENV")[0]
