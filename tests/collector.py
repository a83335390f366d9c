"""A collector of traces for tests: takes OTLP over HTTP on a free port and keeps what was sent."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.http_server import serving


@dataclass(frozen=True)
class SentSpan:
    """A span as it came over the wire; `parent` is empty for the first of a trace."""

    service: str
    name: str
    kind: int
    trace_id: str
    span_id: str
    parent: str
    begin_ns: int
    end_ns: int
    attributes: dict[str, Any]
    is_error: bool

    @property
    def seconds(self) -> float:
        """How long the work took."""
        return (self.end_ns - self.begin_ns) / 1e9


@dataclass
class Collector:
    """Where to send spans, and those that were."""

    endpoint: str
    spans: list[SentSpan] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def of(self, service: str) -> list[SentSpan]:
        """Return what one service has sent."""
        return [span for span in list(self.spans) if span.service == service]

    def take(self, body: bytes) -> None:
        sent = ExportTraceServiceRequest.FromString(body)
        for of_resource in sent.resource_spans:
            service = {one.key: one.value.string_value for one in of_resource.resource.attributes}["service.name"]
            for scope in of_resource.scope_spans:
                self.spans += [_span(service, span) for span in scope.spans]


@contextlib.contextmanager
def running_collector() -> Iterator[Collector]:
    """Run a collector until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert self.path == "/v1/traces"
            collector.headers.append({name.lower(): value for name, value in self.headers.items()})
            collector.take(body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

    with serving(Handler) as url:
        collector = Collector(url)
        yield collector


def _span(service: str, span: Any) -> SentSpan:
    values = {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}
    return SentSpan(
        service,
        span.name,
        span.kind,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        values,
        span.status.code == 2,  # STATUS_CODE_ERROR
    )
