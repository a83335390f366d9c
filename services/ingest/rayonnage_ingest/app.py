"""Build the ingest service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio import to_thread
from fastapi import FastAPI

from rayonnage_ingest.feedback_schedule import taking_feedback
from rayonnage_ingest.ingestions import Ingestions
from rayonnage_ingest.metrics import show_dataset
from rayonnage_ingest.routes import Ingest, router
from rayonnage_ingest.settings import IngestSettings
from rayonnage_shared.auth.dependencies import refreshing_keys
from rayonnage_shared.auth.tokens import TokenVerifier
from rayonnage_shared.core.disk import disk_trouble
from rayonnage_shared.http.app import create_service
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.catalogue.ingestion.reports import IngestReports


def create_app(settings: IngestSettings) -> FastAPI:
    """Return the ingest service. Its lifespan deletes stale uploads at start and stops a running ingest at the end."""
    verifier = TokenVerifier(settings)
    store = DatasetStore(settings.data_path)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        ingestions = Ingestions(settings)
        await to_thread.run_sync(ingestions.clear_leftovers)
        show_dataset(store)
        app.state.ingest = Ingest(settings, ingestions, store, IngestReports(settings.data_path))
        async with refreshing_keys(verifier, settings):
            try:
                async with taking_feedback(ingestions, settings.feedback_ingest_every_h):
                    yield
            finally:
                await ingestions.close()

    async def disk() -> str | None:
        try:
            await to_thread.run_sync(lambda: store.folder.mkdir(parents=True, exist_ok=True))
        except OSError as error:
            return f"the data folder is not writable: {error}"
        return await to_thread.run_sync(disk_trouble, store.folder)

    app = create_service(
        title="Rayonnage ingest",
        description="Labelled products in, dataset versions out.",
        lifespan=lifespan,
        routers=[router],
        readiness={"data": disk, "auth": verifier.why_not_ready},
        max_body_bytes=None,  # uploads have their own limit; no other route reads a body
    )
    app.state.verifier = verifier
    return app
