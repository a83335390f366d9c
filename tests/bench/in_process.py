"""Measure the rate of predictions without HTTP, in one or more processes."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pydantic_core

from rayonnage_shared.ml.base.categories import load_categories
from rayonnage_shared.ml.bundles.bundle import load_bundle
from rayonnage_shared.ml.bundles.champion import read_champion
from rayonnage_shared.predictions.inference import predict_product


def predictions_per_second(
    models: Path, titles: list[str], photos: list[bytes] | None, *, processes: int, seconds: float
) -> float:
    """Return predictions per second of all processes; with `photos`, each prediction has a title and a photo."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes)
    results: multiprocessing.Queue[float] = context.Queue()
    workers = [
        context.Process(target=_measure, args=(models, titles, photos, seconds, barrier, results))
        for _ in range(processes)
    ]
    for worker in workers:
        worker.start()
    total = sum(results.get(timeout=60 + seconds) for _ in workers)
    for worker in workers:
        worker.join()
    return total


def _measure(  # noqa: PLR0917 - arguments of a process
    models: Path,
    titles: list[str],
    photos: list[bytes] | None,
    seconds: float,
    barrier: Barrier,
    results: multiprocessing.Queue[float],
) -> None:
    champion = read_champion(models)
    assert champion is not None
    bundle = load_bundle(models, champion.version)
    bundle.warm_up()
    categories = load_categories(None)
    barrier.wait(60)
    started = time.perf_counter()
    count = 0
    while time.perf_counter() - started < seconds:
        photo = photos[count % len(photos)] if photos else None
        pydantic_core.to_json(predict_product(bundle, categories, titles[count % len(titles)], None, photo).document)
        count += 1
    results.put(count / (time.perf_counter() - started))
