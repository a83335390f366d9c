"""Pull bundles and dataset versions from the DVC remote, each complete or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from rayonnage_shared.core.errors import BadInput, NotFound, RayonnageError
from rayonnage_shared.core.files import sha256_of, write_atomically
from rayonnage_shared.ml.bundles.champion import POINTER_NAME, read_champion
from rayonnage_shared.ml.bundles.manifest import VERSION_PATTERN, BundleBroken, check_files, read_manifest_in
from rayonnage_shared.ml.catalogue.datasets import DatasetBroken, DatasetNotFound, DatasetStore, read_dataset
from rayonnage_shared.ml.catalogue.photo_shards import SHARDS_FOLDER, ShardBroken, photos_of, read_index, unpack
from rayonnage_shared.sync.base import Markers, Say, SyncTargetUnavailable
from rayonnage_shared.sync.dvc.connection import remote_address
from rayonnage_shared.sync.dvc.pointers import Pointer, PointerBroken, pointer_path, read_pointer
from rayonnage_shared.sync.dvc.remote import DvcRemote, NotOnRemote, open_remote
from rayonnage_shared.sync.dvc.settings import VersioningSettings
from rayonnage_shared.sync.dvc.target import NAME

log = structlog.get_logger()

_PULLED = ".pulled-"
_REPLACED = ".replaced-"


class NothingToPull(NotFound):
    """There are no pointers, or the remote has none of their content, as before the first push."""

    code, title = "nothing_to_pull", "There is nothing to pull"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The versions to pull."""

    bundles: list[str]
    datasets: list[str]


def wanted_versions(models_path: Path, data_path: Path, *, everything: bool = False) -> Wanted:
    """Return what the pointers in these folders name: the champion and the current dataset, or everything."""
    champion, current = read_champion(models_path), DatasetStore(data_path).current()
    bundles = {champion.version} if champion else set()
    datasets = {current} if current else set()
    if everything:
        bundles |= _pointed_to(models_path)
        datasets |= _pointed_to(data_path / "datasets")
    return Wanted(sorted(bundles, reverse=True), sorted(datasets, reverse=True))


def pull(
    settings: VersioningSettings,
    say: Say,
    *,
    bundles: bool = True,
    datasets: bool = True,
    everything: bool = False,
    checkout: Path | None = None,
) -> int:
    """Pull the wanted versions that are missing or incomplete, and return how many were pulled.

    Pointers are read from the volumes, or from the folders `models` and `data` of `checkout` if the volumes start
    empty; they are then copied to the volumes, the champion's last. A version appears by one rename after all its
    hashes were checked, so readers see all of it or nothing. Raises NothingToPull, NotOnRemote,
    SyncTargetUnavailable, or, after all other versions were pulled, the error of one that is damaged.
    """
    if not remote_address(settings):
        raise BadInput("DVC_REMOTE_URL is empty, so there is nowhere to pull from.")
    settings.models_path.mkdir(parents=True, exist_ok=True)
    settings.data_path.mkdir(parents=True, exist_ok=True)
    return _Pull(settings, say, checkout).run(bundles=bundles, datasets=datasets, everything=everything)


class _Pull:
    """One pull, with the pointers of `checkout` or of the volumes."""

    def __init__(self, settings: VersioningSettings, say: Say, checkout: Path | None) -> None:
        self._settings = settings
        self._address = remote_address(settings)
        self._say = say
        self._models_path = settings.models_path
        self._store = DatasetStore(settings.data_path)
        self._own = checkout is None
        self._models_pointers = checkout / "models" if checkout else settings.models_path
        self._data_pointers = checkout / "data" if checkout else settings.data_path

    def run(self, *, bundles: bool, datasets: bool, everything: bool) -> int:
        wanted = wanted_versions(self._models_pointers, self._data_pointers, everything=everything)
        named = (wanted.bundles if bundles else []) + (wanted.datasets if datasets else [])
        if not named:
            raise NothingToPull(
                "There is no pointer of a bundle or dataset; commit the pointers on the machine that pushed."
            )
        missing_bundles = [one for one in wanted.bundles if bundles and not self._bundle_is_whole(one)]
        missing_datasets = [one for one in wanted.datasets if datasets and not self._dataset_is_whole(one)]
        for version in sorted({*named} - {*missing_bundles, *missing_datasets}):
            self._say(f"{version} is here already.")
        for folder in (self._models_path, self._store.folder):
            for leftover in folder.glob(f"{_REPLACED}*"):
                shutil.rmtree(leftover)
        if missing_bundles or missing_datasets:
            with open_remote(self._settings) as remote:
                self._check_there(remote, missing_bundles, missing_datasets)
                failures = [self._attempt(self._pull_bundle, remote, version) for version in missing_bundles]
                failures += [self._attempt(self._pull_dataset, remote, version) for version in missing_datasets]
            for failure in filter(None, failures):
                raise failure
        if not self._own:
            self._take_pointers()
        return len(missing_bundles) + len(missing_datasets)

    def _check_there(self, remote: DvcRemote, bundles: list[str], datasets: list[str]) -> None:
        """Raise before anything is fetched if the remote lacks content; skip damaged pointers."""
        pointers = {}
        for pointer_of, versions in ((self._bundle_pointer, bundles), (self._dataset_pointer, datasets)):
            for version in versions:
                with contextlib.suppress(PointerBroken):
                    pointers[version] = pointer_of(version)
        if not pointers:
            return
        lacking = sorted(version for version, pointer in pointers.items() if not remote.has(pointer))
        if len(lacking) == len(pointers):
            raise NothingToPull(
                f"{self._address} has none of {', '.join(lacking)}. Set DVC_REMOTE_URL to their remote, or "
                "run `rayonnage push` on the machine that has them."
            )
        if lacking:
            raise NotOnRemote(
                f"{self._address} lacks {', '.join(lacking)}; run `rayonnage push` on the machine that has them."
            )

    def _attempt(
        self, pull_one: Callable[[DvcRemote, str], None], remote: DvcRemote, version: str
    ) -> RayonnageError | None:
        """Pull one version; return why it failed, so that the others are pulled all the same."""
        try:
            pull_one(remote, version)
        except SyncTargetUnavailable:
            raise
        except RayonnageError as error:
            self._say(f"{version} was not pulled: {error.detail}")
            return error
        return None

    def _pull_bundle(self, remote: DvcRemote, version: str) -> None:
        staging = _staging(self._models_path, version)
        remote.fetch(self._bundle_pointer(version), staging)
        manifest = read_manifest_in(staging)
        check_files(staging, manifest.files)
        if manifest.version != version:
            raise BundleBroken(f"The pointer of {version} points to bundle {manifest.version}.")
        _appear(staging, self._models_path / version)
        Markers(self._models_path, NAME).write(version, {"remote": self._address})
        log.info("dvc.pulled", bundle=version)
        self._say(f"Bundle {version} is here.")

    def _pull_dataset(self, remote: DvcRemote, version: str) -> None:
        folder = self._store.folder / version
        staging = None
        if not _is_whole(folder):
            self._store.folder.mkdir(parents=True, exist_ok=True)
            staging = _staging(self._store.folder, version)
            remote.fetch(self._dataset_pointer(version), staging)
            if not _is_whole(staging):
                raise DatasetBroken(f"The products of {version} do not match its manifest; push it again.")
        photos = self._pull_photos(remote, staging or folder)
        if staging:
            _appear(staging, folder)
        shards = sorted(read_index(folder))
        Markers(self._settings.data_path, NAME).write(version, {"remote": self._address, "shards": shards})
        log.info("dvc.pulled", dataset=version, photos=photos)
        self._say(f"Dataset {version} is here, with {photos} new photos.")

    def _pull_photos(self, remote: DvcRemote, folder: Path) -> int:
        """Fetch the shards with missing photos, unpack only those photos, and return how many there were."""
        missing = set(self._missing_photos(folder))
        came = 0
        for shard, photos in sorted(read_index(folder).items()):
            wanted = missing.intersection(photos)
            if not wanted:
                continue
            pointer = read_pointer(self._data_pointers / SHARDS_FOLDER / f"{shard}.tar.dvc")
            packed = self._settings.data_path / SHARDS_FOLDER / f"{shard}.tar"  # there after a `dvc pull`
            if not pointer.matches(packed):
                packed = _staging(self._settings.data_path, f"{shard}.tar")
                remote.fetch(pointer, packed)
            came += unpack(packed, self._store, wanted)
            packed.unlink()
            missing -= wanted
        if missing:
            self._say(f"{len(missing)} photos were already missing when the version was pushed.")
        return came

    def _missing_photos(self, folder: Path) -> list[str]:
        return [name for name in photos_of(folder / "products.parquet") if not self._store.photo_path(name).is_file()]

    def _bundle_is_whole(self, version: str) -> bool:
        folder = self._models_path / version
        try:
            check_files(folder, read_manifest_in(folder).files)
        except RayonnageError:
            return False
        return True

    def _dataset_is_whole(self, version: str) -> bool:
        folder = self._store.folder / version
        if not _is_whole(folder):
            return False
        indexed = {photo for photos in read_index(folder).values() for photo in photos}
        return indexed.isdisjoint(self._missing_photos(folder))

    def _bundle_pointer(self, version: str) -> Pointer:
        return read_pointer(pointer_path(self._models_pointers / version))

    def _dataset_pointer(self, version: str) -> Pointer:
        return read_pointer(pointer_path(self._data_pointers / "datasets" / version))

    def _take_pointers(self) -> None:
        """Copy the checkout's pointers to the volumes; an existing champion or current dataset stays."""
        for source, target in (
            (self._models_pointers, self._models_path),
            (self._data_pointers / "datasets", self._store.folder),
            (self._data_pointers / SHARDS_FOLDER, self._settings.data_path / SHARDS_FOLDER),
        ):
            target.mkdir(parents=True, exist_ok=True)
            for path in source.glob("*.dvc"):
                write_atomically(target / path.name, path.read_bytes())
        for source, moving in (
            (self._data_pointers / "datasets" / "current.json", self._store.pointer_path),
            (self._models_pointers / POINTER_NAME, self._models_path / POINTER_NAME),
        ):
            if source.is_file() and not moving.is_file():
                write_atomically(moving, source.read_bytes())


def _pointed_to(folder: Path) -> set[str]:
    names = {path.name.removesuffix(".dvc") for path in folder.glob("*.dvc")}
    return {name for name in names if VERSION_PATTERN.fullmatch(name)}


def _is_whole(folder: Path) -> bool:
    """Return whether a dataset's products are what its manifest says and its index can be read."""
    try:
        read_index(folder)
        expected = read_dataset(folder).sha256
        return sha256_of(folder / "products.parquet") == expected
    except (OSError, DatasetBroken, DatasetNotFound, ShardBroken):
        return False


def _staging(parent: Path, name: str) -> Path:
    """Return an empty staging path beside the target; the remains of a crashed pull are removed."""
    path = parent / f"{_PULLED}{name}"
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    return path


def _appear(staging: Path, final: Path) -> None:
    """Rename a complete folder to its target; a damaged one there is moved away first."""
    if final.exists():
        replaced = final.with_name(f"{_REPLACED}{final.name}-{os.getpid()}")
        final.rename(replaced)
        staging.rename(final)
        shutil.rmtree(replaced)
    else:
        staging.rename(final)
