"""Logs are followed as they grow, rotate and appear."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rayonnage_shared.ops.log_following import LogFollower


@pytest.fixture
def shown() -> list[str]:
    return []


@pytest.fixture
def follower(tmp_path: Path, shown: list[str]) -> Iterator[LogFollower]:
    made = LogFollower(tmp_path, lambda name, line: shown.append(f"{name}: {line}"))
    yield made
    made.close()


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_begins_with_the_last_lines(tmp_path: Path, follower: LogFollower, shown: list[str]) -> None:
    append(tmp_path / "auth.log", "one\ntwo\nthree\n")
    follower.start(2)
    assert shown == ["auth: two", "auth: three"]


def test_shows_what_is_written_later_line_by_line(tmp_path: Path, follower: LogFollower, shown: list[str]) -> None:
    append(tmp_path / "auth.log", "old\n")
    follower.start(0)
    append(tmp_path / "auth.log", "new\nhalf")
    follower.poll()
    append(tmp_path / "auth.log", " done\n")
    follower.poll()
    assert shown == ["auth: new", "auth: half done"]


def test_shows_files_that_appear(tmp_path: Path, follower: LogFollower, shown: list[str]) -> None:
    follower.start(5)
    append(tmp_path / "train.stderr.log", "hello\n")
    follower.poll()
    assert shown == ["train.stderr: hello"]


def test_follows_a_log_over_its_rotation(tmp_path: Path, follower: LogFollower, shown: list[str]) -> None:
    path = tmp_path / "auth.log"
    append(path, "old\n")
    follower.start(0)
    append(path, "last of the old\n")
    path.rename(tmp_path / "auth.log.1")
    append(path, "first of the new\n")
    follower.poll()
    assert shown == ["auth: last of the old", "auth: first of the new"]


def test_begins_anew_with_a_file_that_was_emptied(tmp_path: Path, follower: LogFollower, shown: list[str]) -> None:
    path = tmp_path / "auth.log"
    append(path, "a long line that was there\n")
    follower.start(0)
    path.write_text("short\n")
    follower.poll()
    assert shown == ["auth: short"]
