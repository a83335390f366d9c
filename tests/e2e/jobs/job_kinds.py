"""Kinds of jobs for tests: `--kinds tests.e2e.jobs.job_kinds:KINDS`."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from rayonnage_shared.core.errors import BadInput
from rayonnage_train.job_context import JobContext

STAGES = ("first", "second", "third")


def in_stages(context: JobContext) -> dict[str, Any]:
    """Do three resumable stages; `diary` names each stage begun, and the process that did.

    A request with `hold` stays in the stage of that name until the file `go` is there.
    """
    context.work.mkdir(parents=True, exist_ok=True)
    diary = context.settings.models_path / f"{context.job_id}.diary"
    for stage in STAGES:
        marker = context.work / f"{stage}.done"
        if marker.exists():
            continue
        context.stage(stage)
        with diary.open("a") as file:
            file.write(f"{stage} {os.getpid()}\n")
        context.progress(0.0, f"{stage}, begun")
        while context.request.get("hold") == stage and not (context.settings.models_path / "go").exists():
            time.sleep(0.02)
            context.progress(0.5, f"{stage}, held")
        marker.touch()
    return {"pid": os.getpid(), "echo": context.request}


def deaf(context: JobContext) -> dict[str, Any]:
    """Ignore SIGTERM, as C code does that never comes back to the interpreter."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    context.stage("deaf")
    time.sleep(600)
    return {}


def lost(context: JobContext) -> dict[str, Any]:
    """Die every time, as when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def refused(context: JobContext) -> dict[str, Any]:
    raise BadInput("There are 3 products; ingest at least 20.")


def broken(context: JobContext) -> dict[str, Any]:
    context.stage("division")
    return {"quotient": 1 / (len(context.request) - len(context.request))}


KINDS = {"in_stages": in_stages, "deaf": deaf, "lost": lost, "refused": refused, "broken": broken}
