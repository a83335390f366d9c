"""Bound the number of series that a label of model versions makes."""

from __future__ import annotations

import threading

from prometheus_client import Counter

VERSIONS_KEPT = 3
VERSION_LABEL = "model_version"


class RecentVersions:
    """Keep a counter's series of the last model versions that served, so that promotions do not add series forever."""

    def __init__(self, counter: Counter, kept: int = VERSIONS_KEPT) -> None:
        self._counter = counter
        self._kept = kept
        self._versions: list[str] = []
        self._latest = ""
        self._lock = threading.Lock()

    def served(self, version: str) -> None:
        """Record that a version serves. Costs one comparison while the version stays the same."""
        if version != self._latest:
            with self._lock:
                self._put_first(version)

    def _put_first(self, version: str) -> None:
        self._versions = [version, *(one for one in self._versions if one != version)]
        self._latest = version
        for old in self._versions[self._kept :]:
            self._counter.remove_by_labels({VERSION_LABEL: old})
        del self._versions[self._kept :]
