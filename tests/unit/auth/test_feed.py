"""Auth keeps its keys and revocations current, whatever goes wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine
from structlog.testing import capture_logs

from rayonnage_auth import feed as feed_module
from rayonnage_auth.feed import Feed
from rayonnage_auth.settings import AuthSettings
from rayonnage_shared.auth.signing_keys import KeyFolder
from rayonnage_shared.auth.tokens import TokenVerifier
from tests.waiting import eventually_async


@pytest.mark.parametrize("failure", [OSError(5, "Input/output error"), ValueError("not a PEM file"), MemoryError()])
async def test_the_feed_goes_on_after_every_failure(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    settings = AuthSettings(_env_file=None, auth_keys_path=tmp_path / "keys")
    feed = Feed(engine, settings, TokenVerifier(settings))
    feed.start()
    monkeypatch.setattr(feed_module, "REFRESH_S", 0.0)
    fingerprint, failures, refreshes = KeyFolder.fingerprint, [failure, failure], []

    def failing(folder: KeyFolder) -> tuple[str, ...]:
        if failures:
            raise failures.pop()
        refreshes.append(1)
        return fingerprint(folder)

    monkeypatch.setattr(KeyFolder, "fingerprint", failing)
    with capture_logs() as logs:
        async with feed.kept_current():
            assert await eventually_async(lambda: len(refreshes) > 1)
            assert await feed.trouble() is None

    assert [entry["event"] for entry in logs] == ["auth.feed.stale"], "reported once"
    assert logs[0]["error"] == repr(failure)
