"""Train a bundle in stages that survive a crash: each writes its result and a marker to the work folder."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from rayonnage_shared.core.files import write_atomically
from rayonnage_shared.ml.base.categories import Categories
from rayonnage_shared.ml.base.model import (
    Family,
    Fitted,
    Fitting,
    FloatArray,
    ImageModel,
    Labels,
    TextModel,
    known_rows,
)
from rayonnage_shared.ml.base.progress import Progress, part
from rayonnage_shared.ml.bundles.bundle import DECISIONS_NAME, load_bundle
from rayonnage_shared.ml.bundles.manifest import (
    MANIFEST_NAME,
    DatasetReference,
    Manifest,
    ThresholdChoice,
    hash_files,
    write_manifest,
)
from rayonnage_shared.ml.calibration.thresholds import CONFIDENCE, METHOD, MODES, Decisions, Mode
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.catalogue.products import Products
from rayonnage_shared.ml.evaluation.bundle_evaluation import evaluate_bundle
from rayonnage_shared.ml.evaluation.model_facts import ModelFacts, facts_path
from rayonnage_shared.ml.evaluation.report import flat_metrics, read_report
from rayonnage_shared.ml.evaluation.saved_predictions import publish_predictions
from rayonnage_shared.ml.evaluation.scoring import photo_outputs, text_outputs
from rayonnage_shared.ml.families import Component, fusion_family, image_family, text_family
from rayonnage_shared.ml.fusion.comparison import BestPart, part_instead_of_fusion
from rayonnage_shared.ml.training.fusion_inputs import (
    FusionInputs,
    StoredFeatures,
    learning_rows,
    without_features,
)
from rayonnage_shared.ml.training.held_out import HeldOut
from rayonnage_shared.ml.training.plan import Plan, make_plan
from rayonnage_shared.ml.training.provenance import code_version, library_versions
from rayonnage_shared.ml.training.requests import TrainRequest
from rayonnage_shared.ml.training.validation import DatasetTooSmall, check_size

PRETRAINED_FOLDER = ".pretrained"
_SPANS = {"text": (0.0, 0.4), "image": (0.4, 0.75), "fusion": (0.75, 0.85), "evaluate": (0.85, 1.0)}
"""How much of a training is done before and after each stage, by the time that the default families take."""


@dataclass(frozen=True)
class Training:
    """One training: its request, where it reads and writes, and how it reports its progress."""

    request: TrainRequest
    models_path: Path
    store: DatasetStore
    categories: Categories
    work: Path
    submitted_by: str
    stage: Callable[[str], None]
    progress: Progress
    promised_precision: float
    seed: int = 0

    @property
    def building(self) -> Path:
        """The bundle's folder until it is complete."""
        return self.work / "bundle"

    def _held_out_of_bundle(self, mode: Mode) -> Path:
        """The bundle's held-out probabilities in a mode, for the evaluation."""
        return self.work / f"{mode}.held_out.npz"

    @property
    def _features(self) -> StoredFeatures:
        """Features for the fusion stage; they are removed with the job's work folder."""
        return StoredFeatures(self.work / "features")

    @property
    def _predictions(self) -> Path:
        """The predictions for the test split, until the bundle is published."""
        return self.work / "predictions.csv"

    def run(self) -> str:
        """Train, evaluate and write the bundle; return its version.

        Raises DatasetNotFound, DatasetTooSmall, or BadInput for parameters that a family does not know.
        """
        self.building.mkdir(parents=True, exist_ok=True)
        plan = self._plan()
        if (self.models_path / plan.version / MANIFEST_NAME).exists():
            return plan.version
        products = self.store.load(plan.dataset_version)
        train = products.take(products.splits == "train")
        check_size(plan.dataset_version, len(train), len(np.unique(train.codes)))
        self._once("text", lambda stage: stage._fit_text(plan, train))
        self._once("image", lambda stage: stage._fit_image(plan, train))
        self._once("fusion", lambda stage: stage._fit_fusion(plan, train))
        self._once("evaluate", lambda stage: stage._evaluate(plan, products))
        self.stage("bundle")
        self._publish(plan)
        return plan.version

    def _plan(self) -> Plan:
        path = self.work / "plan.json"
        if not path.exists():
            self.stage("plan")
            plan = make_plan(self.request, self.store, self.models_path, self.categories)
            write_atomically(path, plan.to_json())
        return Plan.from_json(path.read_bytes())

    def _once(self, name: str, work: Callable[[Training], None]) -> None:
        """Run a stage unless an earlier attempt finished it; `work` gets this training with the stage's progress."""
        marker = self.work / f"{name}.done"
        if marker.exists():
            return
        self.stage(name)
        of_stage = replace(self, progress=part(self.progress, *_SPANS[name]))
        of_stage.progress(0.0, f"{name}: started")
        work(of_stage)
        marker.touch()

    def _fit_text(self, plan: Plan, train: Products) -> None:
        if plan.text is None:
            return
        if "text" in plan.kept:
            self._keep(plan, "text", train)
            return
        labels, family = _labels(train, plan.codes), text_family(plan.text)
        self._fit("text", family, lambda fitting: family.fit(train.texts(), labels, fitting), train.ids, plan)

    def _fit_image(self, plan: Plan, train: Products) -> None:
        if plan.image is None:
            return
        with_photo = train.take(np.array([photo is not None for photo in train.photos]))
        if "image" in plan.kept:
            self._keep(plan, "image", with_photo)
            return
        photos = [self.store.photo_path(photo) for photo in with_photo.photos if photo is not None]
        labels, family = _labels(with_photo, plan.codes), image_family(plan.image)
        self._fit("image", family, lambda fitting: family.fit(photos, labels, fitting), with_photo.ids, plan)

    def _fitting(self, component: Component) -> Fitting:
        """Return how to fit a component. Its checkpoints outlive this process, until the work folder is removed."""
        checkpoints = self.work / "checkpoints" / component
        checkpoints.mkdir(parents=True, exist_ok=True)
        pretrained = self.models_path / PRETRAINED_FOLDER
        return Fitting(
            self.request.parameters_of(component),
            self.seed,
            self.progress,
            checkpoints,
            pretrained,
            self.store.photo_features_path,
        )

    def _fit(
        self,
        modality: Component,
        family: type[Family],
        fit: Callable[[Fitting], Fitted[TextModel] | Fitted[ImageModel]],
        ids: list[str],
        plan: Plan,
    ) -> None:
        """Fit a modality and write model, facts and held-out probabilities into the bundle."""
        fitting = self._fitting(modality)
        started = time.monotonic()
        fitted = fit(fitting)
        self._save_facts(modality, family, fitting, fitted, started)
        folder = self.building / modality
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        fitted.model.save(folder)
        HeldOut(ids, fitted.held_out, plan.codes).save(self.building / f"{modality}.held_out.npz")
        wanted = plan.text and plan.image and fusion_family(plan.fusion).needs_features
        if wanted and fitted.features is not None:
            self._features.save(modality, ids, fitted.features)

    def _save_facts(
        self, model: str, family: type[Family], fitting: Fitting, fitted: Fitted[Family], started: float
    ) -> None:
        """Write how a model was fitted; `started` is the value of `time.monotonic` before."""
        parameters, seconds = family.resolve(fitting.parameters), time.monotonic() - started
        demo = self.store.describe(self._plan().dataset_version).demo
        facts = ModelFacts(family.name, parameters, round(seconds, 3), fitted.facts, fitted.curves, demo)
        facts.save(self.building, model)

    def _keep(self, plan: Plan, modality: str, rows: Products) -> None:
        """Copy the champion's model, and score the rows that are unseen by this model."""
        assert plan.base_version is not None
        base = load_bundle(self.models_path, plan.base_version)
        source = self.models_path / plan.base_version
        shutil.copytree(source / modality, self.building / modality, dirs_exist_ok=True)
        if facts_path(source, modality).exists():
            shutil.copy(facts_path(source, modality), self.building)
        name = f"{modality}.held_out.npz"
        known = HeldOut.load(source / name)
        unseen = rows.take(np.array([one not in known.positions for one in rows.ids], dtype=bool))
        if len(unseen) == 0:
            probabilities = np.empty((0, len(plan.codes)), dtype=np.float32)
        elif modality == "text" and base.text_model is not None:
            probabilities = text_outputs(base.text_model, unseen, self.progress).probabilities
        else:
            assert base.image_model is not None
            probabilities = photo_outputs(base.image_model, unseen, self.store, self.progress).probabilities
        known.extended(unseen.ids, probabilities).save(self.building / name)

    def _fit_fusion(self, plan: Plan, train: Products) -> None:
        """Fit the fusion, if there are two modalities, and the thresholds, on held-out probabilities."""
        text, image = (self._held_out(modality, train, plan) for modality in ("text", "image"))
        tables: dict[Mode, FloatArray] = {"text": text, "image": image, "both": np.full_like(text, np.nan)}
        self._alone_path.unlink(missing_ok=True)
        if plan.text and plan.image:
            tables = self._fuse(plan, train, text, image)
            alone = part_instead_of_fusion(tables["text"], tables["image"], tables["both"], train.classes(plan.codes))
            if alone is not None:
                # Products with both are then predicted as those with the best part alone, thresholds included.
                tables = {"text": text, "image": image, "both": text if alone.part == "text" else image}
                self._drop_fusion(alone)
        for mode, table in tables.items():
            HeldOut(train.ids, table, plan.codes).save(self._held_out_of_bundle(mode))
        decisions = Decisions.fit(tables, train.classes(plan.codes), self.promised_precision, train.folds)
        decisions.save(self.building / DECISIONS_NAME)

    @property
    def _alone_path(self) -> Path:
        """Where a fusion stage notes that a part alone is used instead of the fusion."""
        return self.work / "instead_of_fusion.json"

    def _drop_fusion(self, alone: BestPart) -> None:
        """Remove the fusion from the bundle, but for its facts, and note which part predicts instead."""
        shutil.rmtree(self.building / "fusion")
        write_atomically(self._alone_path, json.dumps(asdict(alone)).encode())

    def _instead_of_fusion(self) -> BestPart | None:
        if not self._alone_path.exists():
            return None
        return BestPart(**json.loads(self._alone_path.read_bytes()))

    def _fuse(self, plan: Plan, train: Products, text: FloatArray, image: FloatArray) -> dict[Mode, FloatArray]:
        """Fit and save the fusion; return held-out probabilities (len(train), n_classes) by mode, NaN without such."""
        family, fitting, labels = fusion_family(plan.fusion), self._fitting("fusion"), _labels(train, plan.codes)
        rows = learning_rows(text, image, labels.classes) if family.needs_features else np.arange(len(train))
        by_text, by_image = without_features(text[rows]), without_features(image[rows])
        if family.needs_features:
            assert plan.text is not None and plan.image is not None
            both, some = known_rows(text[rows]) & known_rows(image[rows]), train.take(rows)
            inputs = FusionInputs(self.building, self._features, self.store, self.progress)
            by_text = inputs.text(plan.text, some, by_text.probabilities, both)
            by_image = inputs.image(plan.image, some, by_image.probabilities, both)
        started = time.monotonic()
        fitted = family.fit(by_text, by_image, labels.take(rows), fitting)
        self._save_facts("fusion", family, fitting, fitted, started)
        folder = self.building / "fusion"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        fitted.model.save(folder)
        tables: dict[Mode, FloatArray] = {}
        for mode, found in zip(MODES, (fitted.text_alone, fitted.image_alone, fitted.held_out), strict=True):
            tables[mode] = np.full_like(text, np.nan)
            tables[mode][rows] = found
        return tables

    def _held_out(self, modality: str, train: Products, plan: Plan) -> FloatArray:
        """Return held-out probabilities (len(train), n_classes); NaN for rows without them or without the modality."""
        path = self.building / f"{modality}.held_out.npz"
        if not path.exists():
            return np.full((len(train), len(plan.codes)), np.nan, dtype=np.float32)
        found = HeldOut.load(path).rows(train.ids)
        if modality == "text":
            lacking = [not (one or other) for one, other in zip(train.designations, train.descriptions, strict=True)]
        else:
            lacking = [photo is None for photo in train.photos]
        found[lacking] = np.nan
        return found

    def _evaluate(self, plan: Plan, products: Products) -> None:
        """Evaluate the unpublished bundle on the test split: report, plots, and predictions for `_publish`."""
        train, test = (products.take(products.splits == split) for split in ("train", "test"))
        if len(test) == 0:
            raise DatasetTooSmall(f"Dataset {plan.dataset_version} has no test rows; ingest more products.")
        self._write_manifest(plan, metrics={})
        evaluate_bundle(
            self.building,
            train=train,
            test=test,
            held_out={mode: HeldOut.load(self._held_out_of_bundle(mode)).rows(train.ids) for mode in MODES},
            store=self.store,
            predictions=self._predictions,
            progress=self.progress,
        )

    def _publish(self, plan: Plan) -> None:
        """Write the manifest last and move the folder to its place in one step."""
        report = read_report(self.building)
        assert report is not None
        publish_predictions(self.store.data_path, plan.version, self._predictions.read_bytes())
        self._write_manifest(plan, flat_metrics(report))
        self.building.rename(self.models_path / plan.version)

    def _write_manifest(self, plan: Plan, metrics: dict[str, float]) -> None:
        dataset = self.store.describe(plan.dataset_version)
        codes, families, left_out = plan.codes, plan.families(), dict(plan.left_out)
        alone = self._instead_of_fusion()
        if alone is not None:
            families, left_out["fusion"] = families.model_copy(update={"fusion": None}), alone.reason
        manifest = Manifest(
            format=1,
            version=plan.version,
            created_at=datetime.now(UTC).replace(microsecond=0),
            families=families,
            categories=Categories(codes, {code: self.categories.label(code) for code in codes}),
            dataset=DatasetReference(version=dataset.version, sha256=dataset.sha256, demo=dataset.demo),
            base_version=plan.base_version,
            code_version=code_version(),
            parameters=dict(self.request.parameters),
            seed=self.seed,
            promised_precision=self.promised_precision,
            thresholds=ThresholdChoice(method=METHOD, confidence=CONFIDENCE),
            submitted_by=self.submitted_by,
            metrics=metrics,
            libraries=library_versions(),
            models={
                model: ModelFacts.load(self.building, model, family).described()
                for model, family in plan.families().present().items()
            },
            best_part=alone.part if alone else None,
            left_out=left_out,
            files=hash_files(self.building),
        )
        write_manifest(self.building, manifest)


def _labels(products: Products, codes: tuple[int, ...]) -> Labels:
    return Labels(products.classes(codes), products.folds, len(codes), products.groups)
