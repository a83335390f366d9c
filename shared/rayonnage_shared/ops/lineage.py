"""Provenance of a prediction: bundle, MLflow run, dataset version and code, from what the volumes still have.

Each fact has one source: the prediction log, a bundle's manifest, the promotions table, the markers of the MLflow sync
target, a dataset's manifest. Missing parts are reported as missing; the rest is shown.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import zip_longest
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col, select

from rayonnage_shared.core.errors import NotFound
from rayonnage_shared.database.engine import reading
from rayonnage_shared.database.tables import FeedbackRow, PredictionRow, PromotionRow
from rayonnage_shared.feedback.repository import find_feedback
from rayonnage_shared.ml.bundles.champion import readable_champion
from rayonnage_shared.ml.bundles.manifest import (
    MANIFEST_NAME,
    VERSION_PATTERN,
    BundleBroken,
    BundleNotFound,
    Manifest,
    list_versions,
    read_manifest,
)
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.families import Component
from rayonnage_shared.predictions.repository import LogUnreadable, find_prediction
from rayonnage_shared.sync.base import Markers

HEADLINE = ("rows", "accuracy", "f1_weighted", "f1_macro", "ece")
_PREDICTION_ID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")


class UnknownToLineage(NotFound):
    code, title = "lineage_unknown", "Unknown id"


@dataclass(frozen=True, slots=True)
class Guess:
    """The prediction of one modality."""

    category_id: int
    probability: float


@dataclass(frozen=True, slots=True)
class Truth:
    """The feedback about a prediction; `ingested_in` is None until a dataset version contains it."""

    category_id: int
    username: str
    given_at: datetime
    ingested_in: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """A prediction as answered; texts are None if they were not sent or are not stored."""

    prediction_id: str
    created_at: datetime
    username: str
    request_id: str
    version: str
    designation: str | None
    description: str | None
    product_identifier: str | None
    image_sha256: str | None
    category_id: int
    confidence: float
    decision: str
    text: Guess | None
    image: Guess | None
    duration_ms: float
    feedback: Truth | None


@dataclass(frozen=True, slots=True)
class ChampionPeriod:
    """A period in which a version was the champion; `until` is None for the current one."""

    since: datetime
    until: datetime | None
    moved_by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Run:
    """The MLflow run of a bundle; `store` names the address, the experiment and the registered model."""

    run_id: str
    registry_version: str
    store: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset version; fields are None if unknown, and `missing` says why."""

    version: str
    missing: str | None = None
    sha256: str | None = None
    demo: bool | None = None
    created_at: datetime | None = None
    rows: int | None = None
    rows_with_image: int | None = None
    ingest_id: str | None = None
    parent: Dataset | None = None


@dataclass(frozen=True, slots=True)
class Provenance:
    """How a bundle was trained, from its manifest; `base` is the bundle that it kept a model of."""

    created_at: datetime
    submitted_by: str
    families: Mapping[Component, str]
    metrics: Mapping[str, float]
    manifest_sha256: str
    dataset: Dataset
    code_version: str
    libraries: Mapping[str, str]
    base: Model | None


@dataclass(frozen=True, slots=True)
class Model:
    """A model version; `provenance` is None if the bundle is missing or damaged, and `missing` says why.

    `champion_periods`, oldest first, is None if the database cannot be read; `run` is None until the bundle is logged.
    """

    version: str
    champion: bool
    champion_periods: tuple[ChampionPeriod, ...] | None
    run: Run | None
    provenance: Provenance | None
    missing: str | None = None


@dataclass(frozen=True, slots=True)
class Lineage:
    """The chain from the requested id: answer and model of a prediction, a model, or a dataset.

    `trained` lists the model versions on this volume that were trained on the requested dataset.
    """

    answer: Answer | None = None
    model: Model | None = None
    dataset: Dataset | None = None
    trained: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Lineages:
    """Finds lineages in a platform's volumes and database."""

    models_path: Path
    data_path: Path
    engine: Engine

    def trace(self, name: str) -> Lineage:
        """Return the lineage of a prediction id, a model version or a dataset version.

        Raises UnknownToLineage, or LogUnreadable for a prediction while the database is unavailable.
        """
        if _PREDICTION_ID.fullmatch(name.upper()):
            answer = self._answer(name.upper())
            return Lineage(answer=answer, model=self._model(answer.version))
        if not VERSION_PATTERN.fullmatch(name):
            raise UnknownToLineage(f"{name[:64]!r} is not a prediction id, a model version or a dataset version.")
        if self._is_model(name):
            return Lineage(model=self._model(name))
        trained = tuple(self._trained_on(name))
        if trained or self._dataset_folder(name).is_dir() or _has_pointer(self._dataset_folder(name)):
            return Lineage(dataset=self._dataset(name), trained=trained)
        raise UnknownToLineage(f"There is no model and no dataset {name}; `rayonnage models` lists the models.")

    def _answer(self, prediction_id: str) -> Answer:
        try:
            row = find_prediction(self.engine, prediction_id)
            feedback = find_feedback(self.engine, prediction_id)
        except SQLAlchemyError as error:
            reason = getattr(error, "orig", None) or error
            raise LogUnreadable(f"Start the database and try again ({str(reason).splitlines()[0]}).") from error
        if row is None:
            raise UnknownToLineage(
                f"No prediction {prediction_id} is in the log: it is older than PREDICTION_LOG_DAYS, younger than a "
                "second, or from another platform."
            )
        return _as_answer(row, feedback)

    def _model(self, version: str, seen: tuple[str, ...] = ()) -> Model:
        champion = readable_champion(self.models_path)
        provenance, missing = None, None
        try:
            provenance = self._making(read_manifest(self.models_path, version), (*seen, version))
        except BundleNotFound:
            missing = _gone(self.models_path / version)
        except (BundleBroken, OSError) as error:
            missing = f"it is damaged: {error}"
        return Model(
            version=version,
            champion=champion is not None and champion.version == version,
            champion_periods=self._reigns(version),
            run=self._run(version),
            provenance=provenance,
            missing=missing,
        )

    def _making(self, manifest: Manifest, seen: tuple[str, ...]) -> Provenance:
        content = (self.models_path / manifest.version / MANIFEST_NAME).read_bytes()
        base, trained_on = manifest.base_version, manifest.dataset
        return Provenance(
            created_at=manifest.created_at,
            submitted_by=manifest.submitted_by,
            families=manifest.families.present(),
            metrics={name: manifest.metrics[name] for name in HEADLINE if name in manifest.metrics},
            manifest_sha256=hashlib.sha256(content).hexdigest(),
            dataset=self._dataset(trained_on.version, sha256=trained_on.sha256, demo=trained_on.demo),
            code_version=manifest.code_version,
            libraries=manifest.libraries,
            base=self._model(base, seen) if base and base not in seen else None,
        )

    def _reigns(self, version: str) -> tuple[ChampionPeriod, ...] | None:
        try:
            with reading(self.engine) as session:
                moves = session.exec(select(PromotionRow).order_by(col(PromotionRow.moved_at))).all()
        except SQLAlchemyError:
            return None
        return tuple(
            ChampionPeriod(move.moved_at, following.moved_at if following else None, move.moved_by, move.reason)
            for move, following in zip_longest(moves, moves[1:])
            if move.version == version
        )

    def _run(self, version: str) -> Run | None:
        marker = Markers(self.models_path, "mlflow").read(version)
        try:
            return Run(marker["run_id"], str(marker["registry_version"]), marker["store"]) if marker else None
        except KeyError:  # a bundle that could not be logged, or a damaged marker
            return None

    def _dataset(self, version: str, sha256: str | None = None, demo: bool | None = None) -> Dataset:
        """Return a dataset with its parents; `sha256` and `demo` are what a bundle recorded about it."""
        chain = [self._one_dataset(version)]
        while (parent := chain[-1][1]) is not None and parent not in {one.version for one, _ in chain}:
            chain.append(self._one_dataset(parent))
        found = chain[-1][0]
        for child, _ in reversed(chain[:-1]):
            found = replace(child, parent=found)
        if found.missing is not None:
            return replace(found, sha256=sha256, demo=demo)
        if sha256 not in (None, found.sha256):
            other = f"differs from what the model was trained on: the products here have sha256 {found.sha256}"
            return replace(found, sha256=sha256, missing=other)
        return found

    def _one_dataset(self, version: str) -> tuple[Dataset, str | None]:
        """Return a dataset without its parent, and the parent's version."""
        folder = self._dataset_folder(version)
        try:
            manifest = json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8"))
            return Dataset(
                version=version,
                sha256=manifest["sha256"],
                demo=manifest["demo"],
                created_at=datetime.fromisoformat(manifest["created_at"]),
                rows=manifest["rows"],
                rows_with_image=manifest["rows_with_image"],
                ingest_id=manifest["ingest_id"],
            ), manifest["parent"]
        except FileNotFoundError:
            return Dataset(version=version, missing=_gone(folder)), None
        except (OSError, KeyError, TypeError, ValueError) as error:
            return Dataset(version=version, missing=f"its manifest is damaged ({error})"), None

    def _dataset_folder(self, version: str) -> Path:
        return DatasetStore(self.data_path).folder / version

    def _is_model(self, version: str) -> bool:
        folder = self.models_path / version
        marked = Markers(self.models_path, "mlflow").read(version) is not None
        return folder.is_dir() or _has_pointer(folder) or marked or bool(self._reigns(version))

    def _trained_on(self, dataset: str) -> Iterable[str]:
        for version in list_versions(self.models_path):
            try:
                if read_manifest(self.models_path, version).dataset.version == dataset:
                    yield version
            except (BundleBroken, BundleNotFound):
                continue


def _has_pointer(folder: Path) -> bool:
    """Return whether the folder has a DVC pointer."""
    return folder.with_name(f"{folder.name}.dvc").is_file()


def _gone(folder: Path) -> str:
    return "no longer on this volume" + ("; `rayonnage pull --all` fetches it" if _has_pointer(folder) else "")


def _as_answer(row: PredictionRow, feedback: FeedbackRow | None) -> Answer:
    facts = row.model_dump(include=set(Answer.__slots__))
    truth = None
    if feedback is not None:
        truth = Truth(feedback.category_id, feedback.username, feedback.created_at, feedback.ingested_in)
    text, image = (
        None if category is None or probability is None else Guess(category, probability)
        for category, probability in (
            (row.text_category_id, row.text_probability),
            (row.image_category_id, row.image_probability),
        )
    )
    return Answer(**facts, text=text, image=image, feedback=truth)
