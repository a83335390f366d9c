"""What is logged to MLflow about a bundle, read from the bundle's folder alone."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rayonnage_shared.ml.bundles.manifest import (
    MANIFEST_NAME,
    DatasetReference,
    Manifest,
    creation_time,
    read_manifest_in,
)
from rayonnage_shared.ml.catalogue.datasets import DatasetBroken, DatasetNotFound, DatasetStore

VERSION_TAG = "rayonnage.version"
ARTIFACTS = (MANIFEST_NAME, "evaluation.json", "figures")
DIGEST_CHARACTERS = 36  # MLflow's limit
MODEL_DESCRIPTION = """\
Predicts the product type code of a product from its title, description and photo. Each version is one training of
Rayonnage, with its figures and dataset; the alias `champion` is at the version that serves.

Promote a version with `rayonnage promote VERSION` or `POST /models/VERSION/promote`, where VERSION is its tag
`rayonnage.version`. The alias follows within seconds; moving it here has no effect on what serves.
"""
_HEADLINE = {
    "accuracy": "accuracy",
    "f1_macro": "macro F1",
    "accepted": "share accepted without review",
    "accepted_precision": "precision of the accepted",
}
_NOT_IN_A_NAME = re.compile(r"[^\w\-./ :]")


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a metric; `at_ms` is a time in milliseconds since 1970."""

    name: str
    value: float
    step: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class DatasetRecord:
    """The dataset version that a bundle was trained on; `source` and `profile` are JSON."""

    name: str
    digest: str
    source: str
    profile: str


@dataclass(frozen=True, slots=True)
class BundleRecord:
    """Everything that is logged about one bundle. The same bundle always gives the same record.

    `started_ms` and `created_ms`: when its training was planned and when it was complete, in milliseconds since 1970.
    """

    version: str
    folder: Path
    started_ms: int
    created_ms: int
    description: str
    params: dict[str, str]
    tags: dict[str, str]
    points: list[Point]
    dataset: DatasetRecord
    artifacts: list[Path]


def bundle_record(folder: Path, store: DatasetStore) -> BundleRecord:
    """Return the record of the bundle in `folder`. Raises BundleNotFound or BundleBroken."""
    manifest = read_manifest_in(folder)
    created_ms = int(1000 * manifest.created_at.timestamp())
    dataset = manifest.dataset
    described = _dataset(dataset, store)
    description = _description(manifest, json.loads(described.profile))
    tags = {
        VERSION_TAG: manifest.version,
        "rayonnage.dataset_version": dataset.version,
        "rayonnage.dataset_sha256": dataset.sha256,
        "rayonnage.demo": str(dataset.demo).lower(),
        "rayonnage.code_version": manifest.code_version,
        "rayonnage.submitted_by": manifest.submitted_by,
        "rayonnage.base_version": manifest.base_version or "none",
        "mlflow.user": manifest.submitted_by,
        "mlflow.note.content": description,  # shown on the page of the run
    }
    evaluation = _evaluation(folder)
    values = [*_numbers(manifest.metrics), *_numbers(_costs(evaluation))]
    points = [Point(_metric_name(name), value, 0, created_ms) for name, value in values]
    return BundleRecord(
        version=manifest.version,
        folder=folder,
        started_ms=min(created_ms, int(1000 * creation_time(manifest.version).timestamp())),
        created_ms=created_ms,
        description=description,
        params=_params(manifest),
        tags=tags,
        points=[*points, *_curve_points(evaluation, created_ms)],
        dataset=described,
        artifacts=[folder / name for name in ARTIFACTS if (folder / name).exists()],
    )


def _description(manifest: Manifest, profile: Mapping[str, Any]) -> str:
    """Return what the bundle is, its figures, its dataset and how to promote it, in Markdown."""
    models = ", ".join(f"{model} `{family}`" for model, family in manifest.families.present().items())
    figures = [
        f"| {label} | {manifest.metrics[name]:.3f} |" for name, label in _HEADLINE.items() if name in manifest.metrics
    ]
    table = ["| on the test split | |", "|---|---|", *figures, ""] if figures else []
    demo = " (the demo catalogue)" if manifest.dataset.demo else ""
    rows = (
        f", {profile['rows_train']:,} products for training, {profile['rows_test']:,} for the test"
        if "rows" in profile
        else ""
    )
    return "\n".join(
        [
            f"Predicts one of {len(manifest.categories.codes)} product type codes: {models}.",
            "",
            *table,
            f"Dataset `{manifest.dataset.version}`{demo}{rows}. Trained by {manifest.submitted_by} "
            f"with code version {manifest.code_version}.",
            "",
            f"Promote it with `rayonnage promote {manifest.version}` or `POST /models/{manifest.version}/promote`.",
        ]
    )


def _params(manifest: Manifest) -> dict[str, str]:
    families = manifest.families.present()
    params: dict[str, Any] = {f"{model}_family": name for model, name in families.items()}
    params |= {"seed": manifest.seed, "promised_precision": manifest.promised_precision}
    only = [modality for modality in ("text", "image") if modality in families]
    for name, value in manifest.parameters.items():
        params[name if "." in name or len(only) != 1 else f"{only[0]}.{name}"] = value
    for model, fitted in manifest.models.items():  # a model kept from an earlier bundle has its own
        params |= {f"{model}.{name}": value for name, value in (fitted.parameters | fitted.facts).items()}
    return {_NOT_IN_A_NAME.sub("_", name): str(value) for name, value in params.items()}


def _dataset(named: DatasetReference, store: DatasetStore) -> DatasetRecord:
    profile: dict[str, Any] = {"demo": named.demo}
    try:
        found = store.describe(named.version)
    except (DatasetNotFound, DatasetBroken):
        pass  # pruned or damaged since; its name and hash are still known
    else:
        profile |= {"rows": found.rows, "rows_with_image": found.rows_with_image}
        profile |= {"rows_train": found.rows_train, "rows_test": found.rows_test, "categories": len(found.classes)}
    return DatasetRecord(
        name=named.version,
        digest=named.sha256[:DIGEST_CHARACTERS],
        source=json.dumps({"uri": f"data/datasets/{named.version}", "sha256": named.sha256}),
        profile=json.dumps(profile),
    )


def _numbers(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield every finite number in nested mappings, by dotted name."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and math.isfinite(value):
            yield f"{prefix}{name}", float(value)


def _evaluation(folder: Path) -> Mapping[str, Any]:
    """Return the bundle's report, or an empty one."""
    path = folder / "evaluation.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found if isinstance(found, Mapping) else {}


def _costs(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Return training and prediction times by metric name."""
    timing = {
        one["mode"]: {"median_ms": one["median_ms"], "p95_ms": one["p95_ms"]} for one in evaluation.get("timing", [])
    }
    costs = {"train_seconds": evaluation.get("train_seconds"), "bundle_bytes": evaluation.get("bundle_bytes")}
    return {**costs, "one_product": timing}


def _curve_points(evaluation: Mapping[str, Any], at_ms: int) -> list[Point]:
    """Return the report's learning curves, if any, as metrics over epochs or rows."""
    return [
        Point(_metric_name(f"curve.{name}"), value, step, at_ms)
        for name, series in _series(evaluation.get("curves") or [], ())
        for step, value in series
        if math.isfinite(value)
    ]


def _series(found: Any, path: tuple[str, ...]) -> Iterator[tuple[str, list[tuple[int, float]]]]:
    """Yield (name, [(step, value), …]) of each curve at any depth: a list `x` beside named lists of the same length."""
    if isinstance(found, list):
        for one in found:
            yield from _series(one, path)
    elif isinstance(found, Mapping) and isinstance(found.get("x"), list):
        named = [str(found[key]) for key in ("modality", "figure") if key in found]
        for key, values in found.items():
            if key != "x" and isinstance(values, list) and len(values) == len(found["x"]):
                pairs = zip(found["x"], values, strict=True)
                yield ".".join((*path, *named, key)), [(round(x), float(y)) for x, y in pairs if y is not None]
    elif isinstance(found, Mapping):
        for key, value in found.items():
            yield from _series(value, (*path, str(key)))


def _metric_name(name: str) -> str:
    return _NOT_IN_A_NAME.sub("_", name)
