"""OpenTelemetry traces for an OTLP collector (Jaeger, Tempo, …), if OTEL_EXPORTER_OTLP_ENDPOINT is set.

Without it OpenTelemetry is not imported, and a request costs one comparison. Spans are created by hand in a few places,
since automatic instrumentation costs more than the request. A thread exports spans in batches from a bounded queue; a
collector that is down loses spans and nothing else.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import structlog

from rayonnage_shared.core.settings import ServiceSettings

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
    from opentelemetry.trace import Span

log = structlog.get_logger()

TRACEPARENT = b"traceparent"
STOP_WITHIN_S = 1.0
MAX_QUEUED_SPANS = 2048
MAX_BATCH = 512
SEND_EVERY_MS = 1000
SEND_TIMEOUT_S = 5.0
_SERVER_ERROR = 500
_TRACEPARENT = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")  # W3C Trace Context, version 00

_tracing: Tracing | None = None


def set_up_tracing(service: str, settings: ServiceSettings, *, public: bool = False) -> None:
    """Start tracing if the settings name a collector.

    The caller's trace is continued with its sampling decision, except in a `public` service, where any client could
    otherwise force sampling.
    """
    global _tracing  # noqa: PLW0603 - one for the process, as the logs
    if settings.otel_exporter_otlp_endpoint:
        _tracing = Tracing(service, settings, public=public)


def tracing() -> Tracing | None:
    """Return the tracer, or None if tracing is off."""
    return _tracing


def stop_tracing() -> None:
    """Export pending spans for at most a second; the rest are lost."""
    global _tracing  # noqa: PLW0603
    if _tracing is not None:
        _tracing.stop(STOP_WITHIN_S)
        _tracing = None


class Tracing:
    """Creates and exports spans."""

    def __init__(self, service: str, settings: ServiceSettings, *, public: bool) -> None:
        from opentelemetry import trace
        from opentelemetry.context import Context
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import SpanLimits, TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, Sampler, TraceIdRatioBased

        # It logs every failed batch; the exporter below logs once.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        ratio = TraceIdRatioBased(settings.otel_traces_sampler_arg)
        sampler: Sampler = ratio if public else ParentBased(ratio)

        class Provider(TracerProvider):
            def _handle_fork(self) -> None:
                """Do nothing: the SDK's handler starts threads, and hangs children that uvloop forks."""

        self._provider: TracerProvider = Provider(
            sampler=sampler,
            resource=Resource({"service.name": service, "service.namespace": "rayonnage"}),
            span_limits=SpanLimits(max_span_attributes=32, max_attribute_length=256),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                _exporter(settings),
                max_queue_size=MAX_QUEUED_SPANS,
                max_export_batch_size=MAX_BATCH,
                schedule_delay_millis=SEND_EVERY_MS,
            )
        )
        self._tracer = self._provider.get_tracer("rayonnage")
        self._trace = trace
        self._nothing = Context()

    def server_span(self, method: str, traceparent: bytes | None, request_id: str) -> Span:
        """Start the span of an incoming request; `end_server_span` ends it."""
        attributes = {"http.request.method": method, "rayonnage.request_id": request_id}
        context = self._context_of(traceparent)
        return self._tracer.start_span(method, context, self._trace.SpanKind.SERVER, attributes)

    def client_span(self, parent: Span, method: str, service: str) -> Span:
        """Start the span of a request to another service, a child of `parent`; `end` ends it."""
        attributes = {"http.request.method": method, "server.address": service}
        context = self._trace.set_span_in_context(parent, self._nothing)
        return self._tracer.start_span(f"{method} {service}", context, self._trace.SpanKind.CLIENT, attributes)

    def end_server_span(self, span: Span, method: str, route: str | None, status: int) -> None:
        """End a request's span, named after its route template; for unknown paths, after the method alone."""
        if route is not None:
            span.update_name(f"{method} {route}")
            span.set_attribute("http.route", route)
        self.end(span, status)

    def end(self, span: Span, status: int) -> None:
        """End a request's span; `status` 0 means that there was no response."""
        if status:
            span.set_attribute("http.response.status_code", status)
        if status >= _SERVER_ERROR or not status:
            span.set_status(self._trace.StatusCode.ERROR)
        span.end()

    def stages(self, parent: Span, times: Mapping[str, tuple[float, float]]) -> None:
        """Create a span for each finished stage, from its start and end by `time.perf_counter`."""
        if not parent.is_recording():
            return
        context = self._trace.set_span_in_context(parent, self._nothing)
        offset_s = time.time() - time.perf_counter()
        for name, (begin, end) in times.items():
            span = self._tracer.start_span(name, context, start_time=int((begin + offset_s) * 1e9))
            span.end(end_time=int((end + offset_s) * 1e9))

    @contextlib.contextmanager
    def work(self, name: str, **attributes: str | int) -> Iterator[None]:
        """Create a root span for work that belongs to no request."""
        span = self._tracer.start_span(name, self._nothing, attributes=dict(attributes))
        try:
            yield
        except BaseException as error:
            span.set_status(self._trace.StatusCode.ERROR, type(error).__name__)
            raise
        finally:
            span.end()

    def stop(self, within_s: float) -> None:
        """Export pending spans; do not wait for the export thread beyond the limit."""
        sending = threading.Thread(target=self._provider.shutdown, name="traces-stop", daemon=True)
        sending.start()
        sending.join(within_s)

    def _context_of(self, traceparent: bytes | None) -> Context:
        """Return the caller's trace context, or an empty one if the header is missing or invalid."""
        found = _TRACEPARENT.fullmatch(traceparent) if traceparent is not None else None
        if found is None:
            return self._nothing
        trace = self._trace
        flags = trace.TraceFlags(int(found[3], 16) & trace.TraceFlags.SAMPLED)
        caller = trace.SpanContext(int(found[1], 16), int(found[2], 16), is_remote=True, trace_flags=flags)
        context: Context = trace.set_span_in_context(trace.NonRecordingSpan(caller), self._nothing)
        return context


def trace_id_of(span: Span) -> str | None:
    """Return the trace id of a sampled span, or None."""
    return f"{span.get_span_context().trace_id:032x}" if span.is_recording() else None


def traceparent_of(span: Span) -> bytes:
    """Return the `traceparent` header that continues the trace of `span`."""
    context = span.get_span_context()
    return b"00-%032x-%016x-%02x" % (context.trace_id, context.span_id, context.trace_flags)


def _exporter(settings: ServiceSettings) -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import export

    class Told(export.SpanExporter):
        """Exports to the collector, and logs once when that starts to fail and once when it works again."""

        def __init__(self, inner: SpanExporter, endpoint: str) -> None:
            self._inner = inner
            self._endpoint = endpoint
            self._works = True

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            result = self._inner.export(spans)
            works = result is export.SpanExportResult.SUCCESS
            if works != self._works:
                level = "info" if works else "warning"
                getattr(log, level)("traces.sent" if works else "traces.not_taken", collector=self._endpoint)
            self._works = works
            return result

        def shutdown(self) -> None:
            self._inner.shutdown()

    endpoint = str(settings.otel_exporter_otlp_endpoint).rstrip("/")
    secret = settings.otel_exporter_otlp_headers
    pairs = (pair.partition("=") for pair in secret.get_secret_value().split(",")) if secret else ()
    headers = {name.strip(): value.strip() for name, _equals, value in pairs}
    return Told(OTLPSpanExporter(f"{endpoint}/v1/traces", headers=headers, timeout=SEND_TIMEOUT_S), endpoint)
