"""Labelled products in, the next dataset version out: validated, merged, grouped, split, written atomically.

The same input twice creates no new version. A crash at any moment leaves the previous version intact: photos are stored
by content first, and the pointer moves last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ulid import ULID

from rayonnage_shared.ml.base.categories import Categories
from rayonnage_shared.ml.base.progress import Progress, part, silent
from rayonnage_shared.ml.catalogue.dataset_writer import write_version, writing
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.catalogue.ingestion.photo_intake import PhotoIntake, StoredPhoto
from rayonnage_shared.ml.catalogue.ingestion.photo_sources import PhotoSource, open_photos
from rayonnage_shared.ml.catalogue.ingestion.reports import Finding, IngestReports
from rayonnage_shared.ml.catalogue.ingestion.row_checks import check_rows
from rayonnage_shared.ml.catalogue.ingestion.table import RawProduct, RawTable, read_products
from rayonnage_shared.ml.catalogue.merging import Merged, Row, merge
from rayonnage_shared.ml.catalogue.near_duplicates import TextKeys, find_links
from rayonnage_shared.ml.catalogue.product_table import ProductTable, RowDetails
from rayonnage_shared.ml.catalogue.schemas import IngestReport, Reject
from rayonnage_shared.ml.catalogue.splits import place
from rayonnage_shared.ml.catalogue.text_intake import prepare_texts
from rayonnage_shared.ml.features.photos import PhotoLimits

MAX_LISTED = 100
"""Rejects and conflicts in the report; the CSV beside it has all of them."""

Taken = dict[str, StoredPhoto | str]
"""Photos by member of the source, or the reason for refusal."""


@dataclass(frozen=True, slots=True)
class IngestLimits:
    """Limits of one ingest; `wait_s` is how long it waits for a running one."""

    photos: PhotoLimits = field(default_factory=PhotoLimits)
    max_rows: int = 1_000_000
    wait_s: float = 60.0


@dataclass(frozen=True, slots=True)
class _Incoming:
    """The good rows, the keys of all texts (by `Row.source`), the photos by member, and all findings."""

    rows: list[Row]
    keys: TextKeys
    findings: list[Finding]
    rows_total: int
    photos: dict[str, StoredPhoto]


@dataclass(frozen=True, slots=True)
class Ingested:
    """The report of an ingest, and the lines of refused rows."""

    report: IngestReport
    refused: frozenset[int]


def ingest(
    store: DatasetStore,
    features: Path,
    target: Path | None,
    images: Path | None,
    *,
    allow_new_codes: bool = False,
    demo: bool = False,
    categories: Categories,
    limits: IngestLimits | None = None,
    progress: Progress = silent,
    ingest_id: str | None = None,
) -> IngestReport:
    """Merge labelled products into the next dataset version and return the report, which is also saved.

    `images` is a zip or a folder. With `demo` the rows go into the demo data, which is never merged with real data.
    Raises UnreadableTable, UnsafeArchive, IngestBusy.
    """
    limits = limits or IngestLimits()
    ingest_id = ingest_id or str(ULID())
    with writing(store, wait_s=limits.wait_s):
        raw = read_products(features, target, max_rows=limits.max_rows)
        return ingest_table(
            store,
            raw,
            images,
            allow_new_codes=allow_new_codes,
            demo=demo,
            categories=categories,
            photo_limits=limits.photos,
            progress=progress,
            ingest_id=ingest_id,
        ).report


def ingest_table(
    store: DatasetStore,
    raw: RawTable,
    images: Path | None,
    *,
    allow_new_codes: bool,
    demo: bool,
    categories: Categories,
    photo_limits: PhotoLimits,
    progress: Progress,
    ingest_id: str,
    feedback_skipped: int = 0,
) -> Ingested:
    """Ingest products that have been read. Needs the writer lock. Raises UnsafeArchive."""
    pointers = store.pointers()
    parent = pointers.demo if demo else pointers.real
    table = ProductTable.read(store, parent)
    known_codes = None if allow_new_codes else {*categories.codes, *table.codes.tolist()}
    sent = [(one.designation, one.description) for one in raw.products]
    texts = prepare_texts(sent, table.known_texts(), part(progress, 0.02, 0.3))
    with open_photos(images) as source:
        intake = PhotoIntake(store, table.known_photos(), photo_limits)
        members, photos = _take_photos(raw.products, source, intake, part(progress, 0.3, 0.7))
    incoming = _judge(raw.products, texts, members, photos, known_codes)
    incoming.findings.extend(Finding(reject.line, "row", reject.reason) for reject in raw.rejects)
    merged = merge(table.for_merging(), incoming.rows)
    progress(0.72, f"{merged.n_taken} new or changed products")
    version = parent
    if merged.n_taken:
        grown = _grow(table, merged, incoming, ingest_id, part(progress, 0.72, 0.9))
        any_new_photo = any(photo.is_new for photo in incoming.photos.values())
        version = write_version(
            store, grown.arrow, parent=parent, demo=demo, ingest_id=ingest_id, sync_photos=any_new_photo
        ).version
    report = _report(ingest_id, version, incoming, len(raw.rejects), merged)
    report = report.model_copy(update={"feedback_skipped": feedback_skipped})
    conflicts = [Finding(one.line, "conflict", one.reason) for one in merged.conflicts]
    findings = sorted(incoming.findings + conflicts, key=lambda one: one.line)
    IngestReports(store.data_path).write(report, findings)
    progress(1.0, f"{report.rows_added} of {report.rows_total} rows added")
    return Ingested(report, frozenset(one.line for one in incoming.findings if one.kind == "row"))


def _take_photos(
    products: Sequence[RawProduct], source: PhotoSource, intake: PhotoIntake, progress: Progress
) -> tuple[list[str | None], Taken]:
    """Return the member of the source for each product, and the result of each member."""
    members = [source.find(one.product_id, one.image_id, one.photo_name) for one in products]
    wanted = list(dict.fromkeys(member for member in members if member is not None))
    return members, intake.take(source, wanted, progress)


def _judge(
    products: Sequence[RawProduct],
    texts: tuple[list[str], TextKeys],
    members: Sequence[str | None],
    photos: Taken,
    known_codes: set[int] | None,
) -> _Incoming:
    hashes, keys = texts
    stored = {member: photo for member, photo in photos.items() if isinstance(photo, StoredPhoto)}
    has_content = [bool(text) or member in stored for text, member in zip(hashes, members, strict=True)]
    rejects = {reject.line: reject.reason for reject in check_rows(products, has_content, known_codes=known_codes)}
    incoming = _Incoming([], keys, [], len(products), stored)
    for position, (product, member) in enumerate(zip(products, members, strict=True)):
        refused = photos.get(member) if member is not None else None
        if isinstance(refused, str):
            incoming.findings.append(_finding(product, "photo", f"photo {Path(member or '').name}: {refused}"))
        if product.line in rejects:
            incoming.findings.append(_finding(product, "row", rejects[product.line]))
            continue
        photo = stored.get(member) if member is not None else None
        incoming.rows.append(_row(product, hashes[position], photo, position))
    return incoming


def _row(product: RawProduct, text_hash: str, photo: StoredPhoto | None, source: int) -> Row:
    return Row(
        line=product.line,
        designation=product.designation,
        description=product.description,
        product_id=product.product_id,
        image_id=product.image_id,
        code=int(product.code),
        text_hash=text_hash,
        photo=None if photo is None else photo.sha256,
        source=source,
        given_at=product.given_at,
    )


def _grow(table: ProductTable, merged: Merged, incoming: _Incoming, ingest_id: str, progress: Progress) -> ProductTable:
    """Return the table with the merged rows and their splits, folds and groups."""
    rows = [*merged.updates.values(), *(row for _, row in merged.new)]
    progress(0.0, f"comparing {len(rows)} products with {len(table)}")
    keys = incoming.keys.take([row.source for row in rows])
    seen = table.known_photos() | {one.sha256: one.perceptual_hash for one in incoming.photos.values()}
    details = RowDetails(keys, [seen.get(row.photo or "") or 0 for row in rows], ingest_id)
    grown, changed = table.merged(merged, details)
    progress(0.3, "grouping near-duplicates")
    links = find_links(grown.text_keys(), grown.photo_hashes(), changed)
    progress(0.8, "splitting")
    return grown.placed(place(grown.ids, grown.codes, table.placement(), changed, links))


def _finding(product: RawProduct, kind: str, reason: str) -> Finding:
    return Finding(product.line, kind, reason, product.product_id, product.image_id, product.designation)


def _report(ingest_id: str, version: str | None, incoming: _Incoming, uncut: int, merged: Merged) -> IngestReport:
    refused = sorted((one for one in incoming.findings if one.kind != "conflict"), key=lambda one: one.line)
    rows_total = incoming.rows_total + uncut
    accepted = len(incoming.rows)
    return IngestReport(
        ingest_id=ingest_id,
        dataset_version=version if accepted or not rows_total else None,
        rows_total=rows_total,
        rows_added=merged.n_taken,
        rows_duplicate=accepted - merged.n_taken,
        rows_rejected=rows_total - accepted,
        conflicts=len(merged.conflicts),
        images_added=len({photo.sha256 for photo in incoming.photos.values() if photo.is_new}),
        images_rejected=sum(one.kind == "photo" for one in refused),
        rejects=[Reject(line=one.line, reason=one.reason) for one in refused[:MAX_LISTED]],
        conflict_rows=merged.conflicts[:MAX_LISTED],
        report_url=f"/ingest/{ingest_id}/rejects.csv",
    )
