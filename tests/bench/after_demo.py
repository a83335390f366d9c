"""Measure what a shop sees that grows out of the demo: `python -m tests.bench.after_demo DATA`.

A platform that serves the model of the demo catalogue is given the real products over HTTP, first without photos, then
with the photos of those that have one, and trained after each. 250 products of pairs.csv, with their near-duplicates,
are kept back and predicted after each training. Exits with 1 if a photo is used before any model has learnt from one.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from rayonnage_shared.ml.base.model import known_rows
from rayonnage_shared.ml.bundles.bundle import load_bundle
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.evaluation.scoring import score_products
from rayonnage_shared.ml.metrics.classification import evaluate
from rayonnage_shared.pipelines.training import unseen_test_rows
from tests.bench.http import train as train_on_demo
from tests.bench.real import zip_photos
from tests.bench.real_products import kept_back
from tests.e2e.api import as_csv, finished_job, predict_form, start_training
from tests.e2e.platform import Platform, running_platform
from tests.waiting import eventually

UNSEEN = 250
TIMEOUT_S = 3600.0  # on cores with much other work
COLUMNS = ("designation", "description", "productid", "imageid", "prdtypecode")

Row = dict[str, str]


@dataclass(frozen=True)
class Answers:
    """What the platform answers for the products that were kept back."""

    right: float
    accepted: float
    right_of_accepted: float
    photo_used: float


def main() -> int:
    """Print both tables; return 1 if the model that saw no real photo used one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with text.csv, pairs.csv and images/")
    data: Path = parser.parse_args().data
    learn, unseen = _products(data)
    with tempfile.TemporaryDirectory(prefix="rayonnage-after-demo-") as folder:
        volume = train_on_demo(Path(folder) / "demo")
        with (
            running_platform(Path(folder) / "platform", volume=volume) as platform,
            platform.client(platform.admin_token()) as client,
        ):
            client.timeout = httpx2.Timeout(TIMEOUT_S)
            return _measure(platform, client, data, learn, unseen)


def _measure(platform: Platform, client: httpx2.Client, data: Path, learn: Sequence[Row], unseen: Sequence[Row]) -> int:
    print(f"\n## After the demo: {len(learn)} real products ingested and trained, {len(unseen)} others predicted\n")
    _train(client, learn, None)
    without = {title: _answers(client, unseen, photos) for title, photos in _ways(data)}
    photos = zip_photos(data / "images", platform.home / "photos.zip")
    version = _train(client, learn, photos)
    with_photos = {title: _answers(client, unseen, photos) for title, photos in _ways(data)}
    print("| trained on | predicted by | right | accepted | right of the accepted | photo used |")
    print("|---|---|---|---|---|---|")
    for trained, found in (("titles, no photos", without), ("titles and photos", with_photos)):
        for title, one in found.items():
            cells = f"{one.right:.1%} | {one.accepted:.1%} | {one.right_of_accepted:.1%} | {one.photo_used:.0%}"
            print(f"| {trained} | {title} | {cells} |", flush=True)
    print()
    _compare_with_text(platform, version)
    return 0 if without["title and photo"].photo_used == 0 else 1


def _products(data: Path) -> tuple[list[Row], list[Row]]:
    """Return the products to train on, and those to predict, which have photos."""
    texts, pairs = (
        list(csv.DictReader((data / name).open(encoding="utf-8", newline=""))) for name in ("text.csv", "pairs.csv")
    )
    is_unseen, is_near = kept_back(texts, pairs, data / "images", UNSEEN)
    rows = [row for row, left_out in zip([*texts, *pairs], [*is_near, *is_unseen], strict=True) if not left_out]
    return rows, [row for row, is_one in zip(pairs, is_unseen, strict=True) if is_one][:UNSEEN]


def _ways(data: Path) -> tuple[tuple[str, Path | None], ...]:
    return (("title", None), ("title and photo", data / "images"))


def _train(client: httpx2.Client, rows: Sequence[Row], photos: Path | None) -> str:
    """Ingest the products, train the default model, and return its version once it serves."""
    files: dict[str, Any] = {"features": ("products.csv", as_csv(COLUMNS, rows), "text/csv")}
    if photos is None:
        ingested = client.post("/ingest", files=files)
    else:
        with photos.open("rb") as archive:
            ingested = client.post("/ingest", files={**files, "images": (photos.name, archive, "application/zip")})
    ingested.raise_for_status()
    # Each is better than nothing, which is what a newcomer has; the gate is measured elsewhere.
    job = finished_job(client, start_training(client, promote="always"), TIMEOUT_S)
    version = str(job["result"]["version"])
    manifest = client.get(f"/models/{version}").raise_for_status().json()["manifest"]
    for model, reason in manifest["left_out"].items():
        print(f"{version} has no {model} model: {reason}\n", flush=True)
    assert eventually(lambda: _answer(client, rows[0], None)["model"]["version"] == version)
    return version


def _answers(client: httpx2.Client, rows: Sequence[Row], photos: Path | None) -> Answers:
    right, accepted, used = [], [], []
    for row in rows:
        answer = _answer(client, row, photos)
        right.append(answer["category_id"] == int(row["prdtypecode"]))
        accepted.append(answer["decision"] == "accept")
        used.append(answer["modalities"]["image"]["used"])
    chosen = np.array(right)[np.array(accepted)]
    precision = float(chosen.mean()) if len(chosen) else float("nan")
    return Answers(float(np.mean(right)), float(np.mean(accepted)), precision, float(np.mean(used)))


def _answer(client: httpx2.Client, row: Row, photos: Path | None) -> dict[str, Any]:
    photo = (photos / row["image"]).read_bytes() if photos else None
    answer: dict[str, Any] = predict_form(client, photo, designation=row["designation"]).raise_for_status().json()
    return answer


def _compare_with_text(platform: Platform, version: str) -> None:
    """Print how the bundle and its text model alone do on test products with text and photo."""
    models, store = platform.home / "models", DatasetStore(platform.home / "data")
    bundle = load_bundle(models, version)
    products = unseen_test_rows(store.load(bundle.manifest.dataset.version), models / version)
    scores = score_products(bundle, products, store)
    both = known_rows(scores.text) & known_rows(scores.image)
    classes = products.classes(bundle.codes)[both]
    print(f"Test products with title and photo ({int(both.sum())}):\n")
    print("| model | weighted F1 | macro F1 | calibration error |")
    print("|---|---|---|---|")
    for name, table in (("text alone", scores.text), ("the bundle", scores.probabilities)):
        found = evaluate(table[both], classes, bundle.codes)
        print(f"| {name} | {found.f1_weighted:.4f} | {found.f1_macro:.4f} | {found.ece:.4f} |", flush=True)
    print()


if __name__ == "__main__":
    sys.exit(main())
