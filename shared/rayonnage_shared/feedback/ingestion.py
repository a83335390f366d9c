"""Ingest feedback: products with their true categories go into the next dataset version, each feedback once.

A product is known by its text, since no photo is kept. Feedback that is older than the product's row in the dataset
changes nothing. Feedback is marked as ingested while the dataset is still locked, so that neither concurrent ingests
nor one that was killed ingest it twice.

Feedback extends the current dataset: the real one if there is one, else the demo catalogue; without a dataset it waits.
Feedback about models that were trained on the demo catalogue never gets into real data, nor the other way round.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Engine
from ulid import ULID

from rayonnage_shared.feedback.repository import LabelledProduct, count_not_ingested, labelled_products, mark_ingested
from rayonnage_shared.ml.base.categories import Categories
from rayonnage_shared.ml.base.progress import Progress, silent
from rayonnage_shared.ml.catalogue.dataset_writer import writing
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.catalogue.ingestion.ingest import IngestLimits, ingest_table
from rayonnage_shared.ml.catalogue.ingestion.table import RawProduct, RawTable
from rayonnage_shared.ml.catalogue.schemas import IngestReport

_TIME_CHARACTERS = 10
"""Length of the time in a ULID."""


def ingest_feedback(
    store: DatasetStore,
    engine: Engine,
    *,
    categories: Categories,
    limits: IngestLimits | None = None,
    progress: Progress = silent,
    ingest_id: str | None = None,
) -> IngestReport:
    """Merge all feedback that is in no dataset version yet into the next one; the report has a row for each prediction.

    Raises IngestBusy, and SQLAlchemy's errors while the database is unavailable; a later call then ingests the rest.
    """
    limits = limits or IngestLimits()
    with writing(store, wait_s=limits.wait_s):
        pointers = store.pointers()
        demo = pointers.real is None
        not_ingested = count_not_ingested(engine)
        products = labelled_products(engine, demo=demo, limit=limits.max_rows) if store.current() else []
        done = ingest_table(
            store,
            RawTable([_row(line, product) for line, product in enumerate(products, 1)], []),
            None,
            allow_new_codes=False,
            demo=demo,
            categories=categories,
            photo_limits=limits.photos,
            progress=progress,
            ingest_id=ingest_id or str(ULID()),
            feedback_skipped=max(not_ingested - len(products), 0),
        )
        if version := done.report.dataset_version:
            taken = [product for line, product in enumerate(products, 1) if line not in done.refused]
            mark_ingested(engine, taken, version)
    return done.report


def _row(line: int, product: LabelledProduct) -> RawProduct:
    return RawProduct(
        line=line,
        designation=product.designation or "",
        description=product.description or "",
        product_id="",
        image_id="",
        photo_name="",
        code=str(product.truth),
        given_at=_time_of(product.given_at),
    )


def _time_of(moment: datetime) -> str:
    return str(ULID.from_datetime(moment))[:_TIME_CHARACTERS]
