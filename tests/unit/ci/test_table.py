"""`.ci/suites.toml` against this repository: its paths exist, no input is missing, its targets are in the Makefile."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import yaml

from suites import RECORD, ROOT, Suite, make_rule, read_table

TABLE = read_table()
SUITES = [suite for suite in TABLE.suites if not suite.always]
SOURCES = (ROOT / "shared", *sorted((ROOT / "services").iterdir()), ROOT)
OWN = ("tests", "deployments", "rayonnage_")

every_suite = pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)


def is_below(file: Path, paths: Iterable[str]) -> bool:
    """Return whether a file is one of these paths of the repository or lies below one."""
    return any((ROOT / path) in (file, *file.parents) for path in paths)


@functools.cache
def imported_files(file: Path) -> frozenset[Path]:
    """Return the files of this project that a file imports directly, anywhere in it."""
    names: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{one.name}" for one in node.names)]
    return frozenset(found for name in names if name.startswith(OWN) for found in module_files(name))


def module_files(name: str) -> Iterator[Path]:
    """Give the files that importing a dotted name runs."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        place = Path(*parts[:end])
        for source in SOURCES:
            for file in (source / place.with_suffix(".py"), source / place / "__init__.py"):
                if file.exists():
                    yield file


def import_closure(starts: Iterable[Path]) -> set[Path]:
    """Return these files and all of this project's that they import, directly or not."""
    seen: set[Path] = set()
    to_read = list(starts)
    while to_read:
        file = to_read.pop()
        if file not in seen:
            seen.add(file)
            to_read += imported_files(file)
    return seen


@every_suite
def test_every_path_exists(suite: Suite) -> None:
    missing = [path for path in (*TABLE.common, *suite.paths, *suite.excluded) if not (ROOT / path).exists()]
    assert not missing, f"moved or deleted? change .ci/suites.toml: {missing}"


@every_suite
def test_what_is_excluded_would_be_an_input_otherwise(suite: Suite) -> None:
    assert [path for path in suite.excluded if not is_below(ROOT / path, suite.paths)] == []


@every_suite
def test_what_the_tests_import_is_an_input_or_excluded(suite: Suite) -> None:
    marker = suite.name.removeprefix("test-")
    tests = [file for file in (ROOT / "tests").rglob("*.py") if f"mark.{marker}" in file.read_text(encoding="utf-8")]
    assert tests, f"no test is marked {marker}"
    conftests = [
        folder / "conftest.py" for file in tests for folder in file.parents if (folder / "conftest.py").exists()
    ]
    reached = import_closure([*tests, *conftests])
    listed = (*TABLE.common, *suite.paths, *suite.excluded)
    unlisted = sorted(str(file.relative_to(ROOT)) for file in reached if not is_below(file, listed))
    assert not unlisted, f"add these to the paths of {suite.name}, or to `common`, in .ci/suites.toml: {unlisted}"


def test_the_record_is_no_input_of_the_suites_that_it_is_about() -> None:
    assert RECORD in TABLE.never


def test_every_suite_is_a_make_target() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert [suite.name for suite in TABLE.suites if not make_rule(makefile, suite.name)] == []


def test_every_test_target_of_the_makefile_is_in_the_table() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {line.partition(":")[0] for line in makefile.splitlines() if line.startswith("test") and ":" in line}
    assert targets <= {suite.name for suite in TABLE.suites}


def test_every_suite_runs_on_github_too() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    matrices = [job.get("strategy", {}).get("matrix", {}) for job in workflow["jobs"].values()]
    assert sorted(name for matrix in matrices for name in matrix.get("suite", [])) == sorted(one.name for one in SUITES)


def test_every_package_that_a_suite_needs_has_a_command() -> None:
    assert {package for suite in TABLE.suites for package in suite.debian} <= TABLE.debian.keys()
