"""Keeps the champion in memory: loads the bundle that the pointer names, and swaps it in when the pointer moves."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import structlog
from prometheus_client import Counter, Gauge

from rayonnage_shared.core.background import background
from rayonnage_shared.core.errors import DependencyDown, RayonnageError
from rayonnage_shared.ml.bundles.bundle import Bundle, load_bundle
from rayonnage_shared.ml.bundles.champion import Champion, read_champion

log = structlog.get_logger()

POINTER_POLL_S = 0.5
FIRST_RETRY_S, LONGEST_RETRY_S = 5.0, 300.0
CHAMPION_INFO = Gauge(
    "rayonnage_champion_info",
    "The bundle that serves; always 1.",
    ["version", "family"],
)
CHAMPION_CREATED = Gauge(
    "rayonnage_champion_created_timestamp_seconds",
    "When the bundle that serves was trained, seconds since 1970.",
)
LAST_LOAD_SUCCESSFUL = Gauge(
    "rayonnage_champion_last_load_successful",
    "0 if the last attempt to load the champion failed, else 1.",
)
LOAD_FAILURES = Counter("rayonnage_champion_load_failures", "Failed attempts to load the champion.")
CHAMPION_CREATED.set(float("nan"))  # until a bundle is loaded; 0 would be 1970
LAST_LOAD_SUCCESSFUL.set(1)


class ModelNotReady(DependencyDown):
    code, title = "model_not_ready", "No model is loaded yet"


@dataclass(frozen=True, slots=True)
class LoadFailure:
    """Why the champion could not be loaded, and when the next attempt is due."""

    move_id: str | None
    """The pointer's; None for a pointer that cannot be read."""
    reason: str
    attempts: int
    retry_at: float


class ChampionLoader:
    """The loaded champion. A failed load leaves the previous one serving and is retried."""

    def __init__(self, models_path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._models_path = models_path
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="load-champion")
        self._bundle: Bundle | None = None
        self._loaded_move: str | None = None
        self._failure: LoadFailure | None = None

    @property
    def is_ready(self) -> bool:
        """Whether a bundle is loaded."""
        return self._bundle is not None

    @property
    def bundle(self) -> Bundle:
        """The bundle that serves. Raises ModelNotReady."""
        if self._bundle is None:
            detail = self.load_error or "Train a model with POST /train; it is promoted when there is no champion."
            raise ModelNotReady(detail)
        return self._bundle

    @property
    def load_error(self) -> str | None:
        """Why the champion is not loaded, or None when it is or there is none."""
        return None if self._failure is None else self._failure.reason

    async def why_not_ready(self) -> str | None:
        """Return None when predictions can be made, else the reason."""
        if self._bundle is not None:
            return None
        return self.load_error or "no champion is loaded; train and promote a model"

    async def why_outdated(self) -> str | None:
        """Return None unless an earlier bundle serves because the champion cannot be loaded, else the reason."""
        return self.load_error

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Load the champion, then watch the pointer until the block ends."""
        await self.refresh()
        try:
            async with background(self._watch()):
                yield
        finally:
            self._thread.shutdown(wait=True, cancel_futures=True)

    async def refresh(self) -> None:
        """Load the bundle that the pointer names, unless it is loaded or its next attempt is not due. Never raises."""
        pointer: Champion | None = None
        try:
            pointer = read_champion(self._models_path)
            if pointer is None or pointer.move_id == self._loaded_move:
                self._note_success()
            elif not self._must_wait(pointer.move_id):
                loop = asyncio.get_running_loop()
                bundle = await loop.run_in_executor(self._thread, _load, self._models_path, pointer.version)
                self._swap(bundle, pointer.move_id)
        except Exception as error:  # noqa: BLE001 - one that ended the task would leave the old bundle serving for ever
            self._note_failure(pointer, error)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(POINTER_POLL_S)
            await self.refresh()

    def _must_wait(self, move_id: str | None) -> bool:
        failure = self._failure
        return failure is not None and failure.move_id == move_id and self._clock() < failure.retry_at

    def _swap(self, bundle: Bundle, move_id: str) -> None:
        created_at = bundle.manifest.created_at.timestamp()
        if self._bundle is not None:
            CHAMPION_INFO.remove(self._bundle.version, self._bundle.family)
        CHAMPION_INFO.labels(bundle.version, bundle.family).set(1)
        CHAMPION_CREATED.set(created_at)
        self._bundle, self._loaded_move = bundle, move_id
        self._note_success()
        log.info("champion.loaded", version=bundle.version)

    def _note_success(self) -> None:
        self._failure = None
        LAST_LOAD_SUCCESSFUL.set(1)

    def _note_failure(self, pointer: Champion | None, error: Exception) -> None:
        move_id = None if pointer is None else pointer.move_id
        if self._must_wait(move_id):
            return  # a pointer that cannot be read is reported with each attempt, not with each poll
        before = self._failure
        attempts = before.attempts + 1 if before is not None and before.move_id == move_id else 1
        pause_s = min(FIRST_RETRY_S * 2 ** (attempts - 1), LONGEST_RETRY_S)
        self._failure = LoadFailure(move_id, _reason(pointer, error), attempts, self._clock() + pause_s)
        LAST_LOAD_SUCCESSFUL.set(0)
        LOAD_FAILURES.inc()
        log.error(
            "champion.load_failed",
            version=None if pointer is None else pointer.version,
            attempts=attempts,
            retry_in_s=pause_s,
            exc_info=error,
        )


def _load(models_path: Path, version: str) -> Bundle:
    try:
        bundle = load_bundle(models_path, version)
        bundle.warm_up()
    except Exception:
        raise
    except BaseException as error:  # such as the PanicException of a library in Rust, which would end the event loop
        raise RuntimeError(f"{type(error).__name__}: {error}") from error
    return bundle


def _reason(pointer: Champion | None, error: Exception) -> str:
    """Return what may be shown to users: the details of an unexpected error are in the log alone."""
    if isinstance(error, RayonnageError):
        return error.detail
    what = "The champion pointer" if pointer is None else f"Bundle {pointer.version}"
    return f"{what} cannot be loaded ({type(error).__name__}); predict's log has the details."
