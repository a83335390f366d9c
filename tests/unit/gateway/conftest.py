"""A patient gateway and an impatient one, each before one scripted service that stands for all four."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping

import httpx2
import pytest
import uvloop

from tests.unit.gateway.servers import Gateway, Service, caller_before, echo, running


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run these tests on the event loop that the gateway runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="package")
def _service() -> Iterator[Service]:
    service = Service()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rayonnage_gateway.documentation.RETRY_S", 3600)  # no questions between those of the tests
        yield service
    service.close()


@pytest.fixture(scope="package")
def _patient(_service: Service) -> Iterator[Gateway]:
    with running(
        train_url=_service.url,
        predict_url=_service.url,
        ingest_url=_service.url,
        predict_rate_limit="off",
        gateway_connections=8,
        gateway_waiting=2,
        gateway_wait_s=0.3,
    ) as gateway:
        yield gateway


@pytest.fixture(scope="package")
def _impatient(_service: Service) -> Iterator[Gateway]:
    with running(
        train_url=_service.url,
        predict_url=_service.url,
        ingest_url=_service.url,
        predict_rate_limit="off",
        gateway_timeout_s=0.3,
        gateway_promotion_timeout_s=0.3,
        gateway_ingest_timeout_s=0.3,
        gateway_idle_timeout_s=0.3,
        gateway_client_timeout_s=0.3,
    ) as gateway:
        yield gateway


@pytest.fixture
def service(_service: Service) -> Service:
    """Answers with what it got until told otherwise."""
    _service.play(echo)
    return _service


@pytest.fixture
def gateway(_patient: Gateway, service: Service) -> Iterator[Gateway]:
    """Gives everybody time."""
    yield _patient
    _patient.hang_up()


@pytest.fixture
def impatient(_impatient: Gateway, service: Service) -> Iterator[Gateway]:
    """Gives nobody more than a third of a second."""
    yield _impatient
    _impatient.hang_up()


@pytest.fixture
def client(gateway: Gateway) -> Iterator[httpx2.Client]:
    """An admin before the patient gateway."""
    with caller_before(gateway, "admin") as opened:
        yield opened


@pytest.fixture
def hurried(impatient: Gateway) -> Iterator[httpx2.Client]:
    """An admin before the impatient gateway."""
    with caller_before(impatient, "admin") as opened:
        yield opened
