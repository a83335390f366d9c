"""How many predictions a user may ask for: slowapi's decorator on one function, one bucket for each user."""

from __future__ import annotations

import inspect
import math
import time
import warnings
from collections.abc import Awaitable, Callable
from typing import cast

import structlog
from fastapi import Request
from limits.storage import Storage
from prometheus_client import Counter
from slowapi import Limiter
from slowapi.errors import RateLimitExceeded
from starlette.concurrency import run_in_threadpool

from rayonnage_gateway.settings import GatewaySettings
from rayonnage_shared.core.errors import TooManyRequests

log = structlog.get_logger()

RATE_LIMIT_HITS = Counter("rayonnage_rate_limit_hits", "Requests refused because a user asked too often.")
_STORAGE_TIMEOUT_S = 0.25
_MAX_COUNTS = 10_000

Admission = Callable[[Request], Awaitable[None]]


def prediction_admission(settings: GatewaySettings) -> Admission | None:
    """Return what lets a verified user's prediction in or raises TooManyRequests; None when there is no limit.

    Counts live in Redis when `redis_url` is set, and in this process while Redis is away. The key is the verified
    user name, so the three routes that predict share one bucket and no header can open another.
    """
    if settings.predict_rate_limit is None:
        return None
    shared = settings.redis_url.get_secret_value() if settings.redis_url else None
    limiter = _limiter(settings.predict_rate_limit, shared)

    @limiter.shared_limit(settings.predict_rate_limit, scope="predict")  # type: ignore[untyped-decorator,unused-ignore]
    def count(request: Request) -> None:
        """Reached only while the user is below the limit."""

    async def admit(request: Request) -> None:
        try:
            if shared is None:
                count(request)
            else:
                await run_in_threadpool(count, request)  # slowapi talks to Redis synchronously
        except RateLimitExceeded as exceeded:
            RATE_LIMIT_HITS.inc()
            raise _refusal(limiter, request) from exceeded

    return admit


def _limiter(limit: str, shared: str | None) -> Limiter:
    with warnings.catch_warnings():
        # Without a file name slowapi reads `.env` by itself; with one that is not there starlette warns.
        warnings.simplefilter("ignore", UserWarning)
        limiter = Limiter(
            key_func=_verified_user,
            key_style="endpoint",
            config_filename="",
            key_prefix="rayonnage",
            storage_uri=shared or f"{CountsInMemory.STORAGE_SCHEME[0]}://",
            storage_options=cast(
                "dict[str, str]",
                {"socket_connect_timeout": _STORAGE_TIMEOUT_S, "socket_timeout": _STORAGE_TIMEOUT_S} if shared else {},
            ),
            in_memory_fallback=[limit] if shared else [],
        )
    limiter.enabled = True  # whatever RATELIMIT_ENABLED says in the environment
    return limiter


class CountsInMemory(Storage):
    """Counts of this process. The library's own starts a thread every 10 ms under load only to forget old counts."""

    STORAGE_SCHEME = ["counts-in-memory"]  # noqa: RUF012 - as the library declares it

    def __init__(self, uri: str | None = None, wrap_exceptions: bool = False, **_options: str) -> None:
        super().__init__(uri, wrap_exceptions=wrap_exceptions)
        self._counts: dict[str, tuple[int, float]] = {}

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        now = time.time()
        count, ends_at = self._counts.get(key, (0, 0.0))
        if ends_at <= now:
            if len(self._counts) >= _MAX_COUNTS:
                self._counts = {name: entry for name, entry in self._counts.items() if entry[1] > now}
            count, ends_at = 0, now + expiry
        self._counts[key] = (count + amount, ends_at)
        return count + amount

    def get(self, key: str) -> int:
        count, ends_at = self._counts.get(key, (0, 0.0))
        return count if ends_at > time.time() else 0

    def get_expiry(self, key: str) -> float:
        return self._counts.get(key, (0, time.time()))[1]

    def check(self) -> bool:
        return True

    def reset(self) -> int | None:
        forgotten = len(self._counts)
        self._counts = {}
        return forgotten

    def clear(self, key: str) -> None:
        self._counts.pop(key, None)


def _verified_user(request: Request) -> str:
    return str(request.state.user)


# slowapi asks for the signature with every request; kept here it costs 1 µs instead of 15.
_verified_user.__signature__ = inspect.signature(_verified_user)  # type: ignore[attr-defined]


def _refusal(limiter: Limiter, request: Request) -> TooManyRequests:
    item, key = request.state.view_rate_limit
    try:
        reset_at = limiter.limiter.get_window_stats(item, *key)[0]
    except Exception:  # noqa: BLE001 - whatever the storage raises, the refusal itself stands
        reset_at = time.time() + item.get_expiry()
    wait_s = max(1, math.ceil(reset_at - time.time()))
    log.info("gateway.rate_limited", user=request.state.user, retry_after_s=wait_s)
    return TooManyRequests(
        f"The limit is {item} for each user over all prediction routes; try again in {wait_s} s.",
        headers={"Retry-After": str(wait_s)},
        limit=str(item),
        retry_after_s=wait_s,
    )
