"""The champion is loaded, swapped, and loaded again after a failure, whatever the failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from rayonnage_predict import champion as champion_module
from rayonnage_predict.app import create_app
from rayonnage_predict.champion import FIRST_RETRY_S, LONGEST_RETRY_S, ChampionLoader, ModelNotReady
from rayonnage_predict.routes import PredictState
from rayonnage_predict.settings import PredictSettings
from rayonnage_shared.auth.dependencies import current_user
from rayonnage_shared.auth.tokens import Principal
from rayonnage_shared.ml.bundles.bundle import Bundle
from rayonnage_shared.ml.bundles.champion import POINTER_NAME, Champion, write_champion
from rayonnage_shared.ml.bundles.manifest import BundleBroken
from tests.unit.shared.ml.bundles.manifests import write_bundle
from tests.unit.shared.predictions.bundles import fake_bundle

OLD, NEW = "20260101T000000Z-abcd", "20260202T000000Z-abcd"
PROMOTED_OLD, PROMOTED_NEW = Champion.promoted(OLD, "jane", "ok"), Champion.promoted(NEW, "jane", "better", (OLD,))


class PanicException(BaseException):
    """What a library that is written in Rust raises when it panics."""


ANY_FAILURE = [
    KeyError("files"),
    MemoryError(),
    RuntimeError("ONNX Runtime: Load model failed: Protobuf parsing failed"),
    OSError(5, "Input/output error"),
    PanicException("index out of bounds"),
    BundleBroken("Bundle is damaged. Promote another one."),
]


class Volume:
    """A model volume: `faults` are raised, one for each attempt to load a version, before it can be loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.faults: dict[str, list[BaseException]] = {}
        self.attempts: list[str] = []
        self.warm_ups = 0

    def load(self, models_path: Path, version: str) -> Bundle:
        assert models_path == self.folder
        self.attempts.append(version)
        if faults := self.faults.get(version):
            raise faults.pop(0)
        return fake_bundle(version, act=self.warm_up)

    def warm_up(self) -> None:
        self.warm_ups += 1


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Volume:
    volume = Volume(tmp_path)
    monkeypatch.setattr(champion_module, "load_bundle", volume.load)
    return volume


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def loader(volume: Volume, clock: Clock) -> ChampionLoader:
    return ChampionLoader(volume.folder, clock=clock)


@pytest.fixture
async def serving_old(loader: ChampionLoader, volume: Volume) -> ChampionLoader:
    """A loader that serves OLD while the pointer has moved to NEW, which has not been looked at."""
    write_champion(volume.folder, PROMOTED_OLD)
    await loader.refresh()
    write_champion(volume.folder, PROMOTED_NEW)
    return loader


def metric(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"rayonnage_champion_{name}", labels)


def failures() -> float:
    return metric("load_failures_total") or 0.0


async def test_without_a_pointer_nothing_is_ready_and_nothing_has_failed(loader: ChampionLoader) -> None:
    await loader.refresh()

    assert not loader.is_ready
    assert "train and promote" in (await loader.why_not_ready() or "")
    assert (await loader.why_outdated(), loader.load_error, metric("last_load_successful")) == (None, None, 1)
    with pytest.raises(ModelNotReady, match="POST /train"):
        _ = loader.bundle


async def test_the_champion_is_loaded_once_and_warmed_up(loader: ChampionLoader, volume: Volume) -> None:
    write_champion(volume.folder, PROMOTED_OLD)
    for _ in range(3):
        await loader.refresh()

    assert (loader.bundle.version, loader.is_ready, await loader.why_not_ready()) == (OLD, True, None)
    assert (volume.attempts, volume.warm_ups) == ([OLD], 2), "each of its models ran once"
    assert metric("info", version=OLD, family="fusion") == 1
    assert metric("created_timestamp_seconds") == loader.bundle.manifest.created_at.timestamp()


async def test_a_promotion_swaps_the_bundle(serving_old: ChampionLoader) -> None:
    before = serving_old.bundle
    with capture_logs() as logs:
        await serving_old.refresh()

    assert (before.version, serving_old.bundle.version) == (OLD, NEW)
    assert [(entry["event"], entry["version"]) for entry in logs] == [("champion.loaded", NEW)]
    assert metric("info", version=NEW, family="fusion") == 1
    assert metric("info", version=OLD, family="fusion") is None


@pytest.mark.parametrize("failure", ANY_FAILURE, ids=lambda failure: type(failure).__name__)
async def test_whatever_goes_wrong_in_loading_the_bundle_before_serves_and_the_failure_shows(
    serving_old: ChampionLoader, volume: Volume, failure: BaseException
) -> None:
    volume.faults[NEW] = [failure]
    before = failures()
    with capture_logs() as logs:
        await serving_old.refresh()

    assert serving_old.bundle.version == OLD
    assert await serving_old.why_not_ready() is None
    assert await serving_old.why_outdated() == serving_old.load_error
    assert (failures() - before, metric("last_load_successful")) == (1, 0)
    (entry,) = logs
    assert (entry["event"], entry["log_level"], entry["version"]) == ("champion.load_failed", "error", NEW)
    assert (entry["attempts"], entry["retry_in_s"]) == (1, FIRST_RETRY_S)
    assert failure in (entry["exc_info"], entry["exc_info"].__cause__)


async def test_the_reason_that_is_shown_has_no_details_of_an_unexpected_error(
    serving_old: ChampionLoader, volume: Volume, clock: Clock
) -> None:
    volume.faults[NEW] = [OSError("/srv/secret"), BundleBroken("Bundle X: 3 files differ. Promote another one.")]
    await serving_old.refresh()
    assert serving_old.load_error == f"Bundle {NEW} cannot be loaded (OSError); predict's log has the details."
    clock.now += FIRST_RETRY_S
    await serving_old.refresh()
    assert serving_old.load_error == "Bundle X: 3 files differ. Promote another one."


async def test_a_warm_up_that_fails_is_a_failed_load(loader: ChampionLoader, volume: Volume) -> None:
    write_champion(volume.folder, PROMOTED_OLD)

    def fail() -> None:
        raise RuntimeError("ONNX Runtime: out of memory")

    volume.warm_up = fail  # type: ignore[method-assign]
    await loader.refresh()

    assert not loader.is_ready
    assert "RuntimeError" in (await loader.why_not_ready() or "")
    with pytest.raises(ModelNotReady, match="RuntimeError"):
        _ = loader.bundle


async def test_a_failed_load_is_tried_again_after_a_pause(
    serving_old: ChampionLoader, volume: Volume, clock: Clock
) -> None:
    volume.faults[NEW] = [MemoryError()]
    await serving_old.refresh()
    clock.now += FIRST_RETRY_S - 0.1
    await serving_old.refresh()
    assert volume.attempts == [OLD, NEW], "not before its time"

    clock.now += 0.1
    await serving_old.refresh()
    assert volume.attempts == [OLD, NEW, NEW]
    assert (serving_old.bundle.version, serving_old.load_error, metric("last_load_successful")) == (NEW, None, 1)


async def test_the_pause_doubles_up_to_five_minutes(serving_old: ChampionLoader, volume: Volume, clock: Clock) -> None:
    volume.faults[NEW] = [MemoryError() for _ in range(9)]
    pauses = []
    with capture_logs() as logs:
        for _ in range(9):
            await serving_old.refresh()
            pauses.append(logs[-1]["retry_in_s"])
            clock.now += pauses[-1]

    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300, LONGEST_RETRY_S]
    assert [entry["attempts"] for entry in logs] == list(range(1, 10))


async def test_a_pointer_that_moves_is_followed_without_a_pause(serving_old: ChampionLoader, volume: Volume) -> None:
    volume.faults[NEW] = [MemoryError(), MemoryError()]
    await serving_old.refresh()
    write_champion(volume.folder, Champion.promoted(NEW, "jane", "once more"))
    with capture_logs() as logs:
        await serving_old.refresh()
    assert (volume.attempts, logs[0]["attempts"]) == ([OLD, NEW, NEW], 1)

    write_champion(volume.folder, Champion.promoted(OLD, "jane", "back"))
    await serving_old.refresh()
    assert (serving_old.bundle.version, serving_old.load_error, metric("last_load_successful")) == (OLD, None, 1)


async def test_a_pointer_that_is_put_back_ends_the_failure_without_a_load(
    serving_old: ChampionLoader, volume: Volume
) -> None:
    volume.faults[NEW] = [MemoryError()]
    await serving_old.refresh()
    write_champion(volume.folder, PROMOTED_OLD)
    await serving_old.refresh()
    assert (volume.attempts, serving_old.load_error, metric("last_load_successful")) == ([OLD, NEW], None, 1)


@pytest.mark.parametrize("content", ["", "not JSON", "[]", f'{{"version": "{NEW}", "moved_by": "jane"}}'])
async def test_a_pointer_that_cannot_be_read_changes_nothing_and_is_reported_once_a_pause(
    serving_old: ChampionLoader, volume: Volume, clock: Clock, content: str
) -> None:
    (volume.folder / POINTER_NAME).write_text(content)
    before = failures()
    with capture_logs() as logs:
        for _ in range(5):
            await serving_old.refresh()
        assert failures() - before == 1
        clock.now += FIRST_RETRY_S
        await serving_old.refresh()

    assert (serving_old.bundle.version, failures() - before) == (OLD, 2)
    assert [(entry["event"], entry["version"], entry["attempts"]) for entry in logs] == [
        ("champion.load_failed", None, 1),
        ("champion.load_failed", None, 2),
    ]
    assert "champion.json" in (serving_old.load_error or "")

    write_champion(volume.folder, PROMOTED_NEW)  # mended: read with the next poll
    await serving_old.refresh()
    assert (serving_old.bundle.version, serving_old.load_error) == (NEW, None)


async def test_the_watch_outlives_every_failure(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("POINTER_POLL_S", "FIRST_RETRY_S"):
        monkeypatch.setattr(champion_module, name, 0.0)
    volume.faults[NEW] = list(ANY_FAILURE)
    loader = ChampionLoader(volume.folder)
    (volume.folder / POINTER_NAME).write_text("not JSON")

    with capture_logs():
        async with loader.watching(), asyncio.timeout(60):
            assert "champion.json" in (loader.load_error or "")
            write_champion(volume.folder, PROMOTED_NEW)
            while not loader.is_ready:  # noqa: ASYNC110 - no event for what nobody else waits for
                await asyncio.sleep(0)

    assert (loader.bundle.version, loader.load_error) == (NEW, None)
    assert volume.attempts == [NEW] * (len(ANY_FAILURE) + 1)


@pytest.fixture
async def client(volume: Volume) -> AsyncIterator[httpx2.AsyncClient]:
    """Predict with OLD loaded, and NEW promoted and impossible to load; both have a manifest."""
    settings = PredictSettings(
        _env_file=None,
        models_path=volume.folder,
        data_path=volume.folder / "data",
        algorithm="HS256",
        secret_key="a secret of thirty-two characters",
    )
    app = create_app(settings)
    app.dependency_overrides[current_user] = lambda: Principal("claire", "user", "t1", 0.0, 0.0)
    for version in (OLD, NEW):
        write_bundle(volume.folder, version)
    state: PredictState = app.state.predict
    write_champion(volume.folder, PROMOTED_OLD)
    await state.champion.refresh()
    volume.faults[NEW] = [MemoryError()]
    write_champion(volume.folder, PROMOTED_NEW)
    await state.champion.refresh()
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://predict") as opened:
        yield opened


async def test_readiness_and_info_show_why_the_champion_is_not_loaded(client: httpx2.AsyncClient) -> None:
    reason = f"Bundle {NEW} cannot be loaded (MemoryError); predict's log has the details."

    ready, info = await client.get("/health/ready"), await client.get("/info")

    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert ready.json()["dependencies"]["champion"] == reason
    assert info.status_code == 200
    found = {name: info.json()[name] for name in ("ready", "version", "broken")}
    assert found == {"ready": True, "version": NEW, "broken": reason}


async def test_info_answers_when_the_pointer_or_the_bundle_is_broken(
    client: httpx2.AsyncClient, volume: Volume
) -> None:
    write_champion(volume.folder, Champion.promoted("20250101T000000Z-abcd", "jane", "a bundle that is gone"))
    gone = (await client.get("/info")).json()
    (volume.folder / POINTER_NAME).write_text("{}")
    broken = (await client.get("/info")).json()

    assert (gone["version"], gone["metrics"], gone["ready"]) == ("20250101T000000Z-abcd", {}, True)
    assert (broken["version"], broken["metrics"], broken["ready"]) == (None, {}, True)
