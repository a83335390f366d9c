"""A small repository with `.ci`, two suites and one product folder, in which `.ci/run` can be tried."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from suites import RECORD, Commit, Pass, Table, read_record, read_table

CI = Path(__file__).parents[3] / ".ci"

TABLE = """
budget_s = 1000
common = [".ci", "uv.lock"]
never = [".ci/passed.json"]

[debian]
make = "make"

[test]
usual_s = 500
limit_s = 60
always = true
debian = ["make"]

[test-models]
usual_s = 400
limit_s = 60
paths = ["product", "tests/models"]
except = ["product/pages"]

[test-pages]
usual_s = 300
limit_s = 60
paths = ["product/pages"]
"""
MAKEFILE = """\
test:
\t@echo the tests

test-models: test
\t@echo the models $(ARGS)
\t@echo '==== 61 passed, 2 skipped in 7.50s ===='

test-pages:
\t@echo the pages
"""
FILES = {
    ".ci/suites.toml": TABLE,
    "Makefile": MAKEFILE,
    "README.md": "",
    "product/model.py": "",
    "product/pages/page.html": "",
    "pyproject.toml": "[tool.pytest.ini_options]\ntimeout = 300\n",
    "tests/models/test_one.py": "",
    "uv.lock": "",
}


@dataclass(frozen=True)
class Repository:
    """The repository, and what a test does to it."""

    root: Path

    def write(self, name: str, text: str) -> None:
        """Write a file without committing it."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def replace(self, name: str, old: str, new: str) -> None:
        """Change a file and commit it."""
        text = (self.root / name).read_text(encoding="utf-8")
        assert old in text
        self.write(name, text.replace(old, new))
        self.commit()

    def git(self, *arguments: str) -> None:
        """Run git."""
        identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *identity, *arguments], cwd=self.root, check=True, capture_output=True)

    def commit(self) -> None:
        """Commit everything."""
        self.git("add", "--all")
        self.git("commit", "--message", "a change")

    def inputs(self) -> dict[str, str]:
        """Return the hash of the inputs of each suite."""
        table, commit = self.table(), Commit(self.root)
        return {suite.name: commit.inputs(suite, table) for suite in table.suites if not suite.always}

    def table(self) -> Table:
        """Return the table."""
        return read_table(self.root / ".ci" / "suites.toml")

    def record(self) -> dict[str, Pass]:
        """Return which suites have passed."""
        return read_record(self.root)

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `.ci/run` to its end."""
        without = {name: value for name, value in os.environ.items() if not name.startswith("RAYONNAGE_")}
        return subprocess.run(
            [self.root / ".ci" / "run", *arguments],
            env={**without, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def pass_all(self) -> None:
        """Run every suite and commit the record, as a developer does."""
        done = self.run("suites", "--all")
        assert done.returncode == 0, done.stdout + done.stderr
        assert RECORD in done.stdout
        self.commit()


def new_repository(folder: Path) -> Repository:
    """Return a repository in a new folder, with one commit."""
    repository = Repository(folder)
    shutil.copytree(CI, folder / ".ci", ignore=shutil.ignore_patterns("__pycache__", "passed.json"))
    for name, text in FILES.items():
        repository.write(name, text)
    repository.write(".gitignore", "__pycache__/\n")
    repository.git("init", "--quiet", "--initial-branch", "main")
    repository.commit()
    return repository
