"""Structured logs and HTTP metrics, set up the same way in every process."""

from __future__ import annotations

import contextlib
import json
import logging
import logging.handlers
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import structlog

from rayonnage_shared.settings import ServiceSettings

if TYPE_CHECKING:
    from fastapi import FastAPI

SECRET_FIELDS = frozenset({"password", "token", "access_token", "refresh_token", "authorization", "secret", "image"})


def set_up_logging(service: str, settings: ServiceSettings) -> None:
    """Send structlog and standard logging to stdout and to `<logs_path>/<service>.log`, rotated by size.

    Both carry JSON lines, or stdout a console form in development; secrets are masked by field name.
    structlog's events are rendered once and written at once: through the standard library's records and
    formatters one line costs five times as much.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_service(service),
        _mask_secrets,
        structlog.processors.format_exc_info,
    ]
    sinks = _sinks(service, settings)
    structlog.configure(
        processors=[*shared, _Lines([sink.renderer for sink in sinks])],
        wrapper_class=structlog.make_filtering_bound_logger(_level(settings.log_level)),
        logger_factory=lambda *_names: _LineLogger(sinks),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    root.setLevel(_level(settings.log_level))
    for sink in sinks:
        sink.handler.setFormatter(
            structlog.stdlib.ProcessorFormatter(
                foreign_pre_chain=shared,
                processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, sink.renderer],
            )
        )
        root.addHandler(sink.handler)
    for noisy in ("uvicorn.access", "httpx2", "httpcore2"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


class _StandardOutput(logging.StreamHandler[TextIO]):
    """Standard output, a line at a time."""

    def emit(self, record: logging.LogRecord) -> None:
        self.write_line(self.format(record))

    def write_line(self, line: str) -> None:
        with self.lock or contextlib.nullcontext(), contextlib.suppress(OSError, ValueError):
            self.stream.write(line + "\n")
            self.stream.flush()


class _RotatingFile(logging.handlers.RotatingFileHandler):
    """A rotated file that counts its bytes; the library's own asks the file system before each line."""

    def __init__(self, path: Path, settings: ServiceSettings) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        super().__init__(
            path, maxBytes=settings.log_file_max_bytes, backupCount=settings.log_file_count, encoding="utf-8"
        )
        self._bytes = path.stat().st_size

    def emit(self, record: logging.LogRecord) -> None:
        self.write_line(self.format(record))

    def write_line(self, line: str) -> None:
        """Write a line and rotate first where it would not fit; a full disk loses lines, never a request."""
        with self.lock or contextlib.nullcontext(), contextlib.suppress(OSError, ValueError):
            size = len(line) + 1  # JSON escapes all that is not ASCII
            if self._bytes and self._bytes + size > self.maxBytes:
                self.doRollover()
                self._bytes = 0
            stream = self.stream or self._open()
            stream.write(line + "\n")
            stream.flush()
            self._bytes += size


@dataclass(frozen=True)
class _Sink:
    handler: _StandardOutput | _RotatingFile
    renderer: Any


def _sinks(service: str, settings: ServiceSettings) -> list[_Sink]:
    encoder = json.JSONEncoder(default=repr)
    as_json = structlog.processors.JSONRenderer(serializer=lambda event, **_options: encoder.encode(event))
    sinks = []
    if settings.log_to_stdout:
        is_console = settings.log_format == "console"
        sinks.append(_Sink(_StandardOutput(sys.stdout), structlog.dev.ConsoleRenderer() if is_console else as_json))
    if settings.logs_path is not None:
        sinks.append(_Sink(_RotatingFile(settings.logs_path / f"{service}.log", settings), as_json))
    return sinks


class _Lines:
    """The last processor: renders an event for each sink, once where sinks want the same form."""

    def __init__(self, renderers: list[Any]) -> None:
        self._renderers = renderers

    def __call__(self, logger: Any, method: str, event: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
        rendered: dict[int, str] = {}
        for renderer in self._renderers:
            if id(renderer) not in rendered:
                # The console form takes fields out of what it is given.
                rendered[id(renderer)] = renderer(logger, method, dict(event))
        return tuple(rendered[id(renderer)] for renderer in self._renderers), {}


class _LineLogger:
    """What structlog writes to: one rendered line for each sink; the level was looked at before."""

    def __init__(self, sinks: list[_Sink]) -> None:
        self._handlers = [sink.handler for sink in sinks]

    def msg(self, *lines: str) -> None:
        for handler, line in zip(self._handlers, lines, strict=True):
            handler.write_line(line)

    debug = info = warning = error = critical = exception = log = msg


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
        should_exclude_streaming_duration=True,  # an events stream that lasts an hour was not slow
        excluded_handlers=["/metrics", "/health/live", "/health/ready"],
    ).instrument(
        app,
        latency_lowr_buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    )
