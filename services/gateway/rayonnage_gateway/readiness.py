"""The readiness of the services behind the gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

from rayonnage_gateway.upstream import Upstream
from rayonnage_shared.core.errors import DependencyDown, RayonnageError

FRESH_S = 0.5  # for so long, the last result is returned again
TIMEOUT_S = 1.0


class Readiness:
    """Requests `/health/ready` of each service, at most once at a time."""

    def __init__(self, upstreams: Mapping[str, Upstream]) -> None:
        self._upstreams = upstreams
        self._known: dict[str, tuple[float, str | None]] = {}
        self._locks = {service: asyncio.Lock() for service in upstreams}

    async def why_not_ready(self, service: str) -> str | None:
        """Return why the service is not ready, or None."""
        async with self._locks[service]:
            now = asyncio.get_running_loop().time()
            known = self._known.get(service)
            if known is None or now - known[0] > FRESH_S:
                known = (now, await self._request(service))
                self._known[service] = known
            return known[1]

    async def require(self, *services: str) -> None:
        """Raise DependencyDown, naming each of these services that is not ready."""
        found = dict(zip(services, await asyncio.gather(*map(self.why_not_ready, services)), strict=True))
        missing = {service: reason for service, reason in found.items() if reason is not None}
        if missing:
            detail = "; ".join(f"{service}: {reason}" for service, reason in missing.items())
            raise DependencyDown(detail, dependencies=missing)

    async def _request(self, service: str) -> str | None:
        try:
            status, body = await self._upstreams[service].fetch("/health/ready", timeout_s=TIMEOUT_S)
        except RayonnageError as error:
            return error.detail
        if status == 200:
            return None
        try:
            return str(json.loads(body)["detail"])
        except (ValueError, KeyError, TypeError):
            return f"it answers {status} at /health/ready"
