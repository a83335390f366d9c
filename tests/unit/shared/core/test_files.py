"""Files that are replaced whole or stay as they were."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rayonnage_shared.core.files import FileLocked, is_locked, open_locked, write_atomically


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"before")
    write_atomically(tmp_path / "file", b"after")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"after"


def test_what_cannot_be_written_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"before")

    def full(_descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_atomically(tmp_path / "file", b"after")
    assert (tmp_path / "file").read_bytes() == b"before"


def test_a_secret_is_private_even_where_a_crash_left_an_open_file(tmp_path: Path) -> None:
    left = tmp_path / f".file.{os.getpid()}"
    left.write_bytes(b"half")
    left.chmod(0o644)
    write_atomically(tmp_path / "file", b"secret", mode=0o600)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


HOLD = """
import pathlib, sys
from rayonnage_shared.core.files import open_locked
with open_locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a process that holds the lock on `folder/lock`."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "folder" / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_lock_that_another_process_holds_is_refused_after_the_wait(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    path = tmp_path / "folder" / "lock"
    assert is_locked(path)
    with pytest.raises(FileLocked, match="lock"):
        open_locked(path, wait_s=0)
    with pytest.raises(FileLocked, match="lock"):
        open_locked(path, wait_s=0.1)
    assert holder.poll() is None


@pytest.mark.parametrize("wait_s", [None, 60])
def test_the_lock_of_a_killed_process_goes_to_whoever_waits(
    tmp_path: Path, holder: subprocess.Popen[str], wait_s: float | None
) -> None:
    path = tmp_path / "folder" / "lock"
    holder.kill()
    with open_locked(path, wait_s=wait_s):
        assert is_locked(path)
    assert not is_locked(path)


def test_closing_the_file_frees_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_locked(path), "there is no file yet"
    open_locked(path).close()
    with open_locked(path, wait_s=0) as file:
        file.write("content")
    with open_locked(path, wait_s=0):
        assert path.read_text(encoding="utf-8") == "content"
