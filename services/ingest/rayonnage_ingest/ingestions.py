"""Run ingests one at a time, each in its own process, whether or not the client is still connected.

The separate process keeps pyarrow and the catalogue's memory out of the service, and the event loop free.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import structlog
from ulid import ULID

from rayonnage_ingest.settings import IngestSettings
from rayonnage_ingest.uploads import Upload
from rayonnage_shared.core.errors import Overloaded, RayonnageError
from rayonnage_shared.ml.catalogue.schemas import IngestReport

log = structlog.get_logger()

_RETRY_AFTER_S = "30"
_LOGGED_ERROR_CHARACTERS = 4_000


class IngestFailed(RayonnageError):
    status: ClassVar[int] = 500
    code: ClassVar[str] = "ingest_failed"
    title: ClassVar[str] = "The ingest process failed"


class IngestTookTooLong(RayonnageError):
    status: ClassVar[int] = 503
    code: ClassVar[str] = "ingest_took_too_long"
    title: ClassVar[str] = "The ingest timed out"


class Ingestion:
    """An admitted ingest: its id and its upload folder."""

    def __init__(self, folder: Path) -> None:
        self.ingest_id = folder.name
        self.folder = folder


class Ingestions:
    """The ingests of this service. The dataset's own lock excludes other writers, such as the command line."""

    def __init__(self, settings: IngestSettings) -> None:
        self._settings = settings
        self._uploads = settings.data_path / "uploads"
        self._turn = asyncio.Lock()
        self._admitted = 0
        self.at_work: set[asyncio.Task[IngestReport]] = set()

    def clear_leftovers(self) -> None:
        """Delete uploads left by a process that crashed."""
        shutil.rmtree(self._uploads, ignore_errors=True)

    def admit(self) -> Ingestion:
        """Admit one ingest; pass the result to `run` or `give_up`. Raises Overloaded when too many are waiting."""
        if self._admitted > self._settings.ingest_max_waiting:
            raise Overloaded(
                "An ingest is running and others are waiting; try again later.", headers={"Retry-After": _RETRY_AFTER_S}
            )
        folder = self._uploads / str(ULID())
        folder.mkdir(parents=True)
        self._admitted += 1
        return Ingestion(folder)

    def give_up(self, ingestion: Ingestion) -> None:
        """Release an admission whose upload failed."""
        self._admitted -= 1
        shutil.rmtree(ingestion.folder, ignore_errors=True)

    async def run(self, ingestion: Ingestion, upload: Upload) -> IngestReport:
        """Return the report of the finished ingest, which continues if the caller is cancelled. Raises its errors."""
        task = asyncio.create_task(self._run(ingestion, upload))
        self.at_work.add(task)
        task.add_done_callback(self.at_work.discard)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Stop the running ingest. The dataset stays intact, and the same files can be sent again."""
        for task in self.at_work:
            task.cancel()
        await asyncio.gather(*self.at_work, return_exceptions=True)

    async def _run(self, ingestion: Ingestion, upload: Upload) -> IngestReport:
        try:
            async with self._turn:
                report = await self._work(ingestion.ingest_id, upload)
            log.info("ingest.finished", **report.model_dump(exclude={"rejects", "conflict_rows", "report_url"}))
            return report
        finally:
            self.give_up(ingestion)

    async def _work(self, ingest_id: str, upload: Upload) -> IngestReport:
        settings = self._settings
        request = {
            "ingest_id": ingest_id,
            "data_path": str(settings.data_path),
            "categories_path": str(settings.categories_path) if settings.categories_path else None,
            "database_url": settings.database_url,
            "features": str(upload.features) if upload.features else None,
            "target": str(upload.target) if upload.target else None,
            "images": str(upload.images) if upload.images else None,
            "allow_new_codes": upload.allow_new_codes,
            "max_rows": settings.ingest_max_rows,
            "max_image_bytes": settings.max_image_bytes,
            "max_image_pixels": settings.max_image_pixels,
        }
        async with _worker() as process:
            try:
                async with asyncio.timeout(settings.ingest_work_timeout_s):
                    answer, errors = await process.communicate(json.dumps(request).encode())
            except TimeoutError as error:
                raise IngestTookTooLong(
                    "Send the catalogue in smaller parts, or raise INGEST_WORK_TIMEOUT_S."
                ) from error
        if process.returncode != 0:
            tail = errors.decode(errors="replace")[-_LOGGED_ERROR_CHARACTERS:]
            log.error("ingest.worker.failed", ingest_id=ingest_id, exit_code=process.returncode, stderr=tail)
            raise IngestFailed("The dataset is unchanged; the log gives the reason. Sending the files again may help.")
        return _outcome(json.loads(answer))


@asynccontextmanager
async def _worker() -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "rayonnage_ingest.work",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _outcome(answer: dict[str, Any]) -> IngestReport:
    if "report" in answer:
        return IngestReport.model_validate(answer["report"])
    error = answer["error"]
    members = {name: error[name] for name in ("status", "code", "title")}
    refused: type[RayonnageError] = type("IngestRefused", (RayonnageError,), members)
    raise refused(error["detail"], headers=error["headers"], **error["extra"])
