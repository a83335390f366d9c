"""Structured logs and HTTP metrics, set up the same way in every process."""

from __future__ import annotations

import logging
import logging.handlers
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from rayonnage_shared.settings import ServiceSettings

if TYPE_CHECKING:
    from fastapi import FastAPI

SECRET_FIELDS = frozenset({"password", "token", "access_token", "refresh_token", "authorization", "secret", "image"})


def set_up_logging(service: str, settings: ServiceSettings) -> None:
    """Send structlog and standard logging to stdout and to `<logs_path>/<service>.log`, rotated by size.

    Both carry JSON lines, or stdout a console form in development; secrets are masked by field name.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _mask_secrets,
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(_level(settings.log_level)),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )

    def formatter(renderer: Any) -> logging.Formatter:
        return structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _add_service(service)],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _add_service(service),
                renderer,
            ],
        )

    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    root.setLevel(_level(settings.log_level))
    if settings.log_to_stdout:
        console = logging.StreamHandler(sys.stdout)
        is_console = settings.log_format == "console"
        console.setFormatter(
            formatter(structlog.dev.ConsoleRenderer() if is_console else structlog.processors.JSONRenderer())
        )
        root.addHandler(console)
    if settings.logs_path is not None:
        root.addHandler(_rotating_file(settings.logs_path / f"{service}.log", settings, formatter))
    for noisy in ("uvicorn.access", "httpx2", "httpcore2"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _rotating_file(path: Path, settings: ServiceSettings, formatter: Any) -> logging.Handler:
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.handlers.RotatingFileHandler(
        path, maxBytes=settings.log_file_max_bytes, backupCount=settings.log_file_count, encoding="utf-8"
    )
    handler.setFormatter(formatter(structlog.processors.JSONRenderer()))
    return handler


def _level(name: str) -> int:
    return logging.getLevelNamesMapping()[name.upper()]


def _add_service(service: str) -> Any:
    def add(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
        event["service"] = service
        return event

    return add


def _mask_secrets(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    for field in SECRET_FIELDS & event.keys():
        event[field] = "***"
    return event


def add_http_metrics(app: FastAPI) -> None:
    """Measure every request of `app` with its route template as label; unknown paths share one label."""
    from prometheus_fastapi_instrumentator import Instrumentator

    Instrumentator(
        should_group_status_codes=False,
        should_group_untemplated=True,
        excluded_handlers=["/metrics", "/health/live", "/health/ready"],
    ).instrument(
        app,
        latency_lowr_buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    )
