"""Failed logins are counted by user and by address, and nobody is locked out for ever."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest

from rayonnage_auth import throttle
from rayonnage_auth.throttle import KNOWN_ADDRESSES, LoginThrottle, PasswordThreads, TooManyLogins
from rayonnage_shared.core.errors import Overloaded
from tests.waiting import PATIENCE_S, eventually_async


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _fail(throttle: LoginThrottle, username: str, address: str, times: int) -> None:
    for _ in range(times):
        throttle.admit(username, address)


def test_the_eleventh_failure_for_a_user_waits_for_a_place(clock: Clock) -> None:
    throttle = LoginThrottle(10, 30, clock)
    _fail(throttle, "alice", "1.1.1.1", 10)
    with pytest.raises(TooManyLogins) as refused:
        throttle.admit("alice", "2.2.2.2")
    wait_s = int(refused.value.headers["Retry-After"])
    assert 6 <= wait_s <= 7
    throttle.admit("bob", "2.2.2.2")
    clock.now += wait_s
    throttle.admit("alice", "2.2.2.2")
    with pytest.raises(TooManyLogins):
        throttle.admit("alice", "2.2.2.2")


def test_one_address_that_tries_many_names_is_stopped(clock: Clock) -> None:
    throttle = LoginThrottle(10, 30, clock)
    for number in range(30):
        throttle.admit(f"user{number}", "1.1.1.1")
    with pytest.raises(TooManyLogins):
        throttle.admit("another", "1.1.1.1")
    throttle.admit("another", "2.2.2.2")


def test_refused_attempts_do_not_prolong_the_wait(clock: Clock) -> None:
    throttle = LoginThrottle(10, 30, clock)
    _fail(throttle, "alice", "1.1.1.1", 10)
    for _ in range(100):
        with pytest.raises(TooManyLogins):
            throttle.admit("alice", "1.1.1.1")
    clock.now += 7
    throttle.admit("alice", "1.1.1.1")


def test_successes_do_not_count(clock: Clock) -> None:
    throttle = LoginThrottle(2, 2, clock)
    for _ in range(50):
        throttle.admit("alice", "1.1.1.1")
        throttle.succeeded("alice", "1.1.1.1")
    for _ in range(50):
        throttle.admit("alice", "1.1.1.1")
        throttle.withdraw("alice", "1.1.1.1")


def test_attempts_under_way_count_as_failures(clock: Clock) -> None:
    throttle = LoginThrottle(3, 30, clock)
    _fail(throttle, "alice", "1.1.1.1", 3)
    with pytest.raises(TooManyLogins):
        throttle.admit("alice", "1.1.1.1")


def test_a_user_under_attack_still_logs_in_from_where_they_did_before(clock: Clock) -> None:
    throttle = LoginThrottle(3, 30, clock)
    throttle.admit("alice", "10.0.0.1")
    throttle.succeeded("alice", "10.0.0.1")
    _fail(throttle, "alice", "6.6.6.6", 3)
    with pytest.raises(TooManyLogins):
        throttle.admit("alice", "6.6.6.6")
    throttle.admit("alice", "10.0.0.1")


def test_a_name_that_looks_like_a_user_at_an_address_locks_nobody_out(clock: Clock) -> None:
    throttle = LoginThrottle(3, 30, clock)
    throttle.admit("alice", "10.0.0.1")
    throttle.succeeded("alice", "10.0.0.1")

    _fail(throttle, "alice 10.0.0.1", "6.6.6.6", 3)

    throttle.admit("alice", "10.0.0.1")


@pytest.fixture
def five_tracked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "MAX_TRACKED", 5)


@pytest.mark.usefixtures("five_tracked")
def test_failures_of_the_least_recent_users_are_forgotten(clock: Clock) -> None:
    bounded = LoginThrottle(3, 30, clock)
    for number in range(6):
        _fail(bounded, f"user{number}", f"1.1.1.{number}", 3)
    bounded.admit("user0", "2.2.2.2")
    for number in range(2, 6):
        with pytest.raises(TooManyLogins):
            bounded.admit(f"user{number}", "2.2.2.2")


@pytest.mark.usefixtures("five_tracked")
def test_names_from_a_throttled_address_make_nothing_forgotten(clock: Clock) -> None:
    bounded = LoginThrottle(3, 2, clock)
    for number in range(3):
        bounded.admit("alice", f"5.5.5.{number}")
    for number in range(50):
        with contextlib.suppress(TooManyLogins):
            bounded.admit(f"flood{number}", "6.6.6.6")
    with pytest.raises(TooManyLogins):
        bounded.admit("alice", "7.7.7.7")


@pytest.mark.usefixtures("five_tracked")
def test_names_from_many_addresses_make_those_with_fewer_failures_forgotten(clock: Clock) -> None:
    bounded = LoginThrottle(3, 3, clock)
    for _ in range(3):
        bounded.admit("alice", "5.5.5.5")
    for number in range(50):
        bounded.admit(f"flood{number}", f"6.6.6.{number}")
    with pytest.raises(TooManyLogins):
        bounded.admit("alice", "7.7.7.7")
    with pytest.raises(TooManyLogins):
        bounded.admit("bob", "5.5.5.5")


@pytest.mark.usefixtures("five_tracked")
def test_failures_that_have_expired_are_forgotten_first(clock: Clock) -> None:
    bounded = LoginThrottle(3, 100, clock)
    bounded.admit("old", "1.1.1.1")
    clock.now += 60
    for number in range(5):
        _fail(bounded, f"user{number}", "2.2.2.2", 3)
    for number in range(5):
        with pytest.raises(TooManyLogins):
            bounded.admit(f"user{number}", "3.3.3.3")


@pytest.mark.usefixtures("five_tracked")
def test_failures_from_the_least_recent_addresses_are_forgotten(clock: Clock) -> None:
    bounded = LoginThrottle(30, 3, clock)
    for number in range(6):
        _fail(bounded, f"user{number}", f"1.1.1.{number}", 3)
    bounded.admit("somebody", "1.1.1.0")
    for number in range(2, 6):
        with pytest.raises(TooManyLogins):
            bounded.admit("somebody", f"1.1.1.{number}")


def test_each_user_has_a_few_known_addresses_and_nobody_else_can_make_them_forgotten(clock: Clock) -> None:
    throttle = LoginThrottle(3, 30, clock)
    for number in range(KNOWN_ADDRESSES + 1):
        throttle.admit("alice", f"10.0.0.{number}")
        throttle.succeeded("alice", f"10.0.0.{number}")
    for number in range(100):
        throttle.admit("mallory", f"10.1.0.{number}")
        throttle.succeeded("mallory", f"10.1.0.{number}")
    _fail(throttle, "alice", "6.6.6.6", 3)
    throttle.admit("alice", "10.0.0.1")
    with pytest.raises(TooManyLogins):
        throttle.admit("alice", "10.0.0.0")


async def test_hashing_runs_a_few_at_a_time_and_refuses_a_long_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "MAX_WAITING_LOGINS", 3)
    threads = PasswordThreads(2)
    gate = threading.Event()
    running, most = 0, 0
    lock = threading.Lock()

    def work() -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        gate.wait(PATIENCE_S)
        with lock:
            running -= 1
        return "done"

    tasks = [asyncio.create_task(threads.run(work)) for _ in range(5)]
    assert await eventually_async(lambda: running == 2)
    with pytest.raises(Overloaded):
        await threads.run(work)
    gate.set()
    assert await asyncio.gather(*tasks) == ["done"] * 5
    assert most == 2
