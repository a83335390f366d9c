"""Job types for tests: `--job-types tests.e2e.jobs.job_types:JOB_TYPES`."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from pydantic import BaseModel

from rayonnage_shared.core.errors import BadInput
from rayonnage_shared.pipelines.run_context import RunContext
from rayonnage_train.job_types import JobType
from rayonnage_train.settings import TrainSettings

STAGES = ("first", "second", "third")

Run = RunContext[TrainSettings]


class Request(BaseModel):
    hold: str | None = None
    word: str | None = None


def in_stages(request: Request, run: Run) -> dict[str, Any]:
    """Do three resumable stages; `diary` names each stage that began, and its process.

    A request with `hold` stays in the stage of that name until the file `go` is there.
    """
    run.work.mkdir(parents=True, exist_ok=True)
    diary = run.settings.models_path / f"{run.job_id}.diary"
    for stage in STAGES:
        marker = run.work / f"{stage}.done"
        if marker.exists():
            continue
        run.stage(stage)
        with diary.open("a") as file:
            file.write(f"{stage} {os.getpid()}\n")
        run.progress(0.0, f"{stage}, begun")
        while request.hold == stage and not (run.settings.models_path / "go").exists():
            time.sleep(0.02)
            run.progress(0.5, f"{stage}, held")
        marker.touch()
    return {"pid": os.getpid(), "echo": request.model_dump(exclude_unset=True)}


def deaf(_request: Request, run: Run) -> dict[str, Any]:
    """Ignore SIGTERM, like C code that does not return to the interpreter."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    run.stage("deaf")
    time.sleep(600)
    return {}


def lost(_request: Request, _run: Run) -> dict[str, Any]:
    """Die every time, as when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def refused(_request: Request, _run: Run) -> dict[str, Any]:
    raise BadInput("There are 3 products; ingest at least 20.")


def broken(_request: Request, run: Run) -> dict[str, Any]:
    run.stage("division")
    return {"quotient": 1 / (len(STAGES) - len(STAGES))}


JOB_TYPES = {
    handler.__name__: JobType(handler.__name__, "models", Request, f"{__name__}:{handler.__name__}")
    for handler in (in_stages, deaf, lost, refused, broken)
}
