"""Keeps the champion loaded, swaps it without a pause when the pointer moves, and runs it off the event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import structlog
from prometheus_client import Gauge

from rayonnage_shared.core.background import background
from rayonnage_shared.core.errors import DependencyDown, Overloaded, RayonnageError
from rayonnage_shared.ml.bundles.bundle import Bundle, load_bundle
from rayonnage_shared.ml.bundles.champion import read_champion

log = structlog.get_logger()
T = TypeVar("T")

POINTER_POLL_S = 0.5
CHAMPION_INFO = Gauge(
    "rayonnage_champion_info",
    "The bundle that serves; always 1.",
    ["version", "family"],
)
CHAMPION_CREATED = Gauge(
    "rayonnage_champion_created_timestamp_seconds",
    "When the bundle that serves was trained, seconds since 1970.",
)
IN_FLIGHT = Gauge(
    "rayonnage_predict_in_flight",
    "Predict requests that run or wait for a thread.",
)
CHAMPION_CREATED.set(float("nan"))  # until there is one; 0 would be a model of 1970


class ModelNotReady(DependencyDown):
    code, title = "model_not_ready", "No model is loaded yet"


class Serving:
    """The loaded champion and the threads that run it."""

    def __init__(self, models_path: Path, *, threads: int, max_waiting: int) -> None:
        self._models_path = models_path
        self._capacity = threads + max_waiting
        self._in_flight = 0
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="predict")
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="load")
        self._bundle: Bundle | None = None
        self._failed_move: str | None = None
        self._loaded_move: str | None = None
        self._shown: tuple[str, str] | None = None

    @property
    def bundle(self) -> Bundle:
        """The champion. Raises ModelNotReady before the first promotion."""
        if self._bundle is None:
            raise ModelNotReady("Train a model with POST /train; it is promoted when there is no champion.")
        return self._bundle

    async def why_not_ready(self) -> str | None:
        """Return None when predictions can be made, else what is missing."""
        return None if self._bundle is not None else "no champion is loaded; train and promote a model"

    @contextlib.asynccontextmanager
    async def following_champion(self) -> AsyncIterator[None]:
        """Load the champion, then keep following the pointer until the block ends."""
        await self._follow_once()
        try:
            async with background(self._follow()):
                yield
        finally:
            self._threads.shutdown(wait=True, cancel_futures=True)
            self._loader.shutdown(wait=True, cancel_futures=True)

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in a thread. Raises Overloaded at once when the queue is full."""
        if self._in_flight >= self._capacity:
            raise Overloaded("All threads are busy and the queue is full; try again in a second.")
        self._in_flight += 1
        IN_FLIGHT.set(self._in_flight)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._in_flight -= 1
            IN_FLIGHT.set(self._in_flight)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(POINTER_POLL_S)
            await self._follow_once()

    async def _follow_once(self) -> None:
        """Load what the pointer names beside what serves, warm it, then swap; a broken bundle changes nothing."""
        champion = None
        try:
            champion = read_champion(self._models_path)
            if champion is None or champion.move_id in (self._loaded_move, self._failed_move):
                return
            version = champion.version
            loop = asyncio.get_running_loop()
            self._bundle = await loop.run_in_executor(self._loader, self._load, version)
            self._loaded_move = champion.move_id
            self._show(self._bundle)
            log.info("champion.loaded", version=version)
        except (RayonnageError, OSError, ValueError, TypeError) as error:
            if champion is not None:
                self._failed_move = champion.move_id
            log.exception("champion.not_loaded", error=str(error))

    def _show(self, bundle: Bundle) -> None:
        if self._shown is not None:
            CHAMPION_INFO.remove(*self._shown)
        self._shown = (bundle.version, bundle.family)
        CHAMPION_INFO.labels(*self._shown).set(1)
        CHAMPION_CREATED.set(bundle.manifest.created_at.timestamp())

    def _load(self, version: str) -> Bundle:
        bundle = load_bundle(self._models_path, version)
        bundle.warm_up()
        return bundle
