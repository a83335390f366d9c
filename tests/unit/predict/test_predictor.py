"""Predictions are made in a bounded pool of threads, counted, and logged."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client import REGISTRY

from rayonnage_predict import champion as champion_module
from rayonnage_predict.champion import ChampionLoader, ModelNotReady
from rayonnage_predict.predictor import Caller, Predictor
from rayonnage_predict.request_parsing import PredictRequest
from rayonnage_shared.core.errors import Overloaded
from rayonnage_shared.ml.base.categories import Categories
from rayonnage_shared.ml.bundles.bundle import Bundle
from rayonnage_shared.ml.bundles.champion import Champion, write_champion
from rayonnage_shared.ml.bundles.manifest import VERSION_PATTERN
from rayonnage_shared.ml.features.photos import NotAnImage, PhotoLimits
from rayonnage_shared.predictions.log import PredictionLog
from rayonnage_shared.predictions.schemas import Prediction, ProductFields
from tests.unit.shared.ml.features.drawn_photos import encoded, four_corners
from tests.unit.shared.predictions.bundles import CODES, LABELS, fake_bundle

FIRST, SECOND = "20260101T000000Z-abcd", "20260202T000000Z-abcd"
PATIENCE_S = 60
PHOTO = encoded(four_corners())
TITLE = PredictRequest(ProductFields(designation="Piscine", product_identifier="sku-1", top_k=2), None)
TITLE_AND_PHOTO = PredictRequest(ProductFields(designation="Piscine"), PHOTO)
LOG_FIELDS = tuple[Prediction, ProductFields, bytes | None, str, str]


class Notes:
    """What the prediction log is given."""

    def __init__(self) -> None:
        self.all: list[LOG_FIELDS] = []

    def add(self, prediction: Prediction, product: ProductFields, photo: bytes | None, **by: str) -> None:
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
    """A predictor whose champion can be replaced, with what it has logged."""

    def __init__(self, folder: Path, *, threads: int, max_waiting: int) -> None:
        self.notes = Notes()
        self.champion = ChampionLoader(folder)
        self.bundles: dict[str, Bundle] = {}
        self.predictor = Predictor(
            self.champion,
            Categories(CODES, LABELS, {"en": {code: f"{label} in English" for code, label in LABELS.items()}}),
            PhotoLimits(),
            cast(PredictionLog, self.notes),
            threads=threads,
            max_waiting=max_waiting,
        )
        self._folder = folder

    async def promote(self, bundle: Bundle) -> None:
        self.bundles[bundle.version] = bundle
        write_champion(self._folder, Champion.promoted(bundle.version, "jane", "better"))
        await self.champion.refresh()
        assert self.champion.bundle is bundle

    async def predict(
        self, product: PredictRequest, request_id: str = "request-1", language: str | None = None
    ) -> dict[str, Any]:
        answer = await self.predictor.predict(product, Caller("jane", request_id, time.perf_counter(), language))
        found: dict[str, Any] = json.loads(answer)
        return found


@pytest.fixture
async def make_shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Shop]]:
    shops: list[Shop] = []

    def make(*, threads: int = 1, max_waiting: int = 1) -> Shop:
        shop = Shop(tmp_path, threads=threads, max_waiting=max_waiting)
        monkeypatch.setattr(Bundle, "warm_up", lambda _bundle: None)  # it would wait at the gate
        monkeypatch.setattr(champion_module, "load_bundle", lambda _folder, version: shop.bundles[version])
        shops.append(shop)
        return shop

    yield make
    for shop in shops:
        await asyncio.to_thread(shop.predictor.close)


@asynccontextmanager
async def under_way(shop: Shop, gate: Gate, count: int) -> AsyncIterator[list[asyncio.Task[dict[str, Any]]]]:
    """Have `count` products with photos under way: one at the gate, the others in the queue."""
    tasks = [asyncio.create_task(shop.predict(TITLE_AND_PHOTO, f"request-{number}")) for number in range(count)]
    await gate.arrival()
    yield tasks
    gate.open()
    await asyncio.gather(*tasks, return_exceptions=True)


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"rayonnage_{name}", labels) or 0.0


def in_flight() -> float:
    return sample("predict_in_flight")


@contextmanager
def counted(name: str, by: float, **labels: str) -> Iterator[None]:
    before = sample(name, **labels)
    yield
    assert sample(name, **labels) - before == by, (name, labels)


async def test_labels_are_in_the_language_that_the_caller_wants(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop()
    await shop.promote(fake_bundle())
    usual, english = [await shop.predict(TITLE_AND_PHOTO, language=language) for language in (None, "en")]
    assert usual["label"] in LABELS.values()
    assert english["label"] == f"{usual['label']} in English"
    assert list(shop.predictor.languages) == ["en"]


async def test_without_a_champion_there_is_no_prediction(make_shop: Callable[..., Shop]) -> None:
    with pytest.raises(ModelNotReady):
        await make_shop().predict(TITLE)


async def test_a_prediction_is_returned_and_logged_for_its_caller(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop()
    await shop.promote(fake_bundle(FIRST))

    found = await shop.predict(TITLE, "request-7")

    assert (found["category_id"], found["label"], found["product_identifier"]) == (40, "Jeux", "sku-1")
    assert len(found["predictions"]) == 2
    assert VERSION_PATTERN.fullmatch(found["model"]["version"])
    ((prediction, product, photo, username, request_id),) = shop.notes.all
    assert prediction.model_dump(mode="json") == found
    assert (product, photo, username, request_id) == (TITLE.fields, None, "jane", "request-7")


async def test_a_prediction_is_counted_with_the_time_of_each_stage(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop()
    await shop.promote(fake_bundle(FIRST))
    version = {"model_version": FIRST}

    with (
        counted("predictions_total", 1, category="40", decision="accept", **version),
        counted("prediction_confidence_count", 2),
        counted("prediction_stage_seconds_count", 2, stage="prepare"),
        counted("prediction_stage_seconds_count", 2, stage="text"),
        counted("prediction_stage_seconds_count", 1, stage="image"),
        counted("prediction_stage_seconds_count", 1, stage="fusion"),
    ):
        await shop.predict(TITLE)  # 0.7
        with counted("predictions_total", 1, category="40", decision="review", **version):
            await shop.promote(fake_bundle(FIRST, text=(0.1, 0.6, 0.3), image=(0.3, 0.3, 0.4)))
            await shop.predict(TITLE_AND_PHOTO)  # 0.45


async def test_a_fast_text_model_runs_on_the_event_loop_and_everything_else_in_threads(
    make_shop: Callable[..., Shop],
) -> None:
    shop, gate, name = make_shop(), Gate(), threading.current_thread().name
    gate.open()
    await shop.promote(fake_bundle(FIRST, act=gate))
    await shop.predict(TITLE)
    assert gate.threads == {name}

    gate.threads.clear()
    await shop.predict(TITLE_AND_PHOTO)
    await shop.promote(fake_bundle(SECOND, fast=False, act=gate))
    await shop.predict(TITLE)
    assert {one.partition("_")[0] for one in gate.threads} == {"predict"}


async def test_when_the_queue_is_full_the_next_request_is_refused_at_once(make_shop: Callable[..., Shop]) -> None:
    shop, gate = make_shop(threads=1, max_waiting=2), Gate()
    await shop.promote(fake_bundle(FIRST, act=gate))

    async with under_way(shop, gate, 3) as tasks:
        assert in_flight() == 3
        with pytest.raises(Overloaded, match="queue is full"):
            await shop.predict(TITLE_AND_PHOTO)
        assert not any(task.done() for task in tasks), "it did not wait for any of them"
        assert (in_flight(), len(shop.notes.all)) == (3, 0)

    assert [task.result()["category_id"] for task in tasks] == [40] * 3
    assert (in_flight(), len(shop.notes.all)) == (0, 3)
    await shop.predict(TITLE_AND_PHOTO)


async def test_fast_text_is_predicted_while_the_queue_is_full(make_shop: Callable[..., Shop]) -> None:
    shop, gate = make_shop(threads=1, max_waiting=0), Gate()
    await shop.promote(fake_bundle(FIRST, act=gate))
    async with under_way(shop, gate, 1):
        await shop.promote(fake_bundle(SECOND))
        assert (await shop.predict(TITLE))["model"]["version"] == SECOND


async def test_a_caller_who_leaves_the_queue_costs_nothing_more(make_shop: Callable[..., Shop]) -> None:
    shop, gate = make_shop(threads=1, max_waiting=1), Gate()
    await shop.promote(fake_bundle(FIRST, act=gate))

    async with under_way(shop, gate, 2) as (at_work, waiting):
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert in_flight() == 1
        next_one = asyncio.create_task(shop.predict(TITLE_AND_PHOTO, "next"))
        gate.open()
        await asyncio.gather(at_work, next_one)

    assert [note[-1] for note in shop.notes.all] == ["request-0", "next"]
    assert gate.calls == 2 * 2, "two models for each of two products"


async def test_a_prediction_whose_caller_has_left_is_logged_all_the_same(make_shop: Callable[..., Shop]) -> None:
    shop, gate = make_shop(threads=1, max_waiting=1), Gate()
    await shop.promote(fake_bundle(FIRST, act=gate))

    async with under_way(shop, gate, 1) as (at_work,):
        at_work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await at_work
        assert in_flight() == 0
    await asyncio.to_thread(shop.predictor.close)

    assert len(shop.notes.all) == 1


async def test_a_product_that_is_refused_frees_its_place_and_is_not_logged(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop(threads=1, max_waiting=0)
    await shop.promote(fake_bundle(FIRST))
    bad = PredictRequest(ProductFields(), b"no photo")

    with counted("prediction_confidence_count", 0):
        for _ in range(3):
            with pytest.raises(NotAnImage):
                await shop.predict(bad)

    assert (in_flight(), shop.notes.all) == (0, [])
    await shop.predict(TITLE_AND_PHOTO)


async def test_a_request_is_answered_by_the_model_that_served_when_it_came(make_shop: Callable[..., Shop]) -> None:
    shop, gate = make_shop(threads=1, max_waiting=1), Gate()
    await shop.promote(fake_bundle(FIRST, act=gate))

    async with under_way(shop, gate, 2) as tasks:
        await shop.promote(fake_bundle(SECOND))
        gate.open()
        assert [(await task)["model"]["version"] for task in tasks] == [FIRST, FIRST]

    assert (await shop.predict(TITLE_AND_PHOTO))["model"]["version"] == SECOND


async def test_closing_waits_for_what_runs_and_cancels_what_waits(make_shop: Callable[..., Shop]) -> None:
    shop, gate = make_shop(threads=1, max_waiting=1), Gate()
    await shop.promote(fake_bundle(FIRST, act=gate))

    async with under_way(shop, gate, 2) as (at_work, waiting):
        closing = asyncio.create_task(asyncio.to_thread(shop.predictor.close))
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not closing.done()
        gate.open()
        await closing
        assert (await at_work)["category_id"] == 40
