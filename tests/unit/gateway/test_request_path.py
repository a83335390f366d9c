"""A forwarded request passes five files of the gateway, and each of them calls only those after it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import httpx2
import pytest

import rayonnage_gateway
from tests.tokens import bearer
from tests.unit.gateway.servers import Service, running
from tests.waiting import PATIENCE_S

FOLDER = str(Path(rayonnage_gateway.__file__).parent)
PATH = ("forwarding_path", "forwarding", "rate_limit", "upstream", "connection")


class Trace:
    """The files of the gateway that run, and which of them calls which."""

    def __init__(self) -> None:
        self.on = False
        self.files: set[str] = set()
        self.calls: set[tuple[str, str]] = set()

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        if not self.on or event != "call" or file_of(frame) is None:
            return
        if frame.f_code.co_name == "send_with_id":
            return  # the way back
        chain = [name for name in map(file_of, with_callers(frame)) if name is not None]
        if chain[-1] == "documentation":
            return  # the gateway's own requests, which may overlap with the test's
        self.files.add(chain[0])
        self.calls.update((caller, called) for called, caller in itertools.pairwise(chain) if called != caller)


def with_callers(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def file_of(frame: FrameType) -> str | None:
    path = frame.f_code.co_filename
    return Path(path).stem if path.startswith(FOLDER) else None


@pytest.fixture
def trace() -> Iterator[Trace]:
    """Follows the threads that start from now on."""
    before = threading.getprofile()
    found = Trace()
    threading.setprofile(found)
    yield found
    threading.setprofile(before)


@pytest.mark.parametrize(
    ("method", "path", "passed"),
    [
        ("POST", "/predict", set(PATH)),
        ("POST", "/ingest", set(PATH) - {"rate_limit"}),
        ("POST", "/train", set(PATH) - {"rate_limit"}),
        ("GET", "/info", set(PATH) - {"rate_limit"}),
    ],
)
def test_a_request_passes_five_files_and_none_twice(
    service: Service, trace: Trace, method: str, path: str, passed: set[str]
) -> None:
    urls = {f"{name}_url": service.url for name in ("predict", "train", "ingest")}
    with (
        running(**urls) as gateway,
        httpx2.Client(base_url=gateway.url, headers=bearer(role="admin"), timeout=PATIENCE_S) as client,
    ):
        for _ in range(2):  # over a new connection, and over a kept one
            trace.on = True
            assert client.request(method, path, content=b"x" if method == "POST" else None).status_code == 200
            trace.on = False
    assert trace.files == passed
    assert all(PATH.index(calling) < PATH.index(called) for calling, called in trace.calls)
