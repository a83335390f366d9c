"""The bucket of the DVC remote; `tests/models/test_dvc.py` makes one on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

import pytest

from rayonnage_shared.sync.dvc import bucket
from rayonnage_shared.sync.dvc import bucket as dvc_bucket
from rayonnage_shared.sync.dvc.bucket import WAIT_S, BucketNotCreated, bucket_name, make_bucket
from rayonnage_shared.sync.dvc.settings import VersioningSettings
from tests.clock import Clock
from tests.http_server import serving


@dataclass
class Store:
    """An S3 server as far as `make-bucket` asks; `answers` are the statuses of its first answers."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    buckets: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(dvc_bucket, "_PAUSE_S", 0.05)
    found = Store()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(200 if self.path in found.buckets else 404)

        def do_PUT(self) -> None:
            self.answer(200)
            found.buckets.add(self.path)

        def answer(self, status: int) -> None:
            found.asked.append(f"{self.command} {self.path}")
            assert "Credential=a-key/" in self.headers["Authorization"]
            self.send_response(found.answers.pop(0) if found.answers else status)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with serving(Handler) as found.url:
        yield found


def settings(**values: str) -> VersioningSettings:
    defaults = {
        "dvc_remote_url": "s3://shop/dvc",
        "dvc_endpoint_url": "http://127.0.0.1:1",
        "dvc_access_key_id": "a-key",
        "dvc_secret_access_key": "its-secret",
    }
    return VersioningSettings.model_validate(defaults | values)


def test_the_bucket_is_made_once(store: Store) -> None:
    given = settings(dvc_endpoint_url=store.url)
    assert bucket_name(given) == "shop"
    assert make_bucket(given, "shop") is True
    assert make_bucket(given, "shop") is False
    assert store.asked == ["HEAD /shop", "PUT /shop", "HEAD /shop"]


def test_a_server_that_is_only_starting_is_waited_for(store: Store) -> None:
    store.answers += [503, 500]
    assert make_bucket(settings(dvc_endpoint_url=store.url), "shop")


def test_a_server_that_refuses_is_not_asked_again(store: Store) -> None:
    store.answers += [403]
    with pytest.raises(BucketNotCreated, match="refuses") as refused:
        make_bucket(settings(dvc_endpoint_url=store.url), "shop")
    assert store.asked == ["HEAD /shop"]
    assert "its-secret" not in refused.value.detail


def test_a_server_that_never_comes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(bucket, "time", clock)
    began = clock.now
    with pytest.raises(BucketNotCreated, match="does not answer"):
        make_bucket(settings(), "shop")
    assert WAIT_S <= clock.now - began < 2 * WAIT_S
