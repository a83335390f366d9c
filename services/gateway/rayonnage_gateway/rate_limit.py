"""The rate limit of predictions: one bucket per user, counted in this process, or by slowapi in Redis."""

from __future__ import annotations

import inspect
import math
import time
import warnings
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

import limits
import structlog
from fastapi import Request
from limits import RateLimitItem
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter
from limits.strategies import RateLimiter as RateLimiterOfLimits
from prometheus_client import Counter
from slowapi import Limiter
from slowapi.errors import RateLimitExceeded
from starlette.concurrency import run_in_threadpool
from starlette.types import Scope

from rayonnage_gateway.settings import GatewaySettings
from rayonnage_shared.core.errors import TooManyRequests

log = structlog.get_logger()

RATE_LIMIT_HITS = Counter("rayonnage_rate_limit_hits", "Requests refused by the rate limit of predictions.")
_STORAGE_TIMEOUT_S = 0.25
_MAX_COUNTS = 10_000
_KEY_PREFIX, _KEY_SCOPE = "rayonnage", "predict"

RateLimiter = Callable[[Scope], Awaitable[None]]
"""Counts the request of the verified user in `scope["state"]["user"]`. Raises TooManyRequests."""


def prediction_rate_limiter(settings: GatewaySettings) -> RateLimiter | None:
    """Return the rate limiter of the prediction routes, or None when there is no limit.

    Counters live in Redis when `redis_url` is set, and in this process while Redis is unavailable. The key is the
    verified user name: the three prediction routes share one bucket, and no header opens another.
    """
    if settings.predict_rate_limit is None:
        return None
    if settings.redis_url is None:
        return _counting_here(settings.predict_rate_limit)
    return _counting_in_redis(settings.predict_rate_limit, settings.redis_url.get_secret_value())


def _counting_here(limit: str) -> RateLimiter:
    """Return a limiter with the counters and keys of slowapi, but without its decorator.

    The decorator took 16 % of the CPU time of a forwarded request (`python -m tests.bench.gateway --profile`).
    """
    items = limits.parse_many(limit)
    counters = FixedWindowRateLimiter(InMemoryCounters())

    async def count(scope: Scope) -> None:
        user = scope["state"]["user"]
        for item in items:
            if not counters.hit(item, _KEY_PREFIX, user, _KEY_SCOPE):
                raise _too_many_requests(counters, item, (_KEY_PREFIX, user, _KEY_SCOPE), user)

    return count


def _counting_in_redis(limit: str, url: str) -> RateLimiter:
    limiter = _limiter(limit, url)

    @limiter.shared_limit(limit, scope=_KEY_SCOPE)  # type: ignore[untyped-decorator,unused-ignore]
    def count(request: Request) -> None:
        """Do nothing: slowapi raises RateLimitExceeded before this runs when the user is over the limit."""

    async def limit_request(scope: Scope) -> None:
        request = Request(scope)
        try:
            await run_in_threadpool(count, request)  # slowapi's Redis client is synchronous
        except RateLimitExceeded as exceeded:
            item, key = request.state.view_rate_limit
            raise _too_many_requests(limiter.limiter, item, key, request.state.user) from exceeded

    return limit_request


def _limiter(limit: str, url: str) -> Limiter:
    with warnings.catch_warnings():
        # Without a file name, slowapi reads `.env` by itself; for a missing file, starlette warns.
        warnings.simplefilter("ignore", UserWarning)
        limiter = Limiter(
            key_func=_verified_user,
            key_style="endpoint",
            config_filename="",
            key_prefix=_KEY_PREFIX,
            storage_uri=url,
            storage_options=cast(
                "dict[str, str]", {"socket_connect_timeout": _STORAGE_TIMEOUT_S, "socket_timeout": _STORAGE_TIMEOUT_S}
            ),
            in_memory_fallback=[limit],
        )
    limiter.enabled = True  # regardless of RATELIMIT_ENABLED in the environment
    return limiter


class InMemoryCounters(Storage):
    """Counters in this process. The library's own storage starts a thread every 10 ms under load to expire entries."""

    STORAGE_SCHEME = ["in-memory-counters"]  # noqa: RUF012 - declared as in the library

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
        removed = len(self._counts)
        self._counts = {}
        return removed

    def clear(self, key: str) -> None:
        self._counts.pop(key, None)


def _verified_user(request: Request) -> str:
    return str(request.state.user)


# slowapi inspects the signature on every request; a cached one costs 1 µs instead of 15.
_verified_user.__signature__ = inspect.signature(_verified_user)  # type: ignore[attr-defined]


def _too_many_requests(
    counters: RateLimiterOfLimits, item: RateLimitItem, key: Sequence[str], user: str
) -> TooManyRequests:
    RATE_LIMIT_HITS.inc()
    try:
        reset_at = counters.get_window_stats(item, *key)[0]
    except Exception:  # noqa: BLE001 - the request is refused whatever the storage raises
        reset_at = time.time() + item.get_expiry()
    wait_s = max(1, math.ceil(reset_at - time.time()))
    log.info("gateway.rate_limit.exceeded", user=user, retry_after_s=wait_s)
    return TooManyRequests(
        f"The limit is {item} for each user, over all prediction routes; try again in {wait_s} s.",
        headers={"Retry-After": str(wait_s)},
        limit=str(item),
        retry_after_s=wait_s,
    )
