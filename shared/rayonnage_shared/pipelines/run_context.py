"""The circumstances of a pipeline run: the same for a job, a command and `make run`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, Self, TypeVar

from sqlalchemy import Engine

from rayonnage_shared.ml.base.progress import Progress, part
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.pipelines.settings import PipelineSettings

S_co = TypeVar("S_co", bound=PipelineSettings, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext(Generic[S_co]):
    """Where a run reads and writes, who submitted it, and how it reports what it is doing.

    `stage` is called when a stage begins; `progress` counts the whole run from 0 to 1. Both may raise to stop the run.
    """

    settings: S_co
    engine: Engine
    job_id: str
    submitted_by: str
    stage: Callable[[str], None]
    progress: Progress
    folder: str = ""
    """Subfolder of the job's work folder, for a run within a run."""

    @property
    def work(self) -> Path:
        """The folder in which finished stages leave their results, so that a later attempt can resume."""
        return work_folder(self.settings.models_path, self.job_id) / self.folder

    @property
    def datasets(self) -> DatasetStore:
        """The datasets below the data folder."""
        return DatasetStore(self.settings.data_path)

    def enter(self, stage: str, message: str, progress: float = 0.0) -> None:
        """Report that a stage begins when `progress` of the run is done."""
        self.stage(stage)
        self.progress(progress, message)

    def child(self, folder: str = "", *, start: float = 0.0, end: float = 1.0) -> Self:
        """Return the context of a part of this run: its subfolder, and how much of the run is done before and after."""
        return replace(self, folder=folder, progress=part(self.progress, start, end))

    def remove_work(self) -> None:
        """Remove the work folder, once the result is recorded or nobody will resume the run."""
        shutil.rmtree(self.work, ignore_errors=True)


def work_folder(models_path: Path, job_id: str) -> Path:
    """Return the work folder of a job."""
    return models_path / ".work" / job_id
