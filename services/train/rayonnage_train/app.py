"""Build the train service."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from anyio import to_thread
from fastapi import FastAPI, Request, Response

from rayonnage_shared.auth.dependencies import refreshing_keys
from rayonnage_shared.auth.tokens import TokenVerifier
from rayonnage_shared.core.disk import disk_trouble
from rayonnage_shared.database.engine import DATABASE_AWAY, migrate, open_database
from rayonnage_shared.http.app import create_service, metrics
from rayonnage_shared.http.outage import answer_outages
from rayonnage_shared.jobs.queue import JobQueue
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.registry.promotion import record_champion
from rayonnage_train.drift_routes import drift_routes
from rayonnage_train.events import EventStreams
from rayonnage_train.family_installs import may_install
from rayonnage_train.metrics import TrainMetrics
from rayonnage_train.report_links import ReportLinks
from rayonnage_train.routes import Train, job_routes, model_routes, self_check_routes, train_routes
from rayonnage_train.self_check import SelfCheck
from rayonnage_train.settings import TrainSettings

MAX_BODY_BYTES = 64 * 1024


def create_app(settings: TrainSettings) -> FastAPI:
    """Return the train service; its lifespan migrates the database and completes the audit table of promotions."""
    verifier = TokenVerifier(settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine = open_database(settings.database_url)
        try:
            await to_thread.run_sync(migrate, engine)
            await to_thread.run_sync(record_champion, settings.models_path, engine)
            queue = JobQueue(engine)
            app.state.train = Train(
                queue=queue,
                engine=engine,
                datasets=DatasetStore(settings.data_path),
                models_path=settings.models_path,
                max_queued=settings.train_max_queued,
                may_install=may_install(settings),
                streams=EventStreams(settings.train_max_event_streams),
                self_check=SelfCheck(settings.train_self_check_timeout_s),
                report_links=ReportLinks(settings.data_path),
                metrics=TrainMetrics(queue, engine, settings.data_path),
            )
            with opened().metrics.registered():
                async with refreshing_keys(verifier, settings):
                    yield
        finally:
            engine.dispose()

    def opened() -> Train:
        train: Train = app.state.train
        return train

    async def database() -> str | None:
        try:
            await to_thread.run_sync(opened().queue.counts)
        except DATABASE_AWAY as error:
            return f"the database cannot be reached ({type(error.orig).__name__})"
        return None

    async def disk() -> str | None:
        return await to_thread.run_sync(disk_trouble, settings.data_path, settings.models_path)

    async def shown(request: Request) -> Response:
        await opened().metrics.refresh()
        return await metrics(request)

    app = create_service(
        title="Rayonnage train",
        description="Training jobs, promotion and rollback, drift reports.",
        lifespan=lifespan,
        routers=[train_routes, job_routes, model_routes, drift_routes, self_check_routes],
        readiness={"database": database, "data": disk, "auth": verifier.why_not_ready},
        max_body_bytes=MAX_BODY_BYTES,
        metrics_route=False,
    )
    app.add_route("/metrics", shown, include_in_schema=False)
    answer_outages(app)
    app.state.verifier = verifier
    return app
