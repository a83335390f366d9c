"""The public routes: which service answers each, who may call it, and which limits apply."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from fastapi import APIRouter
from starlette.routing import Route

from rayonnage_gateway.forwarding import Access, Forwarder, Operation, ReplayBudget
from rayonnage_gateway.rate_limit import RateLimiter
from rayonnage_gateway.readiness import Readiness
from rayonnage_gateway.settings import GatewaySettings
from rayonnage_gateway.upstream import Upstream
from rayonnage_shared.auth.tokens import TokenVerifier
from rayonnage_shared.http.problems import problems
from rayonnage_shared.http.schemas import Status, Welcome

Service = Literal["auth", "ingest", "train", "predict"]
RouteClass = Literal["standard", "prediction", "promotion", "ingest", "events"]


@dataclass(frozen=True, slots=True)
class PublicRoute:
    """One row of the table; its class decides size limit, timeout, rate limit and whether it may be replayed."""

    method: str
    path: str
    service: Service
    access: Access
    route_class: RouteClass = "standard"


# Predictions come first: the router and the metrics try the paths in this order.
PUBLIC_ROUTES: tuple[PublicRoute, ...] = (
    PublicRoute("POST", "/predict", "predict", "user", "prediction"),
    PublicRoute("POST", "/predict/text/manual", "predict", "user", "prediction"),
    PublicRoute("POST", "/predict/image/manual", "predict", "user", "prediction"),
    PublicRoute("POST", "/feedback", "predict", "user"),
    PublicRoute("GET", "/info", "predict", "user"),
    PublicRoute("GET", "/categories", "predict", "user"),
    PublicRoute("GET", "/models", "predict", "user"),
    PublicRoute("GET", "/models/promotions", "train", "admin"),
    PublicRoute("GET", "/models/{version}", "predict", "user"),
    PublicRoute("GET", "/models/{version}/figures/{name}.png", "predict", "user"),
    PublicRoute("POST", "/models/rollback", "train", "admin", "promotion"),
    PublicRoute("POST", "/models/{version}/promote", "train", "admin", "promotion"),
    PublicRoute("POST", "/token", "auth", "public"),
    PublicRoute("POST", "/token/refresh", "auth", "public"),
    PublicRoute("POST", "/logout", "auth", "user"),
    PublicRoute("GET", "/users/me", "auth", "user"),
    PublicRoute("PUT", "/users/me/password", "auth", "user"),
    PublicRoute("GET", "/users", "auth", "admin"),
    PublicRoute("POST", "/users", "auth", "admin"),
    PublicRoute("PATCH", "/users/{username}", "auth", "admin"),
    PublicRoute("DELETE", "/users/{username}", "auth", "admin"),
    PublicRoute("GET", "/.well-known/jwks.json", "auth", "public"),
    PublicRoute("POST", "/ingest", "ingest", "admin", "ingest"),
    PublicRoute("GET", "/ingest/{ingest_id}", "ingest", "admin"),
    PublicRoute("GET", "/ingest/{ingest_id}/rejects.csv", "ingest", "admin"),
    PublicRoute("GET", "/datasets", "ingest", "admin"),
    PublicRoute("GET", "/datasets/{version}", "ingest", "admin"),
    PublicRoute("POST", "/train", "train", "admin"),
    PublicRoute("POST", "/train/text", "train", "admin"),
    PublicRoute("POST", "/train/image", "train", "admin"),
    PublicRoute("POST", "/train/search", "train", "admin"),
    PublicRoute("GET", "/train/jobs", "train", "admin"),
    PublicRoute("GET", "/train/jobs/{job_id}", "train", "admin"),
    PublicRoute("DELETE", "/train/jobs/{job_id}", "train", "admin"),
    PublicRoute("GET", "/train/jobs/{job_id}/events", "train", "admin", "events"),
    PublicRoute("GET", "/test/preprocess/text/manual", "train", "admin"),
    PublicRoute("POST", "/drift", "train", "admin"),
    PublicRoute("GET", "/drift", "train", "user"),
    PublicRoute("GET", "/drift/{report_id}", "train", "user"),
    PublicRoute("POST", "/drift/{report_id}/link", "train", "user"),
    PublicRoute("GET", "/drift/{report_id}/page", "train", "public"),  # train verifies the link's signature
)


def forwarding_routes(
    settings: GatewaySettings,
    upstreams: Mapping[str, Upstream],
    streams: Mapping[str, Upstream],
    *,
    rate_limiter: RateLimiter | None,
    verifier: TokenVerifier,
    routes: Iterable[PublicRoute] = PUBLIC_ROUTES,
) -> list[Route]:
    """Return one Starlette route for each public path; event streams use the connections of `streams`."""
    replay_budget = ReplayBudget(settings.gateway_replay_buffer_bytes)
    by_path: dict[str, dict[str, Operation]] = {}
    for row in routes:
        upstream = (streams if row.route_class == "events" else upstreams)[row.service]
        by_path.setdefault(row.path, {})[row.method] = _operation(row, settings, upstream, rate_limiter)
    return [
        Route(path, Forwarder(operations, replay_budget, verifier), methods=list(operations), include_in_schema=False)
        for path, operations in by_path.items()
    ]


def _operation(
    row: PublicRoute, settings: GatewaySettings, upstream: Upstream, rate_limiter: RateLimiter | None
) -> Operation:
    is_prediction = row.route_class == "prediction"
    return Operation(
        upstream=upstream,
        access=row.access,
        max_body_bytes={
            "prediction": settings.predict_max_body_bytes,
            "ingest": settings.ingest_max_body_bytes,
        }.get(row.route_class, settings.small_max_body_bytes),
        timeout_s={
            "promotion": settings.gateway_promotion_timeout_s,
            "ingest": settings.gateway_ingest_timeout_s,
        }.get(row.route_class, settings.gateway_timeout_s),
        idle_timeout_s=settings.gateway_idle_timeout_s,
        client_timeout_s=settings.gateway_client_timeout_s,
        total_timeout_s={
            "ingest": settings.gateway_ingest_total_timeout_s,
            "events": math.inf,
        }.get(row.route_class, settings.gateway_total_timeout_s),
        rate_limit=rate_limiter if is_prediction else None,
        replayable=is_prediction,
        run_to_completion=row.route_class == "ingest",
    )


def own_router(readiness: Readiness) -> APIRouter:
    """Return the routes that the gateway answers itself."""
    router = APIRouter(tags=["platform"])

    @router.get("/", response_model=Welcome)
    async def welcome() -> Welcome:
        """Return a welcome message."""
        return Welcome(message="Bienvenue sur Rayonnage, l'API qui range chaque produit dans le bon rayon.")

    @router.get("/status", response_model=Status, responses=problems(503))
    async def status() -> Status:
        """Return whether the platform can make predictions: auth and predict are ready."""
        await readiness.require("auth", "predict")
        return Status(status="L'API fonctionne correctement")

    return router
