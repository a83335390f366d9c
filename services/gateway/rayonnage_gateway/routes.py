"""The public routes: which service answers each, who may call it, and how much and how long it may take."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from fastapi import APIRouter, Request
from starlette.routing import Route

from rayonnage_gateway.forwarding import Access, Forwarding, Operation, ReplayBudget
from rayonnage_gateway.readiness import Readiness
from rayonnage_gateway.settings import GatewaySettings
from rayonnage_gateway.upstream import Upstream
from rayonnage_shared.http.problems import problems
from rayonnage_shared.http.schemas import Status, Welcome

Service = Literal["auth", "ingest", "train", "predict"]
Kind = Literal["small", "prediction", "move", "ingest", "events"]


@dataclass(frozen=True, slots=True)
class PublicRoute:
    """One row of the table; `kind` decides limits, timeouts and whether a body may be sent twice."""

    method: str
    path: str
    service: Service
    access: Access
    kind: Kind = "small"


# Predictions come first: the router and the metrics look through the paths in this order.
PUBLIC_ROUTES: tuple[PublicRoute, ...] = (
    PublicRoute("POST", "/predict", "predict", "user", "prediction"),
    PublicRoute("POST", "/predict/text/manual", "predict", "user", "prediction"),
    PublicRoute("POST", "/predict/image/manual", "predict", "user", "prediction"),
    PublicRoute("POST", "/feedback", "predict", "user"),
    PublicRoute("GET", "/info", "predict", "user"),
    PublicRoute("GET", "/models", "predict", "user"),
    PublicRoute("GET", "/models/{version}", "predict", "user"),
    PublicRoute("GET", "/models/{version}/figures/{name}.png", "predict", "user"),
    PublicRoute("POST", "/models/rollback", "train", "admin", "move"),
    PublicRoute("POST", "/models/{version}/promote", "train", "admin", "move"),
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
    PublicRoute("POST", "/drift", "train", "admin"),
    PublicRoute("GET", "/drift", "train", "user"),
    PublicRoute("GET", "/drift/{report_id}", "train", "user"),
)


def forwarding_routes(
    settings: GatewaySettings,
    upstreams: Mapping[str, Upstream],
    streams: Mapping[str, Upstream],
    admit_prediction: Callable[[Request], Awaitable[None]] | None,
    routes: Iterable[PublicRoute] = PUBLIC_ROUTES,
) -> list[Route]:
    """Return one Starlette route for each public path; event streams go over connections of their own."""
    held = ReplayBudget(settings.gateway_held_bytes)
    by_path: dict[str, list[PublicRoute]] = {}
    for row in routes:
        by_path.setdefault(row.path, []).append(row)
    found = []
    for path, rows in by_path.items():
        operations = {
            row.method: _operation(
                row,
                settings,
                (streams if row.kind == "events" else upstreams)[row.service],
                admit_prediction if row.kind == "prediction" else None,
            )
            for row in rows
        }
        found.append(Route(path, Forwarding(operations, held), methods=list(operations), include_in_schema=False))
    return found


def _operation(
    row: PublicRoute,
    settings: GatewaySettings,
    upstream: Upstream,
    admit: Callable[[Request], Awaitable[None]] | None,
) -> Operation:
    return Operation(
        upstream=upstream,
        access=row.access,
        max_body_bytes={
            "prediction": settings.predict_max_body_bytes,
            "ingest": settings.ingest_max_body_bytes,
        }.get(row.kind, settings.small_max_body_bytes),
        timeout_s={
            "move": settings.gateway_move_timeout_s,
            "ingest": settings.gateway_ingest_timeout_s,
        }.get(row.kind, settings.gateway_timeout_s),
        idle_timeout_s=settings.gateway_idle_timeout_s,
        caller_timeout_s=settings.gateway_caller_timeout_s,
        admit=admit,
        replayable=row.kind == "prediction",
        finishes_alone=row.kind == "ingest",
    )


def own_router(readiness: Readiness) -> APIRouter:
    """Return the routes that the gateway answers by itself."""
    router = APIRouter(tags=["platform"])

    @router.get("/", response_model=Welcome)
    async def welcome() -> Welcome:
        """Say where one is."""
        return Welcome(message="Bienvenue sur Rayonnage, l'API qui range chaque produit dans le bon rayon.")

    @router.get("/status", response_model=Status, responses=problems(503))
    async def status() -> Status:
        """Say whether predictions can be asked for: what they need is up."""
        await readiness.require("auth", "predict")
        return Status(status="L'API fonctionne correctement")

    return router
