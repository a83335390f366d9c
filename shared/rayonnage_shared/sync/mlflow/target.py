"""The MLflow sync target: each bundle is a run and a registered version; the alias `champion` is the pointer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import structlog

from rayonnage_shared.ml.bundles.champion import Champion, readable_champion
from rayonnage_shared.ml.bundles.manifest import list_versions
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.sync.base import Markers, Say, SyncTargetUnavailable
from rayonnage_shared.sync.mlflow.address import redacted, sqlite_path
from rayonnage_shared.sync.settings import SyncSettings

if TYPE_CHECKING:
    from rayonnage_shared.sync.mlflow.client import TrackingStore

log = structlog.get_logger()

NAME = "mlflow"
_CHAMPION = "champion"

Connect = Callable[[SyncSettings], "TrackingStore"]


def connect_to_mlflow(settings: SyncSettings) -> TrackingStore:
    """Return a client. Importing MLflow takes seconds. Raises SyncTargetUnavailable."""
    from rayonnage_shared.sync.mlflow.client import connect

    return connect(settings)


class MlflowTarget:
    """Compares the bundles and the champion pointer with its markers. Each marker names the MLflow server it is about.

    A pruned bundle keeps its run and its registered version; a tag says that it was pruned.
    """

    name = NAME

    def __init__(self, settings: SyncSettings, connect: Connect = connect_to_mlflow) -> None:
        self._settings = settings
        self._connect = connect
        self._models_path = settings.models_path
        self._markers = Markers(settings.models_path, NAME)
        self._store_id = store_identity(settings)

    def pending(self) -> bool:
        """Return whether a bundle or a promotion is not in MLflow yet."""
        return bool(self._unlogged() or self._pruned_or_restored() or self._champion_to_move())

    def sync(self, say: Say) -> None:
        """Bring MLflow up to date.

        Raises SyncTargetUnavailable, or the error of the last bundle that could not be logged.
        """
        if self._store_lost():
            self.forget()
        store = self._connect(self._settings)
        failure = self._log_bundles(store, say)
        for version, marker in self._pruned_or_restored().items():
            on_volume = not marker.get("on_volume", True)
            store.mark_volume(marker["registry_version"], on_volume=on_volume)
            self._markers.write(version, {**marker, "on_volume": on_volume})
        self._move_champion(store, say)
        if failure is not None:
            raise failure

    def forget(self) -> None:
        """Remove all markers, so that the next sync compares everything with MLflow again."""
        for name in self._markers.names():
            self._markers.remove(name)

    def _marker(self, name: str) -> dict[str, Any] | None:
        """Return the marker of a version or of the champion; one about another MLflow server does not count."""
        marker = self._markers.read(name)
        return marker if marker and marker.get("store") == self._store_id and not self._store_lost() else None

    def _store_lost(self) -> bool:
        path = sqlite_path(self._settings.mlflow_tracking_uri or "")
        return path is not None and not path.exists()

    def _unlogged(self) -> list[str]:
        """Return the versions without a marker, oldest first."""
        return [version for version in reversed(list_versions(self._models_path)) if self._marker(version) is None]

    def _pruned_or_restored(self) -> dict[str, dict[str, Any]]:
        """Return the markers of versions that were pruned or restored since they were logged."""
        present = set(list_versions(self._models_path))
        markers = {name: self._marker(name) for name in self._markers.names() if name != _CHAMPION}
        return {
            version: marker
            for version, marker in markers.items()
            if marker is not None
            and "registry_version" in marker
            and marker.get("on_volume", True) != (version in present)
        }

    def _champion_to_move(self) -> Champion | None:
        """Return the champion if the alias must move to it and its bundle is registered."""
        champion = readable_champion(self._models_path)
        marker = self._marker(_CHAMPION) or {}
        if champion is None or marker.get("move_id") == champion.move_id:
            return None
        known = self._marker(champion.version) or {}
        return champion if "registry_version" in known else None

    def _log_bundles(self, store: TrackingStore, say: Say) -> Exception | None:
        """Log each bundle that has no marker; return the error of the last one that failed."""
        from rayonnage_shared.sync.mlflow.record import bundle_record

        failure: Exception | None = None
        datasets = DatasetStore(self._settings.data_path)
        for version in self._unlogged():
            folder = self._models_path / version
            try:
                record = bundle_record(folder, datasets)
            except Exception as error:  # a damaged file of one bundle must not stop the others
                if folder.exists():
                    log.exception("tracking.bundle_damaged", version=version)
                    self._markers.write(version, {"store": self._store_id, "damaged": repr(error)})
                    say(f"{version} is damaged and was not logged to MLflow: {error!r}")
                continue
            try:
                logged = store.log_bundle(record)
            except SyncTargetUnavailable:
                raise
            except Exception as error:  # one bundle must not stop the others
                log.exception("tracking.bundle_not_logged", version=version)
                failure = error
                continue
            document = {"run_id": logged.run_id, "registry_version": logged.registry_version, "on_volume": True}
            self._markers.write(version, {"store": self._store_id, **document})
            log.info("tracking.bundle_logged", version=version, **document)
            say(f"{version} is version {logged.registry_version} of `{self._settings.mlflow_model_name}` in MLflow")
        return failure

    def _move_champion(self, store: TrackingStore, say: Say) -> None:
        champion = self._champion_to_move()
        known = self._marker(champion.version) if champion else None
        if champion is None or known is None:
            return
        if not store.point_champion(known["registry_version"]):
            self._markers.remove(champion.version)  # it was deleted in MLflow; the next sync logs it again
            return
        document = {"move_id": champion.move_id, "version": champion.version}
        self._markers.write(_CHAMPION, {"store": self._store_id, **document})
        log.info("tracking.champion_moved", version=champion.version, registry_version=known["registry_version"])
        say(f"MLflow's alias `champion` is at {champion.version}")


def store_identity(settings: SyncSettings) -> str:
    """Return a key for this MLflow server, experiment and model. It contains no secret."""
    address = redacted(settings.mlflow_tracking_uri or "")
    return f"{address} {settings.mlflow_experiment_name} {settings.mlflow_model_name}"
