"""The only module that uses DVC: transfer content to and from the remote, and write pointer files.

The remote layout and the `.dvc` files are DVC's own, so `dvc status`, `dvc pull` and `dvc fetch` work on them too.
`dvc add` with `dvc push` is not used, for three reasons:

- `dvc add` relinks files: with the cache types hardlink and symlink it replaces each file by a link, while another
  process may be loading it. Here files of the workspace are only read.
- It keeps a second copy of everything in `.dvc/cache`. Here content goes from the workspace straight to the remote, and
  only directory listings are cached.
- Its pointer may be committed before anything was pushed. Here the pointer is written after the remote has the content.

This module uses the layer below both: DVC hashes the files (`dvc_data…build`) and transfers what the remote lacks
(`dvc_data…transfer`), which never changes its source.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from rayonnage_shared.core.errors import RayonnageError
from rayonnage_shared.sync.base import SyncTargetUnavailable
from rayonnage_shared.sync.dvc.connection import REMOTE_NAME, open_repository, remote_address
from rayonnage_shared.sync.dvc.pointers import Pointer
from rayonnage_shared.sync.dvc.settings import VersioningSettings


class NotOnRemote(RayonnageError):
    code, title = "not_on_remote", "The DVC remote lacks the content of a pointer"


@contextlib.contextmanager
def open_remote(settings: VersioningSettings) -> Iterator[DvcRemote]:
    """Open the remote for one operation. Other users of DVC in this project wait meanwhile.

    Raises SyncTargetUnavailable when the remote cannot be reached within seconds, refuses the credentials or has no
    bucket, or another process holds the lock too long.
    """
    with open_repository(settings) as repo:
        remote = DvcRemote(repo, remote_address(settings))
        remote.check()
        yield remote


class DvcRemote:
    """The remote, open for one operation; see `open_remote`."""

    def __init__(self, repo: Any, address: str) -> None:
        self._repo = repo
        self._address = address
        self._odb = repo.cloud.get_remote_odb(REMOTE_NAME)

    def check(self) -> None:
        """Raise SyncTargetUnavailable unless the remote accepts the credentials and, for S3, the bucket exists."""
        with self._talking():
            there = self._odb.fs.exists(self._odb.path)
            bucket = self._address.removeprefix("s3://").partition("/")[0]
            if not there and self._address.startswith("s3://") and not self._odb.fs.exists(bucket):
                raise SyncTargetUnavailable(f"The bucket {bucket} of {self._address} does not exist; create it first.")

    def push(self, path: Path) -> Pointer:
        """Push a file or folder to the remote and return its pointer.

        Raises FileNotFoundError if a file vanished meanwhile, SyncTargetUnavailable if not everything arrived.
        """
        from dvc_data.hashfile.build import build
        from dvc_data.hashfile.db import add_update_tree
        from dvc_data.hashfile.transfer import transfer

        found: Any  # a file's hash, or a tree of them
        staging, meta, found = build(self._repo.cache.local, str(path), self._repo.fs, "md5")
        if meta.isdir:  # HTTP transfers only files, so the directory listing is written to .dvc/cache
            add_update_tree(self._repo.cache.local, found)
            staging.add(found.path, found.fs, found.oid)
        with self._talking() as failures:
            transfer(staging, self._odb, {found.hash_info}, shallow=False)
        wanted = {found.hash_info.value}
        if meta.isdir:
            wanted.update(entry.value for _, _, entry in found)
        arrived = self._present(wanted)
        if arrived != wanted:
            if isinstance(failures.last, FileNotFoundError) and not Path(failures.last.filename or path).exists():
                raise failures.last
            raise SyncTargetUnavailable(f"{self._address} did not accept all of {path.name}: {failures}")
        return Pointer(found.hash_info.value, meta.size or 0, meta.nfiles if meta.isdir else None)

    def has(self, pointer: Pointer) -> bool:
        """Return whether the remote has the content of the pointer."""
        return bool(self._present({pointer.md5}))

    def fetch(self, pointer: Pointer, target: Path) -> None:
        """Fetch the pointer's content to `target`, which must not exist, and check each file against its hash.

        Raises NotOnRemote, also for damaged content, or SyncTargetUnavailable.
        """
        with self._talking():
            if pointer.md5.endswith(".dir"):
                target.mkdir(parents=True)
                for parts, oid in self._entries(pointer):
                    self._fetch_file(oid, _inside(target, parts))
            else:
                self._fetch_file(pointer.md5, target)

    def _entries(self, pointer: Pointer) -> list[tuple[tuple[str, ...], str]]:
        from dvc_data.hashfile.hash_info import HashInfo
        from dvc_data.hashfile.tree import Tree
        from dvc_objects.errors import ObjectFormatError

        try:
            tree = Tree.load(self._odb, HashInfo("md5", pointer.md5))
        except FileNotFoundError as error:
            raise NotOnRemote(
                f"{self._address} lacks {pointer.md5}; push it again from the machine that has it."
            ) from error
        except ObjectFormatError as error:
            raise NotOnRemote(f"{pointer.md5} on {self._address} is damaged.") from error
        return [(parts, entry.value) for parts, _, entry in tree]

    def _fetch_file(self, oid: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._odb.fs.get_file(self._odb.oid_to_path(oid), str(target))
        except FileNotFoundError as error:
            raise NotOnRemote(f"{self._address} lacks {oid}; push it again from the machine that has it.") from error
        with target.open("rb") as file:
            if hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() != oid:
                raise NotOnRemote(f"{oid} on {self._address} is damaged: its content does not match its hash.")

    def _present(self, oids: set[str]) -> set[str]:
        with self._talking():
            return set(self._odb.list_oids_exists(oids))

    @contextlib.contextmanager
    def _talking(self) -> Iterator[_Failures]:
        """Turn every error of a transport into SyncTargetUnavailable, and keep DVC's log off the terminal."""
        with _Failures.gathered() as failures:
            try:
                yield failures
            except (RayonnageError, SyncTargetUnavailable):
                raise
            except PermissionError as error:
                raise SyncTargetUnavailable(f"{self._address} refuses these credentials: {error}") from error
            except Exception as error:  # S3, HTTP and file systems raise unrelated error classes
                raise SyncTargetUnavailable(f"{self._address}: {type(error).__name__}: {error}") from error


class _Failures(logging.Handler):
    """Collects errors that DVC logs instead of raising."""

    def __init__(self) -> None:
        super().__init__()
        self.last: BaseException | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            self.last = record.exc_info[1]

    def __str__(self) -> str:
        return f"{type(self.last).__name__}: {self.last}" if self.last else "no reason given"

    @classmethod
    @contextlib.contextmanager
    def gathered(cls) -> Iterator[_Failures]:
        handler = cls()
        loggers = [logging.getLogger(name) for name in ("dvc", "dvc_data", "dvc_objects")]
        before = [(one.handlers, one.propagate) for one in loggers]
        for one in loggers:
            one.handlers, one.propagate = [handler], False
        try:
            yield handler
        finally:
            for one, (handlers, propagate) in zip(loggers, before, strict=True):
                one.handlers, one.propagate = handlers, propagate


def _inside(folder: Path, parts: tuple[str, ...]) -> Path:
    path = PurePosixPath(*parts)
    if path.is_absolute() or ".." in path.parts:
        raise NotOnRemote(f"The remote names a file outside its folder: {path}")
    return folder / path
