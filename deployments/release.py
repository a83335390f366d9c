"""Make a release: `make release VERSION=0.2.0`. Uses only the standard library.

    python3 deployments/release.py make 0.2.0     check, write the version and the changelog, commit, tag
    python3 deployments/release.py notes 0.2.0    print the version's section of the changelog, for the GitHub release

Pushes nothing, but prints the command that does. The workflow release.yml runs when the tag has been pushed.
"""

from __future__ import annotations

import datetime
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSION_FILE = Path("shared/rayonnage_shared/core/version.py")
CHANGELOG = Path("CHANGELOG.md")
BRANCH = "main"
ASSIGNMENT = re.compile(r'^VERSION = "(.+)"$', re.MULTILINE)
NUMBERS = re.compile(r"(\d+)\.(\d+)\.(\d+)")
UNRELEASED = "## [Unreleased]"


class Refused(Exception):
    """A release that cannot be made; the message says why."""


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Run the command in `arguments`; return the exit status."""
    if len(arguments) != 2 or arguments[0] not in {"make", "notes"} or not arguments[1]:
        print("Give the version: make release VERSION=0.2.0", file=sys.stderr)
        return 2
    command, version = arguments
    try:
        print(release(version, root) if command == "make" else notes(version, root))
    except Refused as err:
        print(f"No release: {err}", file=sys.stderr)
        return 1
    return 0


def release(version: str, root: Path) -> str:
    """Commit and tag a version, and return what to do next. Raises Refused before anything is changed."""
    if _numbers(version) <= _numbers(current_version(root)):
        raise Refused(f"{version} is not higher than {current_version(root)}, the version in {VERSION_FILE}.")
    if (branch := _git(root, "branch", "--show-current")) != BRANCH:
        raise Refused(f"releases are made on {BRANCH}, and the current branch is {branch or 'detached'}.")
    if changes := _git(root, "status", "--porcelain"):
        raise Refused(f"there are uncommitted changes:\n{changes}")
    changelog = (root / CHANGELOG).read_text(encoding="utf-8")
    today = datetime.datetime.now(datetime.UTC).date()
    released = released_changelog(changelog, version, today)
    if subprocess.call(["make", "check"], cwd=root) != 0:
        raise Refused("`make check` failed.")
    code = (root / VERSION_FILE).read_text(encoding="utf-8")
    (root / VERSION_FILE).write_text(ASSIGNMENT.sub(f'VERSION = "{version}"', code), encoding="utf-8")
    (root / CHANGELOG).write_text(released, encoding="utf-8")
    _git(root, "commit", "--quiet", "--message", f"release: {version}", str(VERSION_FILE), str(CHANGELOG))
    tag = f"v{version}"
    _git(root, "tag", "--annotate", tag, "--cleanup", "verbatim", "--message", f"{version}\n\n{notes(version, root)}")
    return (
        f"Version {version} is committed and tagged. Check it with `git show {tag}`, then push both:\n"
        f"  git push origin {BRANCH} {tag}\n"
        f"To undo it before you push: git tag --delete {tag} && git reset --hard HEAD~1"
    )


def notes(version: str, root: Path) -> str:
    """Return the changelog's section for the current version. Raises Refused for another version."""
    if version != current_version(root):
        raise Refused(f"the version in {VERSION_FILE} is {current_version(root)}, not {version}.")
    changelog = (root / CHANGELOG).read_text(encoding="utf-8")
    found = re.search(rf"^## \[{re.escape(version)}\].*\n((?:(?!## ).*\n?)*)", changelog, re.MULTILINE)
    if found is None:
        raise Refused(f"{CHANGELOG} has no section for {version}.")
    return found.group(1).strip()


def released_changelog(changelog: str, version: str, day: datetime.date) -> str:
    """Return the changelog with the unreleased changes moved to a version. Raises Refused if there are none."""
    before, heading, after = changelog.partition(f"{UNRELEASED}\n")
    changes = re.split(r"^## ", after, maxsplit=1, flags=re.MULTILINE)[0]
    if not heading or not changes.strip():
        raise Refused(f"{CHANGELOG} lists no changes under {UNRELEASED}.")
    return f"{before}{heading}\n## [{version}] - {day.isoformat()}\n{after}"


def current_version(root: Path) -> str:
    """Return the version in the code."""
    found = ASSIGNMENT.search((root / VERSION_FILE).read_text(encoding="utf-8"))
    assert found is not None
    return found.group(1)


def _numbers(version: str) -> tuple[int, ...]:
    found = NUMBERS.fullmatch(version)
    if found is None:
        raise Refused(f"{version!r} is not a version; it must be three numbers, such as 0.2.0.")
    return tuple(map(int, found.groups()))


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
