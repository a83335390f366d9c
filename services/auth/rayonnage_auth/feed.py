"""Public keys and revocations, cached in memory for the services that poll them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import structlog
from anyio import to_thread
from jose import jwk
from jose.backends.base import Key
from sqlalchemy import Engine

from rayonnage_auth.settings import AuthSettings
from rayonnage_shared.auth.revocations import current_revocations, prune_tokens
from rayonnage_shared.auth.schemas import JsonWebKeys, Revocations
from rayonnage_shared.auth.signing_keys import KeyFolder, SigningKey, signing_key
from rayonnage_shared.auth.tokens import SHARED_SECRET_KID, TokenVerifier
from rayonnage_shared.core.background import background
from rayonnage_shared.database.engine import reading, writing

log = structlog.get_logger()

REFRESH_S = 0.25  # services poll every 0.5 s, so a revocation takes effect within a second
PRUNE_S = 600.0


class Feed:
    """Keys and revocations, at most a quarter of a second old, for the routes and for auth's own verifier.

    They are read from the database and the key folder, so changes by the CLI or by another auth process are seen.
    """

    def __init__(self, engine: Engine, settings: AuthSettings, verifier: TokenVerifier) -> None:
        self._engine = engine
        self._verifier = verifier
        self._folder: KeyFolder | None = None
        self._secret: Key | None = None
        self._fingerprint: tuple[str, ...] = ()
        self._keys: list[SigningKey] = []
        self._failing: str | None = None
        self.key_set = JsonWebKeys(keys=[])
        self.revocations = Revocations(revocations=[])
        if settings.algorithm == "HS256":
            assert settings.secret_key is not None  # the settings class requires it
            self._secret = jwk.construct(settings.secret_key.get_secret_value(), "HS256")
        else:
            life = timedelta(minutes=settings.access_token_expire_minutes)
            self._folder = KeyFolder(settings.auth_keys_path, settings.algorithm, life)

    def start(self) -> None:
        """Create the first signing key if there is none, then load everything once."""
        if self._folder is not None:
            self._folder.ensure()
        self.refresh()

    def signing(self) -> tuple[str, Key]:
        """Return the id and the key that sign new tokens."""
        if self._secret is not None:
            return SHARED_SECRET_KID, self._secret
        key = signing_key(self._keys, datetime.now(UTC))
        return key.kid, key.private

    def refresh(self) -> None:
        """Reload keys and revocations. Blocks while it reads the database."""
        with reading(self._engine) as session:
            self.revocations = Revocations(revocations=current_revocations(session))
        self._verifier.replace_revocations(self.revocations.revocations)
        if self._folder is not None:
            self._refresh_keys(self._folder)

    def _refresh_keys(self, folder: KeyFolder) -> None:
        fingerprint = folder.fingerprint()
        if fingerprint != self._fingerprint:
            found = folder.load()
            if found:
                self._keys = found
                self._fingerprint = fingerprint
        published = JsonWebKeys(keys=[key.public for key in folder.published(self._keys)])
        if published != self.key_set:
            self.key_set = published
            self._verifier.replace_keys(key.model_dump() for key in published.keys)
            log.info("auth.keys.published", kids=[key.kid for key in published.keys])

    @contextlib.asynccontextmanager
    async def kept_current(self) -> AsyncIterator[None]:
        """Refresh in the background until the block ends."""
        stopping = asyncio.Event()
        # Not cancelled: that would close the connection of a read in a thread.
        async with background(self._follow(stopping), stop=stopping.set):
            yield

    async def trouble(self) -> str | None:
        """Return None if the database and the key folder can be read, else the reason."""
        return self._failing

    async def _follow(self, stopping: asyncio.Event) -> None:
        pruned_at = float("-inf")
        while not stopping.is_set():
            try:
                await to_thread.run_sync(self.refresh)
                if time.monotonic() - pruned_at > PRUNE_S:
                    await to_thread.run_sync(self._prune)
                    pruned_at = time.monotonic()
                self._failing = None
            except Exception as error:  # noqa: BLE001 - one that ended the task would keep old revocations for ever
                if self._failing is None:
                    log.warning("auth.feed.stale", error=repr(error))
                self._failing = f"cannot be read ({type(error).__name__})"
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), REFRESH_S)

    def _prune(self) -> None:
        with writing(self._engine) as session:
            prune_tokens(session)
