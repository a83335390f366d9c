"""The DVC sync target: dataset versions, photos and bundles on the DVC remote, and pointers to commit to git.

    models/<version>.dvc                 a bundle
    data/datasets/<version>.dvc          a dataset version: its products and the index of its photos
    data/shards/<sha256>.tar.dvc         photos, packed (see `ml/catalogue/photo_shards.py`)

Users commit these with `models/champion.json` and `data/datasets/current.json`; `pull.py` is the way back. A pointer is
written only after the remote has its content. The pointers of pruned versions are removed; the remote keeps their
content, and git their old pointers.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from rayonnage_shared.ml.bundles.champion import ChampionBroken, read_champion, readable_champion
from rayonnage_shared.ml.bundles.manifest import BundleBroken, BundleNotFound, list_versions, read_manifest_in
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.catalogue.photo_shards import (
    MAX_SHARD_BYTES,
    SHARDS_FOLDER,
    ShardBroken,
    ShardIndex,
    group,
    pack,
    photos_of,
    read_index,
    write_index,
)
from rayonnage_shared.sync.base import Markers, Say, SyncTargetUnavailable
from rayonnage_shared.sync.dvc.connection import remote_address
from rayonnage_shared.sync.dvc.pointers import pointer_path
from rayonnage_shared.sync.dvc.remote import DvcRemote, open_remote
from rayonnage_shared.sync.dvc.settings import VersioningSettings

log = structlog.get_logger()

NAME = "dvc"
_PARTIAL = ".partial"


class DvcTarget:
    """Pushes what the volumes have and the remote, according to the markers, does not."""

    name = NAME

    def __init__(self, settings: VersioningSettings, *, max_shard_bytes: int = MAX_SHARD_BYTES) -> None:
        self._settings = settings
        self._max_shard_bytes = max_shard_bytes
        self._address = remote_address(settings)
        self._models_path = settings.models_path
        self._store = DatasetStore(settings.data_path)
        self._shards = settings.data_path / SHARDS_FOLDER
        self._of_bundles = Markers(settings.models_path, NAME)
        self._of_datasets = Markers(settings.data_path, NAME)

    def pending(self) -> bool:
        """Return whether content is not on the remote yet, or a pointer of a pruned version is left."""
        if not self._address:
            return False
        return bool(self._bundles() or self._datasets() or self._gone_bundles() or self._gone_datasets())

    def sync(self, say: Say) -> None:
        """Push what is missing, the champion first, then the current dataset.

        Raises SyncTargetUnavailable, or the error of the last version that could not be pushed.
        """
        self._forget_gone()
        if not (self._bundles() or self._datasets()):
            return
        with open_remote(self._settings) as remote:
            failures = [self._attempt(self._push_bundle, remote, version, say) for version in self._bundles()]
            failures += [self._attempt(self._push_dataset, remote, version, say) for version in self._datasets()]
        for failure in filter(None, failures):
            raise failure

    def forget(self) -> None:
        """Remove the markers of everything on the volumes, so that the next sync checks all of it with the remote."""
        for version in list_versions(self._models_path):
            self._of_bundles.remove(version)
        for version in self._store.versions():
            self._of_datasets.remove(version)
            self._of_datasets.remove(version + _PARTIAL)

    def _bundles(self) -> list[str]:
        """Return the bundles to push: the champion, then the newest."""
        champion = readable_champion(self._models_path)
        first = champion.version if champion else None
        return sorted(
            (
                version
                for version in list_versions(self._models_path)
                if not self._is_done(self._of_bundles, version, self._models_path / version)
            ),
            key=lambda version: (version == first, version),
            reverse=True,
        )

    def _datasets(self) -> list[str]:
        """Return the dataset versions to push: the current one, then the newest."""
        current = self._store.current()
        return sorted(
            (
                version
                for version in self._store.versions()
                if not self._is_done(self._of_datasets, version, self._store.folder / version)
            ),
            key=lambda version: (version == current, version),
            reverse=True,
        )

    def _is_done(self, markers: Markers, version: str, folder: Path) -> bool:
        marker = markers.read(version)
        if marker is None or marker.get("remote") != self._address:
            return False
        return "damaged" in marker or pointer_path(folder).is_file()

    def _attempt(
        self, push: Callable[[DvcRemote, str, Say], None], remote: DvcRemote, version: str, say: Say
    ) -> Exception | None:
        """Push one version; return why it failed, so that the others are pushed all the same."""
        try:
            push(remote, version, say)
        except SyncTargetUnavailable:
            raise
        except Exception as error:  # whatever is wrong with one version must not stop the others
            log.exception("dvc.not_pushed", version=version)
            return error
        return None

    def _push_bundle(self, remote: DvcRemote, version: str, say: Say) -> None:
        """Push a bundle; one that is broken is marked and left out until the next `forget`."""
        folder = self._models_path / version
        try:
            read_manifest_in(folder)
        except BundleBroken as error:
            log.warning("dvc.bundle_damaged", version=version, error=error.detail)
            self._of_bundles.write(version, {"remote": self._address, "damaged": error.detail})
            say(f"{version} is damaged and was not pushed: {error.detail}")
            return
        except BundleNotFound:
            return  # pruned a moment ago
        with _pruned_meanwhile(folder):
            pointer = remote.push(folder)
            pointer.write(folder)
            self._of_bundles.write(version, {"remote": self._address})
            log.info("dvc.pushed", bundle=version, bytes=pointer.size)
            say(f"Bundle {version} is on {self._address}.")

    def _push_dataset(self, remote: DvcRemote, version: str, say: Say) -> None:
        folder = self._store.folder / version
        with _pruned_meanwhile(folder):
            index = self._push_photos(remote, version)
            write_index(folder, index)
            pointer = remote.push(folder)
            pointer.write(folder)
            self._of_datasets.write(version, {"remote": self._address, "shards": sorted(index)})
            self._of_datasets.remove(version + _PARTIAL)
            log.info("dvc.pushed", dataset=version, bytes=pointer.size, shards=len(index))
            say(f"Dataset {version} and its photos are on {self._address}.")

    def _push_photos(self, remote: DvcRemote, version: str) -> ShardIndex:
        """Push all photos of a version and return the shards that contain them."""
        shutil.rmtree(self._shards / ".packing", ignore_errors=True)
        named = photos_of(self._store.folder / version / "products.parquet")
        left = {name for name in named if self._store.photo_path(name).is_file()}
        if len(left) < len(named):
            log.warning("photos.missing", dataset=version, photos=len(named) - len(left))
        index: ShardIndex = {}

        def use(shard: str, photos: list[str]) -> None:
            index[shard] = photos
            left.difference_update(photos)
            self._of_datasets.write(version + _PARTIAL, {"remote": self._address, "shards": index})

        on_remote, elsewhere = self._known_shards(version)
        for shard, photos in on_remote.items():
            if not left.isdisjoint(photos):
                use(shard, photos)
        # A shard of another remote is packed again unchanged, so its committed pointer is valid for both remotes.
        lots = [photos for photos in elsewhere.values() if not left.isdisjoint(photos) and self._are_here(photos)]
        for photos in lots:
            if not left.isdisjoint(photos):
                use(self._push_shard(remote, photos), photos)
        sizes = ((name, self._store.photo_path(name).stat().st_size) for name in sorted(left))
        for photos in list(group(sizes, self._max_shard_bytes)):
            use(self._push_shard(remote, photos), photos)
        return index

    def _push_shard(self, remote: DvcRemote, photos: list[str]) -> str:
        """Pack photos, push them, and return the sha256 name of the shard; only its pointer is kept."""
        packed = pack(self._store, photos, self._shards / ".packing")
        remote.push(packed).write(self._shards / packed.name)
        shutil.rmtree(packed.parent)
        return packed.stem

    def _known_shards(self, version: str) -> tuple[ShardIndex, ShardIndex]:
        """Return the shards on this remote, and those known only from another remote."""
        on_remote: ShardIndex = {}
        elsewhere: ShardIndex = {}
        for other in self._store.versions():
            marker = self._of_datasets.read(other) or {}
            here = marker.get("remote") == self._address
            with contextlib.suppress(ShardBroken):  # its photos are packed again
                (on_remote if here else elsewhere).update(read_index(self._store.folder / other))
        begun = self._of_datasets.read(version + _PARTIAL) or {}
        if begun.get("remote") == self._address:
            on_remote.update(begun.get("shards", {}))
        return on_remote, {shard: photos for shard, photos in elsewhere.items() if shard not in on_remote}

    def _are_here(self, photos: list[str]) -> bool:
        return all(self._store.photo_path(name).is_file() for name in photos)

    def _gone_bundles(self) -> list[str]:
        """Return the bundles that are no longer here, except the champion, whose pointer stays for a pull."""
        try:
            champion = read_champion(self._models_path)
        except ChampionBroken:  # any of them may be the champion
            return []
        kept = {champion.version} if champion else set()
        return [
            version
            for version in self._of_bundles.names()
            if version not in kept and not (self._models_path / version).is_dir()
        ]

    def _gone_datasets(self) -> list[str]:
        pointers = self._store.pointers()
        kept = {pointers.real, pointers.demo}
        return [
            name
            for name in self._of_datasets.names()
            if (version := name.removesuffix(_PARTIAL)) not in kept and not (self._store.folder / version).is_dir()
        ]

    def _forget_gone(self) -> None:
        for version in self._gone_bundles():
            pointer_path(self._models_path / version).unlink(missing_ok=True)
            self._of_bundles.remove(version)
        shards: set[str] = set()
        for name in self._gone_datasets():
            shards.update((self._of_datasets.read(name) or {}).get("shards", ()))
            pointer_path(self._store.folder / name.removesuffix(_PARTIAL)).unlink(missing_ok=True)
            self._of_datasets.remove(name)
        if shards:
            self._forget_shards(shards)

    def _forget_shards(self, shards: set[str]) -> None:
        """Remove the pointers to shards that no version needs.

        None are removed while the shards of a version are unknown: it was not pulled yet, or its index is damaged.
        """
        pointers = {path.name.removesuffix(".dvc") for path in self._store.folder.glob("*.dvc")}
        if pointers - set(self._store.versions()):
            return
        try:
            needed = {shard for version in self._store.versions() for shard in read_index(self._store.folder / version)}
        except ShardBroken:
            return
        for shard in shards - needed:
            pointer_path(self._shards / f"{shard}.tar").unlink(missing_ok=True)


@contextlib.contextmanager
def _pruned_meanwhile(folder: Path) -> Iterator[None]:
    """Ignore missing files if retention has removed the whole folder."""
    try:
        yield
    except FileNotFoundError:
        if folder.is_dir():
            raise
