"""The version in its one place, and `make release`, really run in a small repository."""

from __future__ import annotations

import datetime
import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from deployments.release import CHANGELOG, VERSION_FILE, Refused, main, notes, released_changelog
from rayonnage_shared.core.version import VERSION

ROOT = Path(__file__).parents[3]
PROJECTS = [ROOT, ROOT / "shared", *sorted(path.parent for path in (ROOT / "services").glob("*/pyproject.toml"))]
CHANGES = "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- A colour.\n\n## [0.1.0] - 2026-11-21\n\nThe first.\n"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with version 0.1.0, changes, and a `make check` that passes."""
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Test")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "test@example.org")
    (tmp_path / VERSION_FILE).parent.mkdir(parents=True)
    (tmp_path / VERSION_FILE).write_text('"""The version."""\n\nVERSION = "0.1.0"\n')
    (tmp_path / CHANGELOG).write_text(CHANGES)
    (tmp_path / "Makefile").write_text("check:\n\t@true\n")
    git(tmp_path, "init", "--quiet", "--initial-branch", "main")
    commit_all(tmp_path)
    return tmp_path


def git(repository: Path, *arguments: str) -> str:
    """Run git and return what it prints."""
    done = subprocess.run(["git", *arguments], cwd=repository, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit_all(repository: Path) -> None:
    """Commit everything."""
    git(repository, "add", "--all")
    git(repository, "-c", "commit.gpgsign=false", "commit", "--quiet", "--message", "a change")


@pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.name)
def test_no_project_file_repeats_the_version(project: Path) -> None:
    document = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in document["project"]
    assert document["project"]["dynamic"] == ["version"]
    assert (project / document["tool"]["hatch"]["version"]["path"]).resolve() == ROOT / VERSION_FILE


def test_the_lock_does_not_repeat_the_version() -> None:
    packages = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]
    own = [package for package in packages if package["name"].startswith("rayonnage")]
    assert len(own) == len(PROJECTS)
    assert not any("version" in package for package in own)


def test_installed_packages_have_a_version() -> None:
    assert metadata.version("rayonnage-shared")


def test_the_changelog_has_the_current_version() -> None:
    assert notes(VERSION, ROOT)


def test_a_release_is_a_commit_and_a_tag_and_nothing_is_pushed(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["make", "0.2.0"], repository) == 0

    assert 'VERSION = "0.2.0"' in (repository / VERSION_FILE).read_text()
    changelog = (repository / CHANGELOG).read_text()
    assert re.search(r"## \[Unreleased\]\n\n## \[0\.2\.0\] - \d{4}-\d\d-\d\d\n\n### Added\n\n- A colour\.", changelog)
    assert git(repository, "log", "-1", "--format=%s") == "release: 0.2.0"
    assert git(repository, "status", "--porcelain") == ""
    assert git(repository, "tag", "--list", "--format=%(contents)") == "0.2.0\n\n### Added\n\n- A colour."
    assert "git push origin main v0.2.0" in capsys.readouterr().out
    assert notes("0.2.0", repository) == "### Added\n\n- A colour."


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("0.1.0", "0.1.0 is not higher than 0.1.0"),
        ("0.0.9", "0.0.9 is not higher than 0.1.0"),
        ("v0.2.0", "it must be three numbers"),
        ("0.2", "it must be three numbers"),
    ],
)
def test_a_version_that_does_not_follow_is_refused(
    repository: Path, capsys: pytest.CaptureFixture[str], version: str, reason: str
) -> None:
    assert main(["make", version], repository) == 1
    assert reason in capsys.readouterr().err


def test_a_release_from_another_branch_is_refused(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    git(repository, "switch", "--quiet", "--create", "feature")
    assert main(["make", "0.2.0"], repository) == 1
    assert "releases are made on main, and the current branch is feature" in capsys.readouterr().err


def test_a_release_of_changes_that_are_not_committed_is_refused(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "new.txt").touch()
    assert main(["make", "0.2.0"], repository) == 1
    assert "uncommitted changes:\n?? new.txt" in capsys.readouterr().err


def test_a_release_that_fails_make_check_changes_nothing(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / "Makefile").write_text("check:\n\t@false\n")
    commit_all(repository)
    before = git(repository, "rev-parse", "HEAD")
    assert main(["make", "0.2.0"], repository) == 1
    assert "`make check` failed" in capsys.readouterr().err
    assert git(repository, "rev-parse", "HEAD") == before
    assert git(repository, "status", "--porcelain") == git(repository, "tag") == ""


def test_a_release_without_changes_is_refused() -> None:
    day = datetime.date(2026, 12, 1)
    released = released_changelog(CHANGES, "0.2.0", day)
    with pytest.raises(Refused, match="lists no changes"):
        released_changelog(released, "0.3.0", day)


def test_notes_of_another_version_than_the_codes_are_refused(repository: Path) -> None:
    with pytest.raises(Refused, match=r"is 0\.1\.0, not 0\.2\.0"):
        notes("0.2.0", repository)
    assert notes("0.1.0", repository) == "The first."


@pytest.mark.parametrize("arguments", [[], ["make", ""], ["publish", "0.2.0"]])
def test_what_is_missing_is_named(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "make release VERSION=0.2.0" in capsys.readouterr().err
