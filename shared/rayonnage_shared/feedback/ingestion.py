"""Feedback becomes labelled products: what was said about predictions goes into the next dataset version, once.

A product is known by its text here, since no photo is kept. The order of what was said and what was ingested holds:
feedback that is older than the row in the dataset changes nothing, however long it has waited. What is in a version is
marked in the database while the dataset is still locked, so several ingests at once, or one that died between the two,
take nothing twice.

Feedback extends the dataset that is there, the real one where there is one, else the demo catalogue's; without any it
waits. It stays on its side: what was said about answers of a model that learned from the demo catalogue (people trying
it out) never gets into real data, nor the other way round.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Engine
from ulid import ULID

from rayonnage_shared.feedback.repository import LabelledProduct, count_waiting, labelled_products, mark_ingested
from rayonnage_shared.ml.base.categories import Categories
from rayonnage_shared.ml.base.progress import Progress, silent
from rayonnage_shared.ml.catalogue.dataset_writer import writing
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.catalogue.ingestion.ingest import IngestLimits, ingest_table
from rayonnage_shared.ml.catalogue.ingestion.table import RawProduct, RawTable
from rayonnage_shared.ml.catalogue.schemas import IngestReport

_TIME_CHARACTERS = 10
"""The part of a ULID that is its time."""


def ingest_feedback(
    store: DatasetStore,
    engine: Engine,
    *,
    categories: Categories,
    limits: IngestLimits | None = None,
    progress: Progress = silent,
    ingest_id: str | None = None,
) -> IngestReport:
    """Merge all feedback that no dataset holds yet into the next version; a row of the report is one prediction.

    Raises IngestBusy, and SQLAlchemy's errors while the database is away; the same again later then does the rest.
    """
    limits = limits or IngestLimits()
    with writing(store, wait_s=limits.wait_s):
        pointers = store.pointers()
        demo = pointers.real is None
        waiting = count_waiting(engine)
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
            feedback_skipped=max(waiting - len(products), 0),
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
        said=_time_of(product.given_at),
    )


def _time_of(moment: datetime) -> str:
    return str(ULID.from_datetime(moment))[:_TIME_CHARACTERS]
