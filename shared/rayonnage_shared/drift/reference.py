"""The reference of drift: the champion's test split and the champion's predictions for it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog

from rayonnage_shared.core.files import write_atomically
from rayonnage_shared.drift.observations import ScoredProduct
from rayonnage_shared.ml.base.model import FloatArray, ModelOutput
from rayonnage_shared.ml.base.progress import Progress, silent
from rayonnage_shared.ml.bundles.bundle import Bundle, load_bundle
from rayonnage_shared.ml.catalogue.datasets import DatasetNotFound, DatasetStore
from rayonnage_shared.ml.catalogue.products import Products
from rayonnage_shared.ml.evaluation.scoring import photo_outputs, text_outputs
from rayonnage_shared.ml.training.validation import DatasetTooSmall
from rayonnage_shared.pipelines.training import unseen_test_rows

log = structlog.get_logger()

MAX_ROWS = 2000
"""More rows take longer (15 ms per photo, 4 ms per embedding) and reveal no further shift above the thresholds."""
SEED = 20
_BATCH = 256


@dataclass(frozen=True, slots=True)
class Reference:
    """Products of the test split of `dataset_version`, and the champion's predictions for them."""

    dataset_version: str
    products: list[ScoredProduct]


def reference_of(models_path: Path, data_path: Path, version: str, progress: Progress = silent) -> Reference:
    """Return the reference of a bundle: at most 2,000 products, always the same ones.

    The first call for a version runs its models; their predictions are kept below `<data>/drift/references`. Raises
    BundleNotFound, BundleBroken, DatasetNotFound, or DatasetTooSmall.
    """
    store = DatasetStore(data_path)
    bundle = load_bundle(models_path, version)
    dataset_version = _dataset_for(bundle, store)
    products = unseen_test_rows(store.load(dataset_version), models_path / version)
    if len(products) == 0:
        raise DatasetTooSmall(f"Dataset {dataset_version} has no test rows that {version} was not trained on.")
    if len(products) > MAX_ROWS:
        products = products.take(np.sort(np.random.default_rng(SEED).permutation(len(products))[:MAX_ROWS]))
    kept = data_path / "drift" / "references" / f"{version}.{dataset_version}.npz"
    scores = _load(kept, products)
    if scores is None:
        scores = _score(bundle, products, store, progress)
        _save(kept, products, scores)
    return Reference(dataset_version, _scored(products, scores))


def _dataset_for(bundle: Bundle, store: DatasetStore) -> str:
    """Return the dataset that the bundle was trained on, or where that is gone, as after a restore, the newest.

    The demo catalogue is never the reference of a model for real products, nor the other way round.
    """
    trained_on, pointers = bundle.manifest.dataset.version, store.pointers()
    if trained_on in store.versions():
        return trained_on
    current = pointers.demo if bundle.manifest.dataset.demo else pointers.real
    if current is None:
        raise DatasetNotFound(f"Dataset {trained_on}, which {bundle.version} was trained on, is not on this volume.")
    log.warning("drift.reference.dataset_gone", trained_on=trained_on, used=current)
    return current


_Scores = dict[str, FloatArray]
"""By name (n,): `category`, `confidence`, and the confidence of text and photo alone, NaN if not used."""


def _score(bundle: Bundle, products: Products, store: DatasetStore, progress: Progress) -> _Scores:
    """Return the bundle's predictions, as predict makes them; in batches, which bounds memory."""
    parts = []
    for start in range(0, len(products), _BATCH):
        some = products.take(np.arange(start, min(start + _BATCH, len(products))))
        parts.append(_score_batch(bundle, some, store))
        progress((start + len(some)) / len(products), f"scoring {len(products)} products of the champion's test split")
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _score_batch(bundle: Bundle, products: Products, store: DatasetStore) -> _Scores:
    n = len(products)
    scores = {name: np.full(n, np.nan) for name in ("category", "confidence", "text", "image")}
    has_text = np.array([bool(one.title or one.description) for one in products.texts()], dtype=bool)
    has_photo = np.array([photo is not None and store.photo_path(photo).exists() for photo in products.photos])
    has_text &= bundle.text_model is not None
    has_photo &= bundle.image_model is not None
    with_both = has_text & has_photo
    has_text &= ~with_both | (not bundle.ignores("text"))
    has_photo &= ~with_both | (not bundle.ignores("image"))
    for rows in (has_text & ~has_photo, has_photo & ~has_text, has_text & has_photo):
        positions = np.flatnonzero(rows)
        if not len(positions):
            continue
        some = products.take(positions)
        text = image = None
        if bundle.text_model is not None and has_text[positions[0]]:
            text = text_outputs(bundle.text_model, some)
            scores["text"][positions] = _confidence(text)
        if bundle.image_model is not None and has_photo[positions[0]]:
            image = photo_outputs(bundle.image_model, some, store)
            scores["image"][positions] = _confidence(image)
        both = bundle.combine(text, image)
        scores["category"][positions] = np.asarray(bundle.codes)[both.argmax(axis=1)]
        scores["confidence"][positions] = both.max(axis=1)
    return scores


def _confidence(output: ModelOutput) -> FloatArray:
    surest: FloatArray = output.probabilities.max(axis=1)
    return surest


def _scored(products: Products, scores: _Scores) -> list[ScoredProduct]:
    """Return the products for which the bundle has a prediction."""
    return [
        ScoredProduct(
            products.designations[row],
            products.descriptions[row],
            not np.isnan(scores["image"][row]) or products.photos[row] is not None,
            int(scores["category"][row]),
            float(scores["confidence"][row]),
            _or_none(scores["text"][row]),
            _or_none(scores["image"][row]),
        )
        for row in range(len(products))
        if not np.isnan(scores["category"][row])
    ]


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _load(path: Path, products: Products) -> _Scores | None:
    """Return the kept predictions, or None unless they are of exactly these products."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if file["ids"].tolist() != products.ids:
                return None
            return {name: file[name] for name in ("category", "confidence", "text", "image")}
    except (OSError, KeyError, ValueError, EOFError):
        return None


def _save(path: Path, products: Products, scores: _Scores) -> None:
    """Keep the champion's predictions, and remove those of earlier champions."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    np.savez_compressed(content, ids=np.array(products.ids, dtype=np.str_), allow_pickle=False, **scores)
    write_atomically(path, content.getbuffer())
    for other in path.parent.glob("*.npz"):
        if other != path:
            other.unlink(missing_ok=True)
