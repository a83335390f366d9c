"""Full disks are recognised before and after a write fails."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from rayonnage_shared.core.disk import MIN_FREE_BYTES, disk_trouble, is_disk_full


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_a_folder_on_a_full_disk_is_named_before_it_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(10**9, 10**9, 4096))

    assert disk_trouble(tmp_path / "data" / "new") == (
        f"the disk of {tmp_path}/data/new is full: 4 kB are free, 32,768 kB are needed"
    )


def test_a_disk_with_enough_space_is_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(10**9, 0, MIN_FREE_BYTES))

    assert disk_trouble(tmp_path, tmp_path / "data") is None


def test_a_real_full_device_is_recognised() -> None:
    with pytest.raises(OSError) as failed, Path("/dev/full").open("r+b", buffering=0) as device:
        device.write(b"x")

    assert is_disk_full(failed.value)
    assert not is_disk_full(OSError(errno.EACCES, ""))
    assert not is_disk_full(ValueError())
