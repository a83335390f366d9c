"""Volumes with small bundles and dataset versions, and a DVC remote in memory that can fail."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rayonnage_shared.ml.base.categories import Categories
from rayonnage_shared.ml.bundles.champion import Champion, write_champion
from rayonnage_shared.ml.bundles.manifest import hash_files, write_manifest
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.catalogue.ingestion.ingest import ingest
from rayonnage_shared.sync.base import SyncTargetUnavailable
from rayonnage_shared.sync.dvc.pointers import Pointer
from rayonnage_shared.sync.dvc.remote import NotOnRemote
from rayonnage_shared.sync.dvc.settings import VersioningSettings
from tests.unit.shared.ml.bundles.manifests import a_manifest
from tests.unit.shared.ml.catalogue.catalogues import many_rows, photo, write_csv, write_zip

CATEGORIES = Categories((10, 40), {10: "a", 40: "b"})


class Killed(BaseException):
    """Stands for kill -9: nothing in the product may catch it."""


@dataclass
class FakeRemote:
    """What `DvcRemote` does, with a dictionary in place of a server; `pushed` lists names in order."""

    contents: dict[str, dict[str, bytes]] = field(default_factory=dict)
    pushed: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    away: bool = False
    dies_at: int | None = None
    """The push, or the file fetched, at which the process dies; counted from 0."""

    @contextlib.contextmanager
    def open(self, settings: VersioningSettings) -> Iterator[FakeRemote]:
        if self.away:
            raise SyncTargetUnavailable("Nobody answers.")
        yield self

    def push(self, path: Path) -> Pointer:
        if self.dies_at == len(self.pushed):
            raise Killed
        files = {path.name: path} if path.is_file() else {_relative(one, path): one for one in _files(path)}
        content = {name: one.read_bytes() for name, one in files.items()}
        md5 = hashlib.md5(repr(sorted(content.items())).encode()).hexdigest() + (".dir" if path.is_dir() else "")
        self.contents[md5] = content
        self.pushed.append(path.name)
        return Pointer(md5, sum(map(len, content.values())), len(content) if path.is_dir() else None)

    def has(self, pointer: Pointer) -> bool:
        return pointer.md5 in self.contents

    def fetch(self, pointer: Pointer, target: Path) -> None:
        if pointer.md5 not in self.contents:
            raise NotOnRemote(f"no {pointer.md5}")
        for name, content in self.contents[pointer.md5].items():
            if self.dies_at == len(self.fetched):
                raise Killed
            path = target / name if pointer.md5.endswith(".dir") else target
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            self.fetched.append(name)


@dataclass
class Volumes:
    """The folders `models` and `data` of one machine."""

    folder: Path

    @property
    def models(self) -> Path:
        return self.folder / "models"

    @property
    def store(self) -> DatasetStore:
        return DatasetStore(self.folder / "data")

    def settings(self, remote: Path | str) -> VersioningSettings:
        return VersioningSettings(
            models_path=self.models, data_path=self.folder / "data", dvc_remote_url=str(remote), dvc_lock_wait_s=10
        )

    def add_bundle(self, version: str, content: bytes = b"weights", *, champion: bool = False) -> str:
        folder = self.models / version
        (folder / "text").mkdir(parents=True)
        (folder / "text" / "linear.npz").write_bytes(content)
        (folder / "decisions.json").write_text("{}")
        write_manifest(folder, a_manifest(version, files=hash_files(folder)))
        if champion:
            self.promote(version)
        return version

    def promote(self, version: str) -> None:
        write_champion(self.models, Champion.promoted(version, "jane", "a test"))

    def add_dataset(self, rows: int, photos: int, start: int = 0) -> str:
        """Ingest so many products more, the first of them with photos, and return the new version."""
        self.folder.mkdir(exist_ok=True)
        products = many_rows(rows, start=start)
        features = write_csv(self.folder / "features.csv", products)
        images = {
            f"image_{row[3]}_product_{row[2]}.jpg": photo(start + i) for i, row in enumerate(products) if i < photos
        }
        archive = write_zip(self.folder / "images.zip", images)
        report = ingest(self.store, features, None, archive, categories=CATEGORIES)
        assert report.dataset_version
        return report.dataset_version

    def pointers(self) -> list[str]:
        """Return all pointer files, by their place below the folder."""
        return sorted(_relative(path, self.folder) for path in self.folder.rglob("*.dvc") if path.is_file())

    def live_files(self) -> dict[str, tuple[int, int, bytes]]:
        """Return inode, time of change and content of every file of bundles, datasets and photos, by place."""
        folders = [path for path in (*self.models.glob("2*"), *self.store.folder.glob("2*")) if path.is_dir()]
        files = [one for folder in (*folders, self.store.photos_folder) for one in _files(folder)]
        return {
            _relative(path, self.folder): (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes())
            for path in files
        }


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
