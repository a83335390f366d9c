"""Full disks: how to recognise one, before and after a write fails."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from rayonnage_shared.core.errors import RayonnageError

MIN_FREE_BYTES = 32 * 1024 * 1024
"""Below this, a service that writes counts as not ready: an upload or a database may need more at any time."""


class StorageFull(RayonnageError):
    status, code, title = 507, "storage_full", "The disk is full"


def storage_full() -> StorageFull:
    """Return the error for a write that failed because the disk is full."""
    return StorageFull(
        "Nothing was changed. Free disk space on the platform's machine, then try again; "
        "BUNDLES_KEPT and DATASETS_KEPT limit what is kept."
    )


def is_disk_full(error: BaseException | None) -> bool:
    """Return whether a write failed because the disk, or the user's share of it, is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def disk_trouble(*paths: Path) -> str | None:
    """Return which of these folders is on a disk that is nearly full, or None. A folder need not exist yet."""
    for path in paths:
        existing = next((one for one in (path, *path.absolute().parents) if one.exists()), None)
        if existing is not None and (free := shutil.disk_usage(existing).free) < MIN_FREE_BYTES:
            return f"the disk of {path} is full: {free // 1024:,} kB are free, {MIN_FREE_BYTES // 1024:,} kB are needed"
    return None
