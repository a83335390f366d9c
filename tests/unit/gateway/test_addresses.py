"""One name for several processes of a service: found as they come and left as they go."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from rayonnage_gateway import addresses
from rayonnage_gateway.upstream import PoolLimits, Upstream
from rayonnage_shared.core.errors import DependencyDown
from tests.unit.gateway.servers import Conversation, Service, reached
from tests.waiting import PATIENCE_S, eventually_async

ONE, OTHER = "127.0.0.1", "127.0.0.2"
LIMITS = PoolLimits(connections=8, waiting=0, wait_s=1, connect_timeout_s=PATIENCE_S, keep_alive_s=600)


class Resolver:
    """A name server that says what it is told to, or raises it."""

    def __init__(self, *answer: str) -> None:
        self.answer: Collection[str] | Exception = answer
        self.asked: list[str] = []

    async def __call__(self, host: str) -> Collection[str]:
        self.asked.append(host)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def say_who(who: str) -> Callable[[Conversation], None]:
    def script(conversation: Conversation) -> None:
        while True:
            head = conversation.read_head()
            host = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"host:"))
            conversation.answer(json.dumps([who, host.partition(b": ")[2].decode()]).encode())

    return script


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "LOOKUP_INTERVAL_S", 0.02)


@pytest.fixture
def services() -> Iterator[tuple[Service, Service]]:
    """Two processes of a service: the same port of two addresses."""
    one = Service(host=ONE)
    other = Service(host=OTHER, port=one.port)
    one.script, other.script = say_who(ONE), say_who(OTHER)
    yield one, other
    one.close()
    other.close()


@contextlib.asynccontextmanager
async def upstream(
    port: int, resolver: Resolver, url: str = "http://predict.example:{port}"
) -> AsyncIterator[Upstream]:
    opened = Upstream("predict", url.format(port=port), LIMITS, resolver)
    opened.open()
    try:
        yield opened
    finally:
        opened.close()


async def ask(pool: Upstream) -> str:
    """Return who answers."""
    _status, body = await pool.fetch("/", timeout_s=PATIENCE_S)
    return str(json.loads(body)[0])


async def ask_many(pool: Upstream, count: int = 6) -> set[str]:
    return set(await asyncio.gather(*(ask(pool) for _ in range(count))))


async def until(happens: Callable[[], bool]) -> None:
    assert await eventually_async(happens), "it did not happen"


async def looked_up(resolver: Resolver) -> None:
    """Return when an answer that begins after now has been taken in."""
    asked = len(resolver.asked)
    await until(lambda: len(resolver.asked) >= asked + 2)


async def test_requests_spread_over_all_that_a_name_stands_for(services: tuple[Service, Service]) -> None:
    resolver = Resolver(ONE, OTHER)
    async with upstream(services[0].port, resolver) as pool:
        await looked_up(resolver)
        assert await ask_many(pool) == {ONE, OTHER}


async def test_a_process_that_comes_is_asked_too(services: tuple[Service, Service]) -> None:
    resolver = Resolver(ONE)
    async with upstream(services[0].port, resolver) as pool:
        await looked_up(resolver)
        assert await ask_many(pool) == {ONE}
        resolver.answer = (OTHER, ONE)
        await looked_up(resolver)
        assert await ask_many(pool) == {ONE, OTHER}


async def test_a_process_that_leaves_is_asked_no_more_and_its_idle_connections_close(
    services: tuple[Service, Service],
) -> None:
    ended: list[float] = []

    def answer_once(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.answer(json.dumps([ONE, ""]).encode())
        ended.append(conversation.wait_for_end())

    services[0].script = answer_once
    resolver = Resolver(ONE)
    async with upstream(services[0].port, resolver) as pool:
        await looked_up(resolver)
        assert await ask(pool) == ONE
        resolver.answer = (OTHER,)
        await until(lambda: bool(ended))
        assert ended[0] < LIMITS.keep_alive_s
        assert await ask_many(pool) == {OTHER}


async def test_an_exchange_with_a_process_that_leaves_ends_well_and_its_connection_with_it(
    services: tuple[Service, Service],
) -> None:
    answering = asyncio.Event()
    loop = asyncio.get_running_loop()
    go_on = asyncio.Event()
    ended: list[float] = []

    def slow(conversation: Conversation) -> None:
        conversation.read_head()
        loop.call_soon_threadsafe(answering.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(PATIENCE_S)
        conversation.answer(b'["slow", ""]')
        ended.append(conversation.wait_for_end())

    services[0].script = slow
    resolver = Resolver(ONE)
    async with upstream(services[0].port, resolver) as pool:
        await looked_up(resolver)
        under_way = asyncio.create_task(ask(pool))
        await answering.wait()
        resolver.answer = (OTHER,)
        await looked_up(resolver)
        assert await ask(pool) == OTHER
        go_on.set()
        assert await under_way == "slow"
        await until(lambda: bool(ended))
        assert ended[0] < LIMITS.keep_alive_s


@pytest.mark.parametrize(
    "trouble", [socket.gaierror(-3, "try again"), TimeoutError(), UnicodeError("no label"), RuntimeError("a bug")]
)
async def test_a_lookup_that_fails_changes_nothing(services: tuple[Service, Service], trouble: Exception) -> None:
    resolver = Resolver(OTHER)
    async with upstream(services[0].port, resolver) as pool:
        await looked_up(resolver)
        for answer in (trouble, ()):
            resolver.answer = answer
            await looked_up(resolver)
            assert await ask_many(pool) == {OTHER}
        resolver.answer = (ONE,)
        await looked_up(resolver)
        assert await ask_many(pool) == {ONE}


async def test_a_lookup_that_hangs_is_given_up_and_delays_nobody(
    services: tuple[Service, Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "LOOKUP_TIMEOUT_S", 0.1)
    resolver = Resolver(ONE)
    hanging = asyncio.Event()

    async def lookup(host: str) -> Collection[str]:
        if hanging.is_set():
            resolver.asked.append(host)
            await asyncio.sleep(60)
        return await resolver(host)

    pool = Upstream("predict", f"http://predict.example:{services[0].port}", LIMITS, lookup)
    pool.open()
    try:
        await looked_up(resolver)
        hanging.set()
        await looked_up(resolver)  # the second one begins only when the first is given up
        assert await ask(pool) == ONE
    finally:
        pool.close()


async def test_until_it_is_looked_up_a_name_stands_for_itself(services: tuple[Service, Service]) -> None:
    resolver = Resolver()
    async with upstream(services[0].port, resolver, "http://localhost:{port}") as pool:
        assert await ask(pool) == ONE


async def test_services_hear_the_name_whatever_it_stands_for(services: tuple[Service, Service]) -> None:
    resolver = Resolver(OTHER)
    async with upstream(services[0].port, resolver) as pool:
        await looked_up(resolver)
        _status, body = await pool.fetch("/", timeout_s=PATIENCE_S)
        assert json.loads(body) == [OTHER, f"predict.example:{services[0].port}"]


async def test_addresses_are_never_looked_up_and_stand_beside_names(services: tuple[Service, Service]) -> None:
    resolver = Resolver(OTHER)
    url = "http://127.0.0.1:{port}, http://predict.example:{port}"
    async with upstream(services[0].port, resolver, url) as pool:
        await looked_up(resolver)
        assert await ask_many(pool) == {ONE, OTHER}
        assert set(resolver.asked) == {"predict.example"}
    async with upstream(services[0].port, Resolver(), "http://[::1]:{port}") as pool:
        with pytest.raises(DependencyDown):
            await ask(pool)


async def test_nothing_is_looked_up_after_the_end(services: tuple[Service, Service]) -> None:
    resolver = Resolver(ONE)
    async with upstream(services[0].port, resolver):
        await looked_up(resolver)
    asked = len(resolver.asked)
    await asyncio.sleep(0.1)
    assert len(resolver.asked) == asked


async def test_the_systems_resolver_knows_this_machine() -> None:
    assert set(await addresses.look_up("localhost")) & {"127.0.0.1", "::1"}


def test_the_gateway_spreads_predictions_over_all_that_a_name_stands_for(
    services: tuple[Service, Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "look_up", Resolver(ONE, OTHER))
    url = f"http://predict.example:{services[0].port}"
    with reached(predict_url=url, predict_rate_limit="off") as client:
        assert client.get("/health/live").status_code == 200
        deadline = time.monotonic() + PATIENCE_S
        answered: set[str] = set()
        with ThreadPoolExecutor(8) as callers:
            while answered != {ONE, OTHER}:
                assert time.monotonic() < deadline
                answers = list(callers.map(lambda _: client.post("/predict", content=b"x"), range(16)))
                answered |= {answer.json()[0] for answer in answers if answer.status_code == 200}
        services[1].close()
        assert {client.post("/predict", content=b"x").json()[0] for _ in range(8)} == {ONE}
