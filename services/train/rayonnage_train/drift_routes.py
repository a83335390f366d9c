"""HTTP for drift reports: users read them, admins queue new ones."""

from __future__ import annotations

from typing import Annotated

import structlog
from fastapi import APIRouter, Body, Header, Query, Response
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse

from rayonnage_shared.auth.dependencies import CurrentAdmin, CurrentUser
from rayonnage_shared.drift.report_files import newest_reports, read_report, report_page
from rayonnage_shared.drift.schemas import DriftLink, DriftList, DriftReport, DriftRequest
from rayonnage_shared.http.problems import problems
from rayonnage_shared.jobs.schemas import Job
from rayonnage_shared.ml.bundles.champion import read_champion
from rayonnage_shared.ml.bundles.manifest import BundleNotFound
from rayonnage_train.job_types import DRIFT
from rayonnage_train.routes import CurrentTrain

log = structlog.get_logger()

ReportId = Annotated[str, PathParameter(max_length=64)]

drift_routes = APIRouter(prefix="/drift", tags=["train"])

PAGE_HEADERS = {
    # The page contains Evidently's scripts. In a sandbox without an origin they can draw, but have no cookies of the
    # user, send no requests and load nothing.
    "Content-Security-Policy": "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data: blob:; font-src data:; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@drift_routes.post("", status_code=202, response_model=Job, responses=problems(401, 403, 404, 413, 500, 503))
def start_drift_report(
    train: CurrentTrain,
    admin: CurrentAdmin,
    response: Response,
    wanted: Annotated[DriftRequest | None, Body()] = None,
) -> Job:
    """Queue a drift report, which may queue a training. Returns the job; `Location` is its URL."""
    if read_champion(train.models_path) is None:
        raise BundleNotFound("There is no champion to report on; train a model first.")
    request = (wanted or DriftRequest()).model_dump(mode="json")
    job = train.queue.submit(
        DRIFT.name, request, by=admin.username, concurrency_group=DRIFT.concurrency_group, max_queued=train.max_queued
    )
    response.headers["Location"] = f"/train/jobs/{job.job_id}"
    return job


@drift_routes.get("", response_model=DriftList, responses=problems(401))
def list_drift_reports(
    train: CurrentTrain, _user: CurrentUser, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> DriftList:
    """List the drift reports, newest first."""
    return DriftList(reports=newest_reports(train.datasets.data_path, limit))


@drift_routes.get(
    "/{report_id}",
    response_model=DriftReport,
    responses={
        **problems(401, 404, 500),
        200: {
            "content": {"text/html": {"schema": {"type": "string"}}},
            "description": "The report, as JSON or as a page.",
        },
    },
)
def show_drift_report(
    train: CurrentTrain,
    _user: CurrentUser,
    report_id: ReportId,
    response: Response,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> DriftReport | FileResponse:
    """Show a drift report as JSON, or as a page for `Accept: text/html`."""
    if prefers_html(accept):
        page = report_page(train.datasets.data_path, report_id)
        return FileResponse(page, media_type="text/html", headers=PAGE_HEADERS | {"Vary": "Accept"})
    response.headers["Vary"] = "Accept"
    return read_report(train.datasets.data_path, report_id)


@drift_routes.post("/{report_id}/link", status_code=201, response_model=DriftLink, responses=problems(401, 404, 500))
def link_to_drift_report(train: CurrentTrain, user: CurrentUser, report_id: ReportId, response: Response) -> DriftLink:
    """Create a link that opens the report's page in a browser, without a token, for five minutes."""
    report_page(train.datasets.data_path, report_id)
    response.headers["Cache-Control"] = "no-store"
    log.info("drift.link.created", report_id=report_id, user=user.username)
    return train.report_links.create(report_id)


@drift_routes.get(
    "/{report_id}/page",
    response_class=FileResponse,
    responses={
        **problems(403, 404, 500),
        200: {"content": {"text/html": {"schema": {"type": "string"}}}, "description": "The report's page."},
    },
)
def open_drift_report(
    train: CurrentTrain,
    report_id: ReportId,
    expires: Annotated[int, Query(ge=0, lt=2**40, description="From the link.")] = 0,
    signature: Annotated[str, Query(max_length=64, description="From the link.")] = "",
) -> FileResponse:
    """Show the page of a report by a link of `POST /drift/{report_id}/link`; no token is needed."""
    train.report_links.check(report_id, expires, signature)
    page = report_page(train.datasets.data_path, report_id)
    return FileResponse(page, media_type="text/html", headers=PAGE_HEADERS | {"Cache-Control": "private, no-store"})


def prefers_html(accept: str) -> bool:
    """Return whether an Accept header names `text/html`, and does not prefer JSON."""
    weights: dict[str, float] = {}
    for part in accept.lower().split(","):
        media_type, *parameters = (one.strip() for one in part.split(";"))
        weight = next((one.removeprefix("q=") for one in parameters if one.startswith("q=")), "1")
        try:
            weights[media_type] = float(weight)
        except ValueError:
            continue
    html = weights.get("text/html", 0.0)
    return html > 0 and html >= weights.get("application/json", 0.0)
