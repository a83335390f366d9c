"""A request that is aborted at any moment frees all that it held: slot, place in the queue, replay buffer, tasks."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.types import Message

from rayonnage_gateway.forwarding import Forwarder, Operation, ReplayBudget
from rayonnage_gateway.settings import GatewaySettings
from rayonnage_gateway.upstream import PoolLimits, Upstream
from rayonnage_shared.auth.tokens import TokenVerifier
from rayonnage_shared.core.errors import Overloaded
from rayonnage_shared.http.problems import CLIENT_DISCONNECTED_STATUS
from tests.unit.gateway.servers import Conversation, Script, Service, echo
from tests.waiting import eventually_async

SLOTS = 2
BUDGET_BYTES = 100
BODY = (b"a" * 20, b"b" * 20)
AT_MOST_SUSPENSIONS = 200

Interrupt = Callable[[asyncio.Future[Any] | None], object]
"""Told what the request is about to wait for; None is the next round of the event loop."""


@pytest.fixture
def own_service() -> Iterator[Service]:
    """A service of this test alone, so that its threads tell whether a connection has stayed open."""
    service = Service()
    yield service
    service.close()


@contextlib.asynccontextmanager
async def pool(service: Service, waiting: int = 0) -> AsyncIterator[Upstream]:
    limits = PoolLimits(connections=SLOTS, waiting=waiting, wait_s=5, connect_timeout_s=5, keep_alive_s=5)
    opened = Upstream("predict", service.url, limits)
    opened.open()
    yield opened
    opened.close()


@pytest.fixture
async def upstream(own_service: Service) -> AsyncIterator[Upstream]:
    """A pool with two slots and no queue."""
    async with pool(own_service) as opened:
        yield opened


class ServerFault(Exception):
    """Raised by an ASGI server in the middle of a response."""


@dataclass
class Client:
    """The caller's end of one request, as an ASGI server shows it to an application."""

    method: str = "GET"
    body: tuple[bytes, ...] = ()
    announced: tuple[bytes, bytes] | None = None
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    sent: list[Message] = field(default_factory=list)
    broken: bool = False

    def __post_init__(self) -> None:
        self._parts = deque(self.body)

    @property
    def scope(self) -> dict[str, Any]:
        return {
            "type": "http",
            "method": self.method,
            "scheme": "http",
            "path": "/",
            "raw_path": b"/",
            "query_string": b"",
            "headers": [self.announced] if self.announced else [],
            "client": ("127.0.0.1", 1),
            "state": {"request_id": "aborted-request"},
        }

    async def receive(self) -> Message:
        await asyncio.sleep(0)
        if self._parts and not self.gone.is_set():
            part = self._parts.popleft()
            return {"type": "http.request", "body": part, "more_body": bool(self._parts)}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        await asyncio.sleep(0)
        if self.broken:
            raise ServerFault
        self.sent.append(message)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"]) if self.sent else 0

    @property
    def answered(self) -> bool:
        """Whether a whole answer came."""
        return bool(self.sent) and self.sent[-1].get("more_body") is False


def length(body: tuple[bytes, ...]) -> tuple[bytes, bytes]:
    return (b"content-length", b"%d" % sum(map(len, body)))


def post() -> Client:
    return Client("POST", BODY, length(BODY))


def post_in_chunks() -> Client:
    return Client("POST", BODY, (b"transfer-encoding", b"chunked"))


def die(conversation: Conversation) -> None:
    conversation.read_body(conversation.read_head())


def send_events(conversation: Conversation) -> None:
    while True:
        conversation.read_head()
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(3):
            conversation.send(b"9\r\ndata: 1\n\n\r\n")
        conversation.send(b"0\r\n\r\n")


REQUESTS: dict[str, tuple[dict[str, Any], Callable[[], Client], tuple[Script, ...]]] = {
    "plain": ({}, Client, (echo,)),
    "events": ({}, Client, (send_events,)),
    "replayable": ({"replayable": True}, post, (echo,)),
    "replayed": ({"replayable": True}, post, (die, echo)),
    "streamed": ({}, post, (echo,)),
    "streamed in chunks": ({"replayable": True}, post_in_chunks, (echo,)),
    "run to completion": ({"run_to_completion": True}, post, (echo,)),
}


def forwarding(upstream: Upstream, **policy: Any) -> tuple[Forwarder, ReplayBudget]:
    budget = ReplayBudget(BUDGET_BYTES)
    values = {"max_body_bytes": 1000, "timeout_s": 5, "idle_timeout_s": 5, "client_timeout_s": 5} | policy
    operation = Operation(upstream=upstream, access="public", **values)
    return Forwarder(
        {"GET": operation, "POST": operation}, budget, TokenVerifier(GatewaySettings(_env_file=None))
    ), budget


async def slots_are_free(upstream: Upstream) -> None:
    """Fail unless as many requests as there are slots succeed at once; none may wait."""
    app, _budget = forwarding(upstream)
    clients = [Client() for _ in range(SLOTS)]
    await asyncio.gather(*(app(client.scope, client.receive, client.send) for client in clients))
    assert [client.status for client in clients] == [200] * SLOTS
    assert upstream.slots.in_use == 0


async def no_task_is_left() -> None:
    for _ in range(3):  # a cancelled task ends when the loop comes round to it
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_clients_that_leave_while_connections_are_opened_free_their_slots(upstream: Upstream) -> None:
    app, _budget = forwarding(upstream)
    clients = [Client() for _ in range(SLOTS)]
    for client in clients:
        client.gone.set()
    await asyncio.gather(*(app(client.scope, client.receive, client.send) for client in clients))
    assert [client.status for client in clients] == [CLIENT_DISCONNECTED_STATUS] * SLOTS
    await slots_are_free(upstream)


class Interrupted:
    """Awaits a coroutine and calls `interrupt` when it is suspended for the time that `after` counts from 0."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], after: int, interrupt: Interrupt) -> None:
        self._coroutine = coroutine
        self._left = after
        self._interrupt = interrupt

    @property
    def came_to_it(self) -> bool:
        return self._left < 0

    def __await__(self) -> Generator[Any, Any, None]:
        inner = self._coroutine.__await__()
        resume: Callable[[], Any] = functools.partial(next, inner)
        while True:
            try:
                waits_for = resume()
            except StopIteration:
                return
            if self._left == 0:
                self._interrupt(waits_for)
            self._left -= 1
            try:
                value = yield waits_for
            except BaseException as error:  # noqa: BLE001 - the coroutine gets whatever its task got
                resume = functools.partial(inner.throw, error)
            else:
                resume = functools.partial(inner.send, value)


def cancel(client: Client) -> Interrupt:
    return lambda _waits_for: this_task().cancel()


def cancel_as_the_wait_ends(client: Client) -> Interrupt:
    """The wait is over and the task about to go on when it is cancelled."""
    task = this_task()

    def interrupt(waits_for: asyncio.Future[Any] | None) -> None:
        if waits_for is None:
            task.cancel()
        else:
            waits_for.add_done_callback(lambda _future: task.cancel())

    return interrupt


def disconnect(client: Client) -> Interrupt:
    return lambda _waits_for: client.gone.set()


def break_server(client: Client) -> Interrupt:
    def interrupt(_waits_for: object) -> None:
        client.broken = True

    return interrupt


def this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


ABORTS = [cancel, cancel_as_the_wait_ends, disconnect, break_server]


async def aborted(app: Forwarder, client: Client, after: int, abort: Callable[[Client], Interrupt]) -> bool:
    """Run a request that is aborted at one of its awaits. Return False if it was complete before."""

    async def request() -> bool:
        interrupted = Interrupted(app(client.scope, client.receive, client.send), after, abort(client))
        with contextlib.suppress(ServerFault, asyncio.CancelledError):
            await interrupted
        return interrupted.came_to_it

    return await asyncio.create_task(request())


@pytest.mark.parametrize("abort", ABORTS)
@pytest.mark.parametrize("name", REQUESTS)
async def test_a_request_aborted_at_any_await_frees_all_that_it_held(
    upstream: Upstream, own_service: Service, name: str, abort: Callable[[Client], Interrupt]
) -> None:
    policy, make_client, scripts = REQUESTS[name]
    app, budget = forwarding(upstream, **policy)
    for after in range(AT_MOST_SUSPENSIONS):
        own_service.play(*scripts)
        client = make_client()
        came_to_it = await aborted(app, client, after, abort)
        assert budget.left == BUDGET_BYTES
        await no_task_is_left()
        await slots_are_free(upstream)
        if not came_to_it:
            assert client.answered
            return
    pytest.fail("the request has no end")


@pytest.mark.parametrize("abort", ABORTS)
async def test_a_request_aborted_while_it_waits_for_a_slot_leaves_the_queue(
    own_service: Service, abort: Callable[[Client], Interrupt]
) -> None:
    async with pool(own_service, waiting=1) as upstream:
        app, _budget = forwarding(upstream)

        async def occupy_slots(taken: asyncio.Event) -> None:
            async with upstream.connection(), upstream.connection():
                taken.set()
                for _ in range(5):
                    await asyncio.sleep(0)

        for after in range(AT_MOST_SUSPENSIONS):
            taken = asyncio.Event()
            occupied = asyncio.create_task(occupy_slots(taken))
            await taken.wait()
            client = Client()
            came_to_it = await aborted(app, client, after, abort)
            await occupied
            await no_task_is_left()
            await slots_are_free(upstream)
            if not came_to_it:
                assert client.answered
                return
        pytest.fail("the request has no end")


async def test_a_client_that_leaves_while_it_waits_makes_room_for_the_next_at_once(own_service: Service) -> None:
    async with pool(own_service, waiting=1) as upstream:
        app, _budget = forwarding(upstream)
        gone, patient, refused = Client(), Client(), Client()
        async with upstream.connection(), upstream.connection():
            first = asyncio.create_task(app(gone.scope, gone.receive, gone.send))
            await asyncio.sleep(0)
            with pytest.raises(Overloaded):
                await app(refused.scope, refused.receive, refused.send)
            gone.gone.set()
            await first
            assert gone.status == CLIENT_DISCONNECTED_STATUS
            second = asyncio.create_task(app(patient.scope, patient.receive, patient.send))
            await asyncio.sleep(0)
        await second
        assert patient.status == 200


async def test_a_client_that_stops_reading_gives_its_slot_back(upstream: Upstream) -> None:
    app, _budget = forwarding(upstream, client_timeout_s=0.1)
    client = Client()

    async def send(_message: Message) -> None:
        await asyncio.Event().wait()

    request = asyncio.create_task(app(client.scope, client.receive, send))
    await asyncio.sleep(0)
    assert upstream.slots.in_use == 1
    assert await eventually_async(lambda: upstream.slots.in_use == 0)
    await slots_are_free(upstream)
    client.gone.set()
    await request
    await no_task_is_left()


async def test_a_connection_given_back_after_the_end_is_closed(own_service: Service) -> None:
    ended = threading.Event()

    def wait(conversation: Conversation) -> None:
        conversation.wait_for_end()
        ended.set()

    own_service.play(wait)
    async with pool(own_service) as upstream:
        lease = upstream.connection()
        await lease.__aenter__()
    await lease.__aexit__(None, None, None)
    await asyncio.sleep(0)
    assert await asyncio.to_thread(ended.wait, 5)
