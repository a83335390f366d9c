"""The readiness of the services behind the gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

from rayonnage_gateway.upstream import Upstream
from rayonnage_shared.core.errors import DependencyDown, RayonnageError

FRESH_S = 0.5  # for so long, the last answer is returned without a new request
USABLE_S = 5.0  # for so long, it is returned while a new request is in progress
TIMEOUT_S = 1.0


class Readiness:
    """Requests `/health/ready` of each service, one request at a time."""

    def __init__(self, upstreams: Mapping[str, Upstream]) -> None:
        self._upstreams = upstreams
        self._known: dict[str, tuple[float, str | None]] = {}
        self._asking: dict[str, asyncio.Task[str | None]] = {}

    async def why_not_ready(self, service: str) -> str | None:
        """Return why the service is not ready, or None.

        While a request is in progress, further callers get the last answer, or wait for the new one if that is too old.
        """
        asking = self._asking.get(service)
        known = self._known.get(service)
        if known is not None:
            age_s = asyncio.get_running_loop().time() - known[0]
            if age_s <= (USABLE_S if asking else FRESH_S):
                return known[1]
        if asking is None:
            asking = self._asking[service] = asyncio.create_task(self._ask(service))
        return await asyncio.shield(asking)  # a caller who disconnects does not cancel it for the others

    async def _ask(self, service: str) -> str | None:
        try:
            answer = await self._request(service)
            self._known[service] = (asyncio.get_running_loop().time(), answer)
        finally:
            del self._asking[service]
        return answer

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
