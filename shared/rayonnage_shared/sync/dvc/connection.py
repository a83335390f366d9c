"""The connection to the DVC remote: address, credentials, reachability and locks."""

from __future__ import annotations

import contextlib
import getpass
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from rayonnage_shared.core.files import FileLocked, open_locked, write_atomically
from rayonnage_shared.core.optional_parts import DVC
from rayonnage_shared.sync.base import SyncTargetUnavailable
from rayonnage_shared.sync.dvc.settings import VersioningSettings

REMOTE_NAME = "rayonnage"
PROBE_TIMEOUT_S = 5
READ_TIMEOUT_S = 30  # of one S3 request; a shard of 64 MB goes in parts

CONFIG = """\
[core]
    analytics = false
    check_update = false
"""

IGNORED = """\
# Folders in which DVC does not search for pointer files.
/.*/
/data/dvc-remote
/data/photos
/data/.synced
/models/.*
/logs
"""


def remote_address(settings: VersioningSettings) -> str:
    """Return the remote's address without secrets, a folder as an absolute path. Empty if DVC is not used."""
    url = settings.dvc_remote_url or ""
    return url if "://" in url or not url else str(Path(url).resolve())


def project_folder(settings: VersioningSettings) -> Path:
    """Return the folder that holds `.dvc`: the nearest common parent of models and data, if it is writable.

    Otherwise, as in a container with a read-only file system, return the data folder.
    """
    common = Path(os.path.commonpath([settings.models_path.resolve(), settings.data_path.resolve()]))
    inside = common / ".dvc"
    writable = os.access(inside if inside.is_dir() else common, os.W_OK)
    return common if writable and common.parent != common else settings.data_path.resolve()


@contextlib.contextmanager
def open_repository(settings: VersioningSettings) -> Iterator[Any]:
    """Open DVC's `Repo` for one operation, with the remote configured. Other users of DVC in this project wait.

    Git is not used. Secrets are passed to DVC in memory and never written. Raises SyncTargetUnavailable when the
    remote does not answer within seconds, or another process holds the lock too long, and PartMissing without DVC.
    """
    DVC.require()
    folder = project_folder(settings)
    _prepare(folder)
    _probe(settings)
    deadline = time.monotonic() + settings.dvc_lock_wait_s
    with _lock(folder, settings.dvc_lock_wait_s):
        from dvc.exceptions import DvcException
        from dvc.repo import Repo

        _name_the_user()
        try:
            repo = Repo(str(folder), config=_config(settings, folder))
        except DvcException as error:
            raise SyncTargetUnavailable(f"DVC cannot be used in {folder}: {error}") from error
        with repo, _dvc_lock(repo, deadline):
            yield repo


def remote_options(settings: VersioningSettings) -> dict[str, Any]:
    """Return the remote's options in DVC's configuration, credentials included; empty without a remote."""
    secret, password = settings.dvc_secret_access_key, settings.dvc_password
    address = remote_address(settings)
    if not address:
        return {}
    remote: dict[str, Any] = {"url": address}
    if address.startswith("s3://"):
        remote |= {
            "endpointurl": settings.dvc_endpoint_url,
            "region": settings.dvc_region or ("us-east-1" if settings.dvc_endpoint_url else None),
            "access_key_id": settings.dvc_access_key_id,
            "secret_access_key": secret.get_secret_value() if secret else None,
            "connect_timeout": PROBE_TIMEOUT_S,
            "read_timeout": READ_TIMEOUT_S,
        }
    elif "://" in address:
        remote |= {
            "auth": "basic" if settings.dvc_user else None,
            "user": settings.dvc_user,
            "password": password.get_secret_value() if password else None,
            "connect_timeout": PROBE_TIMEOUT_S,
            "read_timeout": READ_TIMEOUT_S,
        }
    return {name: value for name, value in remote.items() if value is not None}


def _config(settings: VersioningSettings, folder: Path) -> dict[str, Any]:
    return {
        "core": {
            "analytics": False,
            "check_update": False,
            "no_scm": True,
            "remote": REMOTE_NAME,
            "site_cache_dir": str(folder / ".dvc" / "tmp" / "site"),
        },
        "remote": {REMOTE_NAME: remote_options(settings)},
    }


def _prepare(folder: Path) -> None:
    """Create the files by which DVC finds its project, if git has not."""
    own = folder / ".dvc"
    if not (own / "config").is_file():
        (own / "tmp").mkdir(parents=True, exist_ok=True)
        write_atomically(own / "config", f"{CONFIG}    no_scm = true\n".encode())
    if not (folder / ".dvcignore").is_file():
        write_atomically(folder / ".dvcignore", IGNORED.encode())


def _probe(settings: VersioningSettings) -> None:
    """Check that the remote answers, with a short timeout: the transports' own retries take minutes."""
    address = remote_address(settings)
    if "://" not in address:
        if not Path(address).parent.is_dir():
            raise SyncTargetUnavailable(
                f"The folder {Path(address).parent} for the DVC remote {address} does not exist."
            )
        return
    url = settings.dvc_endpoint_url if address.startswith("s3://") else address
    if url is None:
        return
    if settings.dvc_user and not address.startswith("s3://"):
        manager = urllib.request.HTTPPasswordMgrWithPriorAuth()
        password = settings.dvc_password.get_secret_value() if settings.dvc_password else ""
        manager.add_password(None, url, settings.dvc_user, password, is_authenticated=True)
        opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(manager))
    else:
        opener = urllib.request.build_opener()
    try:
        opener.open(url, timeout=PROBE_TIMEOUT_S).close()
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (401, 403) and not address.startswith("s3://"):  # S3 gets a signed request later
            raise SyncTargetUnavailable(f"{address} refuses these credentials: {error}") from error
    except (OSError, ValueError) as error:
        raise SyncTargetUnavailable(f"{url} does not answer: {error}") from error


def _lock(folder: Path, wait_s: float) -> TextIO:
    try:
        return open_locked(folder / ".dvc" / "tmp" / "rayonnage.lock", wait_s=wait_s)
    except FileLocked as error:
        raise SyncTargetUnavailable("Another process is pushing or pulling; try again when it is done.") from error


@contextlib.contextmanager
def _dvc_lock(repo: Any, deadline: float) -> Iterator[None]:
    """Hold the lock of the `dvc` command; the kernel releases it when its holder dies."""
    from dvc.lock import LockError

    while True:
        try:
            repo.lock.lock()
            break
        except LockError as error:
            if time.monotonic() >= deadline:
                raise SyncTargetUnavailable(
                    "A `dvc` command is running in this project; try again when it is done."
                ) from error
    try:
        yield
    finally:
        repo.lock.unlock()


def _name_the_user() -> None:
    """DVC needs a user name, which a container running under a numeric user id does not have."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = str(os.getuid())
