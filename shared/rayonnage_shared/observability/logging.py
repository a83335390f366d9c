"""Structured logging, set up the same way in every process."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import pydantic_core
import structlog

from rayonnage_shared.core.settings import ServiceSettings

SECRET_FIELDS = frozenset({"password", "token", "access_token", "refresh_token", "authorization", "secret", "image"})


def set_up_logging(service: str, settings: ServiceSettings, *, replica: int = 1) -> None:
    """Send structlog and standard logging to stdout and to `<logs_path>/<service>.log`, rotated by size.

    Replica 2 writes to `<service>-2.log`, since two processes would rotate one file under each other.
    Both get JSON lines; stdout can use a console format in development. Secrets are masked by field name. structlog's
    events are rendered and written directly: the standard library's records and formatters cost five times as much.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_service(service, replica),
        _mask_secrets,
        structlog.processors.format_exc_info,
    ]
    sinks = _sinks(service if replica == 1 else f"{service}-{replica}", settings)
    structlog.configure(
        processors=[*shared, _Lines(sinks)],
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
    """Writes lines to standard output."""

    def emit(self, record: logging.LogRecord) -> None:
        self.write_line(self.format(record).encode())

    def write_line(self, line: bytes) -> None:
        with self.lock or contextlib.nullcontext(), contextlib.suppress(OSError, ValueError):
            self.stream.write(line.decode() + "\n")
            self.stream.flush()


class _RotatingFile(logging.Handler):
    """A log file that rotates to `.1`, `.2`, … by size.

    The standard library's handler calls stat before each line and writes through two buffers.
    """

    def __init__(self, path: Path, settings: ServiceSettings) -> None:
        super().__init__()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._max_bytes = settings.log_file_max_bytes
        self._count = settings.log_file_count
        self._file = path.open("ab", buffering=0)
        self._bytes = path.stat().st_size

    def emit(self, record: logging.LogRecord) -> None:
        self.write_line(self.format(record).encode())

    def write_line(self, line: bytes) -> None:
        """Write a line, rotating first if it would not fit. A full disk loses lines, never a request."""
        with self.lock or contextlib.nullcontext(), contextlib.suppress(OSError, ValueError):
            size = len(line) + 1
            if self._bytes and self._bytes + size > self._max_bytes:
                self._rotate()
            self._file.write(line + b"\n")
            self._bytes += size

    def close(self) -> None:
        self._file.close()
        super().close()

    def _rotate(self) -> None:
        self._file.close()
        for number in range(self._count - 1, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            if older.exists():
                older.replace(self._path.with_name(f"{self._path.name}.{number + 1}"))
        self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        self._file = self._path.open("ab", buffering=0)
        self._bytes = 0


@dataclass(frozen=True)
class _Sink:
    handler: _StandardOutput | _RotatingFile
    renderer: Callable[[Any, str, Any], str]


def _sinks(file_name: str, settings: ServiceSettings) -> list[_Sink]:
    sinks = []
    if settings.log_to_stdout:
        is_console = settings.log_format == "console"
        sinks.append(_Sink(_StandardOutput(sys.stdout), structlog.dev.ConsoleRenderer() if is_console else _as_json))
    if settings.logs_path is not None:
        sinks.append(_Sink(_RotatingFile(settings.logs_path / f"{file_name}.log", settings), _as_json))
    return sinks


def _as_json(_logger: Any, _method: str, event: Any) -> str:
    return _json(event).decode()


def _json(event: Any) -> bytes:
    try:
        return pydantic_core.to_json(event, fallback=repr)  # a quarter of what the json module costs
    except ValueError:  # a lone surrogate, as in an undecodable file name
        return json.dumps(event, default=repr).encode()


class _Lines:
    """The last processor: renders an event for each sink, and JSON only once."""

    def __init__(self, sinks: list[_Sink]) -> None:
        self._renderers = [None if sink.renderer is _as_json else sink.renderer for sink in sinks]

    def __call__(self, logger: Any, method: str, event: Any) -> tuple[tuple[bytes, ...], dict[str, Any]]:
        line = _json(event)
        return tuple(
            # The console renderer removes fields from its argument.
            line if renderer is None else renderer(logger, method, dict(event)).encode("utf-8", "replace")
            for renderer in self._renderers
        ), {}


class _LineLogger:
    """The logger that structlog calls with one rendered line per sink; levels were filtered before."""

    def __init__(self, sinks: list[_Sink]) -> None:
        self._handlers = [sink.handler for sink in sinks]

    def msg(self, *lines: bytes) -> None:
        for handler, line in zip(self._handlers, lines, strict=True):
            handler.write_line(line)

    debug = info = warning = error = critical = exception = log = msg


def _level(name: str) -> int:
    return logging.getLevelNamesMapping()[name.upper()]


def _add_service(service: str, replica: int) -> Any:
    def add(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
        event["service"] = service
        if replica > 1:
            event["replica"] = replica
        return event

    return add


def _mask_secrets(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    for field in SECRET_FIELDS & event.keys():
        event[field] = "***"
    return event
