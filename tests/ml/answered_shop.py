"""A shop whose champion answers: what `rayonnage monitor` looks at, without the platform's processes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from sqlmodel import delete, select
from typer.testing import CliRunner, Result

from rayonnage_shared.cli.main import create_app
from rayonnage_shared.database.engine import migrate, open_database, writing
from rayonnage_shared.database.tables import PredictionRow
from rayonnage_shared.drift.report_files import JSON_NAME
from rayonnage_shared.drift.schemas import DriftReport
from rayonnage_shared.feedback.repository import store_feedback
from rayonnage_shared.ml.base.categories import load_categories
from rayonnage_shared.ml.base.progress import silent
from rayonnage_shared.ml.bundles.bundle import load_bundle
from rayonnage_shared.ml.bundles.champion import read_champion
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.catalogue.ingestion.ingest import ingest
from rayonnage_shared.ml.training.requests import TrainRequest
from rayonnage_shared.pipelines.run_context import RunContext
from rayonnage_shared.pipelines.settings import PipelineSettings
from rayonnage_shared.pipelines.training import train, unseen_test_rows
from rayonnage_shared.predictions.inference import predict_product
from rayonnage_shared.predictions.log import PredictionLog
from rayonnage_shared.predictions.schemas import ProductFields

SAMPLE = Path(__file__).parents[2] / "data" / "sample"


class Sent(NamedTuple):
    """What a caller sends."""

    title: str
    description: str = ""
    photo: bytes | None = None


@dataclass(frozen=True)
class AnsweredShop:
    """The volumes in `folder`, and the log of answers."""

    folder: Path

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder}/data/rayonnage.db"

    @property
    def champion(self) -> str:
        champion = read_champion(self.folder / "models")
        assert champion is not None
        return champion.version

    def unseen(self) -> list[Sent]:
        """Return the products that the champion was not trained on."""
        store = DatasetStore(self.folder / "data")
        rows = unseen_test_rows(store.load(str(store.current())), self.folder / "models" / self.champion)
        photos = [None if photo is None else store.photo_path(photo).read_bytes() for photo in rows.photos]
        return [Sent(*one) for one in zip(rows.designations, rows.descriptions, photos, strict=True)]

    def answer(self, products: Iterable[Sent]) -> None:
        """Predict the products and have the answers logged, as predict does."""
        bundle, categories = load_bundle(self.folder / "models", self.champion), load_categories(None)
        log = PredictionLog(self.url, max_waiting=10_000, keep_days=1, flush_every_s=0.01)
        log.start()
        for sent in products:
            answer = predict_product(bundle, categories, *sent).document
            fields = ProductFields(designation=sent.title, description=sent.description or None)
            log.add(answer, fields, sent.photo, username="jane", request_id="request-1")
        log.stop()

    def told_the_truth(self, truth: int, days_ago: float) -> int:
        """Say of every answer that the product is `truth`, and that it was given so long ago; return how many."""
        engine = open_database(self.url)
        with writing(engine) as session:
            rows = session.exec(select(PredictionRow)).all()
            for row in rows:
                row.created_at -= timedelta(days=days_ago)
                session.add(row)
        for row in rows:
            store_feedback(engine, row.prediction_id, truth, username="jane", demo=False)
        engine.dispose()
        return len(rows)

    def learn_more(self) -> str:
        """Ingest a product that was not there, and return the dataset's version."""
        features = self.folder / "more.csv"
        features.write_text("designation,description,prdtypecode\nUne toute nouvelle piscine de jardin,,2583\n")
        store = DatasetStore(self.folder / "data")
        ingest(store, features, None, None, categories=load_categories(None))
        return str(store.current())

    def forget_answers(self) -> None:
        engine = open_database(self.url)
        with writing(engine) as session:
            session.exec(delete(PredictionRow))
        engine.dispose()

    def monitor(self, *arguments: str) -> Result:
        """Run `rayonnage monitor`."""
        environment = {
            "DATABASE_URL": self.url,
            "MODELS_PATH": str(self.folder / "models"),
            "DATA_PATH": str(self.folder / "data"),
        }
        return CliRunner().invoke(create_app(["monitoring"]), ["monitor", *arguments], env=environment)

    def reports(self) -> list[Path]:
        """Return the folders of the reports, oldest first."""
        return sorted((self.folder / "data" / "drift").glob("2*"))

    def newest(self) -> DriftReport:
        return DriftReport.model_validate_json((self.reports()[-1] / JSON_NAME).read_bytes())


def trained_shop(folder: Path, image: str | None = None) -> AnsweredShop:
    """Return a shop that was trained on the sample: its texts, and its photos where a photo family is named."""
    categories = load_categories(None)
    photos = SAMPLE / "images.zip" if image else None
    ingest(DatasetStore(folder / "data"), SAMPLE / "features.csv", SAMPLE / "target.csv", photos, categories=categories)
    shop = AnsweredShop(folder)
    engine = open_database(shop.url)
    migrate(engine)
    train(
        TrainRequest(text="tfidf-svm", image=image),
        RunContext(
            settings=PipelineSettings(models_path=folder / "models", data_path=folder / "data"),
            engine=engine,
            job_id="job-1",
            submitted_by="jane",
            stage=lambda name: None,
            progress=silent,
        ),
    )
    engine.dispose()
    return shop
