"""HTTP metrics of every service: requests by status and duration by route template."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fastapi import FastAPI, Request
from prometheus_client import Counter, Histogram, disable_created_metrics
from prometheus_fastapi_instrumentator.metrics import Info
from prometheus_fastapi_instrumentator.middleware import PrometheusInstrumentatorMiddleware
from starlette.routing import BaseRoute

# `_created` series, which no rule or panel uses, would be a third of all series.
disable_created_metrics()  # type: ignore[no-untyped-call]

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
ROUTE = "route_template"  # key in a request's state, read by the traces
PROBES = ("/health/live", "/health/ready", "/metrics", "/status")
"""Routes that say whether something works. They are polled, so they count neither as requests nor as log lines."""
OTHER_METHOD = "other"  # the HTTP parser accepts forty methods, and any client may send them

REQUESTS = Counter("http_requests", "Requests by method, status and route template.", ["method", "status", "handler"])
DURATIONS = Histogram(
    "http_request_duration_seconds",
    "Time from the request head to the end of the response, by method and route template.",
    ["method", "handler"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)


def add_http_metrics(app: FastAPI) -> None:
    """Measure every request of `app` except probes, labelled with its route template; unknown paths share one label."""
    app.add_middleware(
        _HttpMetrics,
        should_group_status_codes=False,
        should_group_untemplated=True,
        excluded_handlers=[f"^{path}$" for path in PROBES],
        # The library's default set of five metrics costs 30 µs a request; these two cost 3 µs.
        instrumentations=[RequestMetrics()],
    )


class RequestMetrics:
    """Counts and times requests. Looks a labelled child up once for each route, method and status."""

    def __init__(self) -> None:
        self._children: dict[tuple[str, str, str], tuple[Counter, Histogram]] = {}

    def record(self, method: str, status: str, handler: str, seconds: float) -> None:
        """Count a request and its duration; `handler` is the route template."""
        key = (method, status, handler)
        found = self._children.get(key)
        if found is None:
            label = method if method in METHODS else OTHER_METHOD
            found = (REQUESTS.labels(label, status, handler), DURATIONS.labels(label, handler))
            if label != OTHER_METHOD:
                self._children[key] = found
        found[0].inc()
        found[1].observe(seconds)

    def __call__(self, info: Info) -> None:
        """Record what the middleware of prometheus-fastapi-instrumentator has measured."""
        self.record(info.method, info.modified_status, info.modified_handler, info.modified_duration)


class _HttpMetrics(PrometheusInstrumentatorMiddleware):
    """Recognises a path that equals its template without scanning all routes, which costs 1 µs per route."""

    _plain: frozenset[str] | None = None

    def _get_handler(self, request: Request) -> tuple[str, bool]:
        if self._plain is None:
            self._plain = frozenset(_plain_paths(request.app.routes))
        path = request.scope["path"]
        handler, templated = (path, True) if path in self._plain else super()._get_handler(request)
        if templated:
            request.scope["state"][ROUTE] = handler
        return handler, templated


def _plain_paths(routes: Iterable[BaseRoute]) -> Iterator[str]:
    """Return the paths without parameters among routes and included routers."""
    for route in routes:
        contexts = getattr(route, "effective_route_contexts", None)
        if callable(contexts):
            yield from _plain_paths(contexts())
        elif isinstance(path := getattr(route, "path", None), str) and "{" not in path and hasattr(route, "methods"):
            yield path
