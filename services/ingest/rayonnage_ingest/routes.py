"""HTTP routes of ingest: uploads, reports and dataset versions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Depends, Request, Response
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse

from rayonnage_ingest.ingestions import Ingestions
from rayonnage_ingest.settings import IngestSettings
from rayonnage_ingest.uploads import FROM_FEEDBACK, NEW_CODES, receive_upload
from rayonnage_shared.auth.dependencies import current_admin
from rayonnage_shared.core.errors import BadInput
from rayonnage_shared.core.validation import Matching
from rayonnage_shared.http.problems import problems
from rayonnage_shared.ml.catalogue.datasets import VERSION_PATTERN, DatasetStore
from rayonnage_shared.ml.catalogue.ingestion.reports import INGEST_ID_PATTERN, IngestReports
from rayonnage_shared.ml.catalogue.schemas import Dataset, DatasetList, IngestReport

router = APIRouter(tags=["ingest"], dependencies=[Depends(current_admin)])

IngestId = Annotated[str, PathParameter(), Matching(INGEST_ID_PATTERN, "must be an ingest id")]
Version = Annotated[
    str, PathParameter(), Matching(VERSION_PATTERN, "must be a dataset version; GET /datasets lists them")
]


class EveryRowRejected(BadInput):
    code: ClassVar[str] = "every_row_rejected"
    title: ClassVar[str] = "No row could be ingested"


@dataclass(frozen=True, slots=True)
class Ingest:
    """What the routes use."""

    settings: IngestSettings
    ingestions: Ingestions
    datasets: DatasetStore
    reports: IngestReports


def ingest_of(request: Request) -> Ingest:
    """Return what the lifespan opened."""
    ingest: Ingest = request.app.state.ingest
    return ingest


Opened = Annotated[Ingest, Depends(ingest_of)]

_FILE = {"type": "string", "format": "binary"}
_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "title": "IngestForm",
                "additionalProperties": False,
                "properties": {
                    "features": _FILE
                    | {
                        "description": "CSV with `designation`, `description`, `productid`, `imageid`; "
                        "with a column `prdtypecode` no target is needed. Required unless `from_feedback` is set."
                    },
                    "target": _FILE | {"description": "CSV with the same unnamed index column and `prdtypecode`."},
                    "images": _FILE | {"description": "Zip of photos named `image_{imageid}_product_{productid}.jpg`."},
                    NEW_CODES: {
                        "type": "boolean",
                        "default": False,
                        "description": "Accept product type codes that are not known yet.",
                    },
                    FROM_FEEDBACK: {
                        "type": "boolean",
                        "default": False,
                        "description": "Instead of files, ingest the feedback that is not in a dataset yet.",
                    },
                },
            }
        }
    },
}


@router.post(
    "/ingest",
    status_code=201,
    response_model=IngestReport,
    responses={
        200: {"model": IngestReport, "description": "Nothing new; the dataset version is unchanged"},
        **problems(400, 401, 403, 408, 413, 415, 500, 503),
    },
    openapi_extra={"requestBody": _BODY},
)
async def ingest_products(request: Request, response: Response, opened: Opened) -> IngestReport:
    """Merge labelled products into the next dataset version.

    The response is sent when the ingest has finished. It continues if the client disconnects; its report is then at
    `GET /ingest/{ingest_id}`. One ingest runs at a time and a few wait; further ones get 503 with `Retry-After`.
    """
    ingestions, settings = opened.ingestions, opened.settings
    ingestion = ingestions.admit()
    try:
        upload = await receive_upload(
            request,
            ingestion.folder,
            max_bytes=settings.ingest_max_body_bytes,
            timeout_s=settings.ingest_upload_timeout_s,
            idle_timeout_s=settings.ingest_idle_timeout_s,
        )
    except BaseException:
        ingestions.give_up(ingestion)
        raise
    report = await ingestions.run(ingestion, upload)
    if report.dataset_version is None and report.rows_total:
        raise EveryRowRejected(
            f"All {report.rows_total} rows were rejected; `rejects` says why.", **report.model_dump(mode="json")
        )
    if report.rows_added == 0:
        response.status_code = 200
    return report


@router.get("/ingest/{ingest_id}", response_model=IngestReport, responses=problems(401, 403, 404, 500))
def get_report(ingest_id: IngestId, opened: Opened) -> IngestReport:
    """Return the report of a finished ingest."""
    return opened.reports.read(ingest_id)


@router.get(
    "/ingest/{ingest_id}/rejects.csv",
    response_class=FileResponse,
    responses={
        200: {
            "content": {"text/csv": {"schema": {"type": "string"}}},
            "description": "All rejected rows and conflicts",
        },
        **problems(401, 403, 404),
    },
)
def get_rejects(ingest_id: IngestId, opened: Opened) -> FileResponse:
    """Return every rejected row, rejected photo and conflict of an ingest, with line and reason."""
    path = opened.reports.rejects_path(ingest_id)
    return FileResponse(path, media_type="text/csv; charset=utf-8", filename=f"rejects-{ingest_id}.csv")


@router.get("/datasets", response_model=DatasetList, responses=problems(401, 403))
def list_datasets(opened: Opened) -> DatasetList:
    """Return all dataset versions, newest first, and the current one, which training uses by default."""
    found, broken = opened.datasets.described()
    return DatasetList(current=opened.datasets.current(), datasets=found[::-1], broken=broken)


@router.get("/datasets/{version}", response_model=Dataset, responses=problems(401, 403, 404, 500))
def get_dataset(version: Version, opened: Opened) -> Dataset:
    """Return one dataset version."""
    return opened.datasets.describe(version)
