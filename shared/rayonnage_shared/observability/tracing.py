"""Traces for a collector of OpenTelemetry's (Jaeger, Tempo, …), where OTEL_EXPORTER_OTLP_ENDPOINT names one.

Without it nothing of OpenTelemetry is imported and a request pays for one comparison. Spans are made by hand in the few
places that have something to tell: what instruments frameworks by itself costs more than the request.

A span is sent by a thread, in batches, from a bounded queue: a collector that is away costs spans and nothing else.
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
    """Begin to trace if the settings name a collector.

    A caller's trace is continued. Whether it is recorded the caller's side decides, except for a `public` service,
    where every caller could otherwise have everything recorded.
    """
    global _tracing  # noqa: PLW0603 - one for the process, as the logs
    if settings.otel_exporter_otlp_endpoint:
        _tracing = Tracing(service, settings, public=public)


def tracing() -> Tracing | None:
    """Return what makes spans, or None where nobody wants them."""
    return _tracing


def stop_tracing() -> None:
    """Send what waits, for a second at most; spans that the collector does not take by then are lost."""
    global _tracing  # noqa: PLW0603
    if _tracing is not None:
        _tracing.stop(STOP_WITHIN_S)
        _tracing = None


class Tracing:
    """Makes spans and has them sent."""

    def __init__(self, service: str, settings: ServiceSettings, *, public: bool) -> None:
        from opentelemetry import trace
        from opentelemetry.context import Context
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import SpanLimits, TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, Sampler, TraceIdRatioBased

        # It speaks of each batch that was not taken; the exporter below does so once.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        ratio = TraceIdRatioBased(settings.otel_traces_sampler_arg)
        sampler: Sampler = ratio if public else ParentBased(ratio)
        self._provider: TracerProvider = TracerProvider(
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
        """Begin the span of a request that has come; `end_server_span` ends it."""
        attributes = {"http.request.method": method, "rayonnage.request_id": request_id}
        context = self._context_of(traceparent)
        return self._tracer.start_span(method, context, self._trace.SpanKind.SERVER, attributes)

    def client_span(self, parent: Span, method: str, service: str) -> Span:
        """Begin the span of a request to another service, a child of `parent`; `end` ends it."""
        attributes = {"http.request.method": method, "server.address": service}
        context = self._trace.set_span_in_context(parent, self._nothing)
        return self._tracer.start_span(f"{method} {service}", context, self._trace.SpanKind.CLIENT, attributes)

    def end_server_span(self, span: Span, method: str, route: str | None, status: int) -> None:
        """End a request's span, named after its route's template; unknown paths share the method's name."""
        if route is not None:
            span.update_name(f"{method} {route}")
            span.set_attribute("http.route", route)
        self.end(span, status)

    def end(self, span: Span, status: int) -> None:
        """End a request's span; a `status` of 0 says that no answer came."""
        if status:
            span.set_attribute("http.response.status_code", status)
        if status >= _SERVER_ERROR or not status:
            span.set_status(self._trace.StatusCode.ERROR)
        span.end()

    def stages(self, parent: Span, times: Mapping[str, tuple[float, float]]) -> None:
        """Make a span for each stage that has been gone through: its begin and end by `time.perf_counter`."""
        if not parent.is_recording():
            return
        context = self._trace.set_span_in_context(parent, self._nothing)
        offset_s = time.time() - time.perf_counter()
        for name, (begin, end) in times.items():
            span = self._tracer.start_span(name, context, start_time=int((begin + offset_s) * 1e9))
            span.end(end_time=int((end + offset_s) * 1e9))

    @contextlib.contextmanager
    def work(self, name: str, **attributes: str | int) -> Iterator[None]:
        """Make a span without a parent: of a piece of work that no request waits for."""
        span = self._tracer.start_span(name, self._nothing, attributes=dict(attributes))
        try:
            yield
        except BaseException as error:
            span.set_status(self._trace.StatusCode.ERROR, type(error).__name__)
            raise
        finally:
            span.end()

    def stop(self, within_s: float) -> None:
        """Send what waits; the thread that does so is left alone when it takes longer."""
        sending = threading.Thread(target=self._provider.shutdown, name="traces-stop", daemon=True)
        sending.start()
        sending.join(within_s)

    def _context_of(self, traceparent: bytes | None) -> Context:
        """Return the caller's trace as a context, or an empty one where the header is missing or not sound."""
        found = _TRACEPARENT.fullmatch(traceparent) if traceparent is not None else None
        if found is None:
            return self._nothing
        trace = self._trace
        flags = trace.TraceFlags(int(found[3], 16) & trace.TraceFlags.SAMPLED)
        caller = trace.SpanContext(int(found[1], 16), int(found[2], 16), is_remote=True, trace_flags=flags)
        context: Context = trace.set_span_in_context(trace.NonRecordingSpan(caller), self._nothing)
        return context


def trace_id_of(span: Span) -> str | None:
    """Return the id under which a recorded span's trace is found, or None for one that is not recorded."""
    return f"{span.get_span_context().trace_id:032x}" if span.is_recording() else None


def traceparent_of(span: Span) -> bytes:
    """Return the header by which a service continues the trace of `span`."""
    context = span.get_span_context()
    return b"00-%032x-%016x-%02x" % (context.trace_id, context.span_id, context.trace_flags)


def _exporter(settings: ServiceSettings) -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import export

    class Told(export.SpanExporter):
        """Sends to the collector, and says once when that stops working and once when it works again."""

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
