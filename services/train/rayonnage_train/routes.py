"""HTTP for jobs, and for promotion and rollback; only for admins."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Query, Request, Response
from fastapi import Path as PathParameter
from fastapi.responses import StreamingResponse
from sqlalchemy import Engine

from rayonnage_shared.auth.dependencies import CurrentAdmin, bearer
from rayonnage_shared.auth.tokens import TokenVerifier
from rayonnage_shared.core.errors import NotAuthenticated
from rayonnage_shared.core.validation import Matching
from rayonnage_shared.http.problems import problems
from rayonnage_shared.jobs.queue import NO_SUCH_JOB, JobNotFound, JobQueue
from rayonnage_shared.jobs.schemas import Job, JobList, JobStatus
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.training.requests import (
    ImageTrainRequest,
    PipelineRequest,
    SearchRequest,
    TextTrainRequest,
    TrainRequest,
)
from rayonnage_shared.ml.training.validation import validate_request
from rayonnage_shared.registry import promotion
from rayonnage_shared.registry.schemas import PromoteRequest, Promotion, PromotionList
from rayonnage_train.events import EVENT_HEADERS, EVENT_MEDIA_TYPE, EVENT_SCHEMA, EventStreams, job_events
from rayonnage_train.job_types import JOB_TYPES, SEARCH, TRAIN, JobType, JobTypeName
from rayonnage_train.metrics import TrainMetrics
from rayonnage_train.report_links import ReportLinks
from rayonnage_train.self_check import SelfCheck, SelfCheckResult

train_routes = APIRouter(tags=["train"])
job_routes = APIRouter(prefix="/train/jobs", tags=["train"])
model_routes = APIRouter(prefix="/models", tags=["models"])
self_check_routes = APIRouter(prefix="/test", tags=["train"])


@dataclass(frozen=True, slots=True)
class Train:
    """What the routes need; opened by the lifespan."""

    queue: JobQueue
    engine: Engine
    datasets: DatasetStore
    models_path: Path
    max_queued: int
    may_install: bool
    """Whether jobs install what their families lack."""
    streams: EventStreams
    self_check: SelfCheck
    report_links: ReportLinks
    metrics: TrainMetrics


def train_of(request: Request) -> Train:
    """Return what the lifespan opened."""
    train: Train = request.app.state.train
    return train


def existing_job(
    train: Annotated[Train, Depends(train_of)],
    job_id: Annotated[str, PathParameter(max_length=32), Matching("^[A-Za-z0-9_-]+$", "must be a job id")],
    _admin: CurrentAdmin,
) -> Job:
    """Return the job with this id. Raises JobNotFound, also for a job of an unknown type."""
    job = train.queue.get(job_id)
    if job.kind not in JOB_TYPES:
        raise JobNotFound(NO_SUCH_JOB)
    return job


async def stream_place(train: Annotated[Train, Depends(train_of)], _admin: CurrentAdmin) -> AsyncIterator[None]:
    """Hold one of the limited event streams until the response is complete. Raises Overloaded."""
    with train.streams.place():
        yield


CurrentTrain = Annotated[Train, Depends(train_of)]
ExistingJob = Annotated[Job, Depends(existing_job)]

SUBMIT_ERRORS = problems(401, 403, 404, 413, 503)


@train_routes.post("/train", status_code=202, response_model=Job, responses=SUBMIT_ERRORS)
def start_training(
    train: CurrentTrain,
    admin: CurrentAdmin,
    response: Response,
    wanted: Annotated[TrainRequest | None, Body()] = None,
) -> Job:
    """Queue a training of text, photos and fusion. Returns the job; `Location` is its URL."""
    return _submit(TRAIN, train, admin.username, wanted or TrainRequest(), response)


@train_routes.post("/train/text", status_code=202, response_model=Job, responses=SUBMIT_ERRORS)
def start_text_training(
    train: CurrentTrain,
    admin: CurrentAdmin,
    response: Response,
    wanted: Annotated[TextTrainRequest | None, Body()] = None,
) -> Job:
    """Queue a training on titles and descriptions. The champion's photo model is kept, and the fusion is refitted."""
    return _submit(TRAIN, train, admin.username, (wanted or TextTrainRequest()).training(), response)


@train_routes.post("/train/image", status_code=202, response_model=Job, responses=SUBMIT_ERRORS)
def start_image_training(
    train: CurrentTrain,
    admin: CurrentAdmin,
    response: Response,
    wanted: Annotated[ImageTrainRequest | None, Body()] = None,
) -> Job:
    """Queue a training on photos. The champion's text model is kept, and the fusion is refitted."""
    return _submit(TRAIN, train, admin.username, (wanted or ImageTrainRequest()).training(), response)


@train_routes.post("/train/search", status_code=202, response_model=Job, responses=SUBMIT_ERRORS)
def start_search(train: CurrentTrain, admin: CurrentAdmin, response: Response, wanted: SearchRequest) -> Job:
    """Queue a search for better parameters of one family within a budget, and a training with the best."""
    return _submit(SEARCH, train, admin.username, wanted, response)


def _submit(job_type: JobType, train: Train, by: str, wanted: PipelineRequest, response: Response) -> Job:
    request = validate_request(wanted, train.datasets, may_install=train.may_install)
    job = train.queue.submit(
        job_type.name,
        request.model_dump(mode="json"),
        by=by,
        concurrency_group=job_type.concurrency_group,
        max_queued=train.max_queued,
    )
    response.headers["Location"] = f"/train/jobs/{job.job_id}"
    return job


@job_routes.get("", response_model=JobList, responses=problems(401, 403, 503))
def list_jobs(
    train: CurrentTrain,
    _admin: CurrentAdmin,
    kind: Annotated[JobTypeName | None, Query(description="Only jobs of this type.")] = None,
    status: Annotated[JobStatus | None, Query(description="Only jobs with this status.")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> JobList:
    """List trainings, searches and drift reports, newest first."""
    return JobList(jobs=train.queue.list(kinds=[kind] if kind else list(JOB_TYPES), status=status, limit=limit))


@job_routes.get("/{job_id}", response_model=Job, responses=problems(401, 403, 404, 503))
def show_job(job: ExistingJob) -> Job:
    """Show a job."""
    return job


@job_routes.delete("/{job_id}", status_code=202, response_model=Job, responses=problems(401, 403, 404, 409, 503))
def cancel_job(job: ExistingJob, train: CurrentTrain) -> Job:
    """Cancel a job: at once if it is queued, within seconds if it is running."""
    return train.queue.request_cancel(job.job_id)


@job_routes.get(
    "/{job_id}/events",
    response_class=StreamingResponse,  # without a media type, so that errors keep theirs
    responses={**problems(401, 403, 404, 503), 200: EVENT_SCHEMA},
    dependencies=[Depends(stream_place)],
)
async def stream_job(
    request: Request, job: ExistingJob, train: CurrentTrain, token: Annotated[str, Depends(bearer)]
) -> StreamingResponse:
    """Stream a job as server-sent events; ends with the job, the token, or the service."""
    verifier: TokenVerifier = request.app.state.verifier

    def may_go_on() -> bool:
        if getattr(request.app.state, "stopping", False):
            return False
        try:
            return verifier.verify(token).role == "admin"
        except NotAuthenticated:  # expired or logged out since
            return False

    events = job_events(train.queue, job.job_id, may_go_on)
    return StreamingResponse(events, headers=EVENT_HEADERS, media_type=EVENT_MEDIA_TYPE)


@model_routes.get("/promotions", response_model=PromotionList, responses=problems(401, 403, 503))
def list_promotions(
    train: CurrentTrain, _admin: CurrentAdmin, limit: Annotated[int, Query(ge=1, le=500)] = 50
) -> PromotionList:
    """List promotions and rollbacks, newest first: which version, when, by whom and why."""
    return PromotionList(promotions=promotion.promotion_history(train.engine, limit))


@model_routes.post(
    "/{version}/promote", response_model=Promotion, responses=problems(401, 403, 404, 409, 413, 500, 503)
)
def promote_model(
    train: CurrentTrain,
    admin: CurrentAdmin,
    version: Annotated[str, PathParameter(max_length=64)],
    wanted: Annotated[PromoteRequest | None, Body()] = None,
) -> Promotion:
    """Make this version the champion, whatever the promotion gate decided. predict loads it within two seconds.

    A version that was trained on older data than the champion, or on the demo catalogue, needs `allow_older_data`.
    """
    wanted = wanted or PromoteRequest()
    return promotion.promote(
        train.models_path,
        train.engine,
        version,
        admin.username,
        wanted.reason,
        allow_older_data=wanted.allow_older_data,
    )


@model_routes.post("/rollback", response_model=Promotion, responses=problems(401, 403, 404, 409, 413, 500, 503))
def roll_back_model(
    train: CurrentTrain, admin: CurrentAdmin, wanted: Annotated[PromoteRequest | None, Body()] = None
) -> Promotion:
    """Make the previous champion the champion again.

    If it was trained on older data, or on the demo catalogue, this needs `allow_older_data`.
    """
    wanted = wanted or PromoteRequest()
    return promotion.rollback(
        train.models_path, train.engine, admin.username, wanted.reason, allow_older_data=wanted.allow_older_data
    )


@self_check_routes.get("/preprocess/text/manual", response_model=SelfCheckResult, responses=problems(401, 403, 503))
def check_text_preprocessing(train: CurrentTrain, _admin: CurrentAdmin) -> SelfCheckResult:
    """Run the packaged self-check of the text preprocessing in a process of its own, and return its output.

    A check that fails is a 200 with `success: false`. One check runs at a time; a second one gets 503.
    """
    return train.self_check.run()
