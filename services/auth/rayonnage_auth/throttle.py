"""Login throttling: failure counts, and a bounded number of hashing threads."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from rayonnage_shared.core.errors import Overloaded, TooManyRequests

MAX_TRACKED = 10_000
KNOWN_ADDRESSES = 16
"""Of each user, the last addresses with a successful login."""
MAX_WAITING_LOGINS = 64  # at 50 ms each and two threads the last waits 1.6 s

_Result = TypeVar("_Result")


class TooManyLogins(TooManyRequests):
    code, title = "too_many_logins", "Too many failed logins"


class LoginThrottle:
    """Counts failed logins of one process by username and by address; a failure expires gradually within a minute.

    An attempt counts as a failure until the password has been checked, so a hundred simultaneous guesses count as a
    hundred. A user cannot be locked out by somebody else's guesses: an address from which the user has logged in before
    has a count of its own, and from other addresses an attempt is admitted every few seconds.
    """

    def __init__(self, per_user: int, per_address: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._users = _Buckets(per_user, clock)
        self._addresses = _Buckets(per_address, clock)
        self._known: dict[str, deque[str]] = {}  # bounded by the number of accounts

    def admit(self, username: str, address: str) -> None:
        """Count one attempt. Raises TooManyLogins with `Retry-After`."""
        user = self._user_key(username, address)
        wait_s = max(self._users.wait_s(user), self._addresses.wait_s(address))
        if wait_s > 0:
            raise TooManyLogins(
                f"Too many failed logins for this user or from this address; try again in {wait_s} s.",
                headers={"Retry-After": str(wait_s)},
            )
        self._users.take(user)
        self._addresses.take(address)

    def succeeded(self, username: str, address: str) -> None:
        """Uncount the attempt, and remember that the user logs in from this address."""
        self.withdraw(username, address)
        known = self._known.setdefault(username, deque(maxlen=KNOWN_ADDRESSES))
        if address in known:
            known.remove(address)
        known.append(address)

    def withdraw(self, username: str, address: str) -> None:
        """Uncount the attempt: the password was not checked."""
        self._users.give_back(self._user_key(username, address))
        self._addresses.give_back(address)

    def _user_key(self, username: str, address: str) -> tuple[str, str | None]:
        return username, address if address in self._known.get(username, ()) else None


@dataclass(slots=True)
class _Bucket:
    places: float
    filled_at: float


class _Buckets:
    """Token buckets by key, refilled evenly over a minute; full ones are not kept.

    Beyond a limit the fullest is evicted, so that no flood of other keys empties the record of many failures.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._capacity = per_minute
        self._refill_per_s = per_minute / 60
        self._clock = clock
        self._buckets: dict[Hashable, _Bucket] = {}

    def wait_s(self, key: Hashable) -> int:
        """Return 0 if a token is available, else the seconds until one is."""
        places = self._places(key, self._clock())
        return 0 if places >= 1 else int((1 - places) / self._refill_per_s) + 1

    def take(self, key: Hashable) -> None:
        self._add(key, -1)

    def give_back(self, key: Hashable) -> None:
        self._add(key, 1)

    def _add(self, key: Hashable, change: int) -> None:
        moment = self._clock()
        places = self._places(key, moment) + change
        self._buckets.pop(key, None)
        if places >= self._capacity:
            return
        if len(self._buckets) >= MAX_TRACKED:
            self._make_room(moment)
        self._buckets[key] = _Bucket(places, moment)

    def _places(self, key: Hashable, moment: float) -> float:
        bucket = self._buckets.get(key)
        if bucket is None:
            return self._capacity
        return min(self._capacity, bucket.places + (moment - bucket.filled_at) * self._refill_per_s)

    def _make_room(self, moment: float) -> None:
        """Remove the full buckets; without any, the fullest, and of equal ones the least recently used."""
        places = {key: self._places(key, moment) for key in self._buckets}
        full = [key for key, found in places.items() if found >= self._capacity]
        for key in full or [max(places, key=places.__getitem__)]:
            del self._buckets[key]


class PasswordThreads:
    """Runs password hashing in a few threads behind a bounded queue, off the event loop."""

    def __init__(self, threads: int) -> None:
        self._limiter = CapacityLimiter(threads)

    async def run(self, work: Callable[[], _Result]) -> _Result:
        """Return the result of `work`. Raises Overloaded when too many calls are waiting."""
        if self._limiter.statistics().tasks_waiting >= MAX_WAITING_LOGINS:
            raise Overloaded("Too many logins are in progress; try again in a moment.")
        return await to_thread.run_sync(work, limiter=self._limiter)
