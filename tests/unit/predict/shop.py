"""A predict service with fake models, whose champion can be replaced, for tests of a part or of the whole."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import cast

import pytest

from rayonnage_predict import champion as champion_module
from rayonnage_predict.champion import ChampionLoader
from rayonnage_predict.predictor import Predictor
from rayonnage_shared.ml.base.categories import Categories
from rayonnage_shared.ml.bundles.bundle import Bundle
from rayonnage_shared.ml.bundles.champion import Champion, write_champion
from rayonnage_shared.ml.features.photos import PhotoLimits
from rayonnage_shared.predictions.log import PredictionLog
from rayonnage_shared.predictions.schemas import PredictionDocument, ProductFields
from tests.unit.shared.predictions.bundles import CODES, LABELS

PATIENCE_S = 60
Note = tuple[PredictionDocument, ProductFields, bytes | None, str, str]


class Notes:
    """What the prediction log is given."""

    def __init__(self) -> None:
        self.all: list[Note] = []

    def add(self, prediction: PredictionDocument, product: ProductFields, photo: bytes | None, **by: str) -> None:
        self.all.append((prediction, product, photo, by["username"], by["request_id"]))


class Gate:
    """Where a model waits until it is opened."""

    def __init__(self) -> None:
        self.calls = 0
        self.threads: set[str] = set()
        self._arrived = threading.Semaphore(0)
        self._open = threading.Event()

    def __call__(self) -> None:
        self.calls += 1
        self.threads.add(threading.current_thread().name)
        self._arrived.release()
        assert self._open.wait(PATIENCE_S)

    async def arrival(self) -> None:
        """Wait until one more model has come to the gate."""
        assert await asyncio.to_thread(self._arrived.acquire, timeout=PATIENCE_S)

    def open(self) -> None:
        self._open.set()


class Shop:
    """A champion and a predictor, with what was logged."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.notes = Notes()
        self.champion = ChampionLoader(folder)
        self.predictor = Predictor(
            Categories(CODES, LABELS, {"en": {code: f"{label} in English" for code, label in LABELS.items()}}),
            PhotoLimits(),
            cast(PredictionLog, self.notes),
        )
        self._bundles: dict[str, Bundle] = {}
        self._folder = folder
        monkeypatch.setattr(Bundle, "warm_up", lambda _bundle: None)  # it would wait at the gate
        monkeypatch.setattr(champion_module, "load_bundle", lambda _folder, version: self._bundles[version])

    async def promote(self, bundle: Bundle) -> None:
        self._bundles[bundle.version] = bundle
        write_champion(self._folder, Champion.promoted(bundle.version, "jane", "better"))
        await self.champion.refresh()
        assert self.champion.bundle is bundle
