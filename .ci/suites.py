"""The table of test suites, the inputs of each at a commit, and the record of suites that passed.

The inputs of a suite are the git hashes of all files below its paths, read from the tree of a commit. No history is
needed, so they are the same in a shallow clone and on every machine.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / ".ci" / "suites.toml"
RECORD = ".ci/passed.json"


class UnknownSuite(Exception):
    """A name that is not in the table."""


@dataclass(frozen=True)
class Suite:
    """One row of the table. `name` is its make target."""

    name: str
    usual_s: int
    limit_s: int
    always: bool
    engine: bool
    debian: tuple[str, ...]
    paths: tuple[str, ...]
    excluded: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """All suites, in the order in which they run, and their common inputs."""

    budget_s: int
    common: tuple[str, ...]
    never: tuple[str, ...]
    debian: Mapping[str, str]
    suites: tuple[Suite, ...]

    def named(self, names: Iterable[str]) -> tuple[Suite, ...]:
        """Return the suites of these names, in the table's order. Raises UnknownSuite."""
        wanted = set(names)
        known = {suite.name for suite in self.suites if not suite.always}
        if unknown := sorted(wanted - known):
            raise UnknownSuite(f"There is no suite {', '.join(unknown)}; there are {', '.join(sorted(known))}.")
        return tuple(suite for suite in self.suites if suite.name in wanted)


@dataclass(frozen=True)
class Pass:
    """The last pass of a suite: its inputs, the commit, the date and the duration."""

    inputs: str
    commit: str
    date: str
    seconds: int


def read_table(path: Path = TABLE) -> Table:
    """Return the table. Raises TypeError or KeyError if a row has an unknown or missing key."""
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    return Table(
        budget_s=document.pop("budget_s"),
        common=tuple(document.pop("common")),
        never=tuple(document.pop("never")),
        debian=document.pop("debian"),
        suites=tuple(_suite(name, **row) for name, row in document.items()),
    )


def _suite(
    name: str,
    *,
    usual_s: int,
    limit_s: int,
    always: bool = False,
    engine: bool = False,
    debian: Iterable[str] = (),
    paths: Iterable[str] = (),
    **rest: Iterable[str],
) -> Suite:
    excluded = tuple(rest.pop("except", ()))  # a Python keyword, so it cannot be a parameter
    if rest:
        raise TypeError(f"{name} has unknown keys: {', '.join(rest)}")
    return Suite(name, usual_s, limit_s, always, engine, tuple(debian), tuple(paths), excluded)


class Commit:
    """The files of HEAD and their hashes; a file with uncommitted changes counts as changed."""

    def __init__(self, root: Path = ROOT) -> None:
        """Read the tree of HEAD in the repository at `root`. Raises CalledProcessError if there is none."""
        self.root = root
        self.id = self._git("rev-parse", "HEAD").strip()
        entries = (entry.partition("\t") for entry in self._git("ls-tree", "-r", "-z", "HEAD").split("\0")[:-1])
        self._hashes = {path: hash_ for hash_, _, path in entries}
        self._hashes |= dict.fromkeys(self.changed_files(), "not committed")

    def _git(self, *arguments: str) -> str:
        # The repository may belong to another user, as in CI's containers.
        command = ["git", "-c", f"safe.directory={self.root}", "-C", str(self.root), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def changed_files(self) -> list[str]:
        """Return the files that differ from HEAD or are new, except for the record of passed suites."""
        listed = self._git("status", "--porcelain", "-z", "--untracked-files=all", "--no-renames")
        return [entry[3:] for entry in listed.split("\0")[:-1] if entry[3:] != RECORD]

    def inputs(self, suite: Suite, table: Table) -> str:
        """Return one hash over all inputs of a suite."""
        files = self.files([*table.common, *suite.paths], [*table.never, *suite.excluded])
        lines = [f"{self._hashes[file]}\t{file}" for file in files]
        lines.append(make_rule((self.root / "Makefile").read_text(encoding="utf-8"), suite.name))
        options = pytest_options((self.root / "pyproject.toml").read_text(encoding="utf-8"))
        lines.append(json.dumps(options, sort_keys=True))
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def files(self, paths: Collection[str], excluded: Collection[str]) -> list[str]:
        """Return the files below `paths` and below none of `excluded`, sorted."""
        return sorted(
            file
            for file in self._hashes
            if any(_is_below(file, path) for path in paths) and not any(_is_below(file, path) for path in excluded)
        )


def _is_below(file: str, path: str) -> bool:
    return file == path or file.startswith(f"{path}/")


def make_rule(makefile: str, target: str) -> str:
    """Return the rule of a target with its recipe, or an empty string."""
    found = re.search(rf"^{re.escape(target)}:.*\n(?:\t.*\n?)*", makefile, re.MULTILINE)
    return found.group() if found else ""


def pytest_options(pyproject: str) -> object:
    """Return pytest's options in a `pyproject.toml`."""
    return tomllib.loads(pyproject).get("tool", {}).get("pytest", {})


def read_record(root: Path = ROOT) -> dict[str, Pass]:
    """Return the last pass of each suite, by name."""
    path = root / RECORD
    if not path.exists():
        return {}
    return {name: Pass(**row) for name, row in json.loads(path.read_text(encoding="utf-8")).items()}


def write_pass(name: str, passed: Pass, root: Path = ROOT) -> None:
    """Record that a suite has passed."""
    record = {**read_record(root), name: passed}
    rows = {name: asdict(row) for name, row in sorted(record.items())}
    (root / RECORD).write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def unchanged_since(suite: Suite, inputs: str, record: Mapping[str, Pass]) -> Pass | None:
    """Return the last pass of the suite if its inputs are still the same, else None."""
    last = record.get(suite.name)
    return last if last is not None and last.inputs == inputs else None
