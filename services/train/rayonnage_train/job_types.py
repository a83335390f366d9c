"""The job types: the one list that the routes, the worker, the schedule and the metrics read."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, WithJsonSchema

from rayonnage_shared.drift.schemas import DriftRequest
from rayonnage_shared.ml.training.requests import SearchRequest, TrainRequest
from rayonnage_shared.pipelines.run_context import RunContext
from rayonnage_train.settings import TrainSettings

Handler = Callable[[Any, RunContext[TrainSettings]], dict[str, Any]]
"""Does the job of a request and returns its result; a later attempt of the same job gets the same work folder."""


@dataclass(frozen=True, slots=True)
class JobType:
    """A type of job: how it is queued, and what runs it."""

    name: str
    concurrency_group: str
    """Jobs of one group never run at the same time."""
    request: type[BaseModel]
    handler: str
    """`package.module:function`, imported only by the process that runs the job: some handlers import for seconds."""
    is_training: bool = False

    def load_handler(self) -> Handler:
        """Return the function that runs a job of this type."""
        handler: Handler = pkgutil.resolve_name(self.handler)
        return handler


TRAIN = JobType(
    "train",
    concurrency_group="models",  # trainings promote, and use all cores
    request=TrainRequest,
    handler="rayonnage_shared.pipelines.training:train",
    is_training=True,
)
SEARCH = JobType(
    "search",
    concurrency_group=TRAIN.concurrency_group,
    request=SearchRequest,
    handler="rayonnage_shared.pipelines.search:search_and_train",
    is_training=True,
)
DRIFT = JobType(
    "drift",
    concurrency_group="drift",  # two reports at once would each decide without seeing the other's training
    request=DriftRequest,
    handler="rayonnage_train.drift_job:report_and_act",
)

JOB_TYPES: Mapping[str, JobType] = {one.name: one for one in (TRAIN, SEARCH, DRIFT)}
TRAININGS = tuple(one.name for one in JOB_TYPES.values() if one.is_training)


def _check_name(name: str) -> str:
    if name not in JOB_TYPES:
        raise ValueError(f"there is no such job type; known are {', '.join(JOB_TYPES)}")
    return name


JobTypeName = Annotated[str, AfterValidator(_check_name), WithJsonSchema({"type": "string", "enum": list(JOB_TYPES)})]

DEFAULT_JOB_TYPES = f"{__name__}:JOB_TYPES"


def load_job_types(path: str) -> Mapping[str, JobType]:
    """Return the job types at `package.module:attribute`, by name; tests bring their own."""
    job_types: Mapping[str, JobType] = pkgutil.resolve_name(path)
    return job_types
