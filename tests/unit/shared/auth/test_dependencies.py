"""A service keeps the keys and revocations of auth current, whatever auth answers."""

from __future__ import annotations

import functools

import httpx2
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jose import jwk
from structlog.testing import capture_logs

from rayonnage_shared.auth import dependencies
from rayonnage_shared.auth.dependencies import refreshing_keys
from rayonnage_shared.auth.tokens import TokenVerifier
from rayonnage_shared.core.settings import TokenSettings
from tests.waiting import eventually_async

FAILURES = [httpx2.ConnectError("refused"), RuntimeError("no more buffers"), MemoryError(), KeyError("keys")]


def key_set() -> dict[str, object]:
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key = jwk.construct(pem, "ES256").public_key().to_dict()
    return {"keys": [{**key, "kid": "k1", "use": "sig"}]}


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
async def test_keys_are_fetched_again_after_every_failure(failure: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    failures, keys = [failure, failure], key_set()

    def answer(request: httpx2.Request) -> httpx2.Response:
        if failures:
            raise failures.pop()
        return httpx2.Response(200, json=keys if "jwks" in request.url.path else {"revocations": []})

    client = functools.partial(httpx2.AsyncClient, transport=httpx2.MockTransport(answer))
    monkeypatch.setattr(httpx2, "AsyncClient", client)
    monkeypatch.setattr(dependencies, "REVOCATION_POLL_S", 0.0)
    settings = TokenSettings(_env_file=None)
    verifier = TokenVerifier(settings)

    with capture_logs() as logs:
        async with refreshing_keys(verifier, settings):
            assert await eventually_async(lambda: verifier.has_keys)

    assert [entry["event"] for entry in logs] == ["auth.unreachable"], "reported once"
    assert logs[0]["error"] == repr(failure)
