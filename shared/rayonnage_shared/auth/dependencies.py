"""FastAPI dependencies for authentication, and the polling that keeps a verifier current."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Annotated

import httpx2
import structlog
from fastapi import Depends, Request
from fastapi.security import OAuth2PasswordBearer

from rayonnage_shared.auth.schemas import JsonWebKeys, Revocations
from rayonnage_shared.auth.tokens import Principal, TokenVerifier
from rayonnage_shared.core.background import background
from rayonnage_shared.core.errors import NotAllowed, NotAuthenticated
from rayonnage_shared.core.settings import TokenSettings

log = structlog.get_logger()

REVOCATION_POLL_S = 0.5  # revocations must hold within a second: half of it is left for the request itself
KEY_POLL_S = 60.0

bearer = OAuth2PasswordBearer(tokenUrl="token", refreshUrl="token/refresh", auto_error=False)


# `async` although nothing is awaited: FastAPI would run plain functions in a thread, which costs more.
async def current_user(request: Request, token: Annotated[str | None, Depends(bearer)]) -> Principal:
    """Return the calling user. Raises NotAuthenticated."""
    principal = _verified(request.app.state.verifier, token)
    request.state.user = principal.username
    return principal


def verified_caller(verifier: TokenVerifier, authorization: bytes | None) -> Principal:
    """Return the user of an `Authorization` header, as `current_user` does. Raises NotAuthenticated."""
    scheme, _, token = (authorization or b"").decode("latin-1").partition(" ")
    return _verified(verifier, token.strip() if scheme.lower() == "bearer" else None)


def _verified(verifier: TokenVerifier, token: str | None) -> Principal:
    if not token:
        raise NotAuthenticated("Send `Authorization: Bearer <access_token>`; get one at POST /token.")
    return verifier.verify(token)


async def current_admin(user: Annotated[Principal, Depends(current_user)]) -> Principal:
    """Return the calling user, who must be an admin. Raises NotAuthenticated or NotAllowed."""
    check_admin(user)
    return user


def check_admin(user: Principal) -> None:
    """Raise NotAllowed if the user is not an admin."""
    if user.role != "admin":
        raise NotAllowed("This route needs the role `admin`.")


CurrentUser = Annotated[Principal, Depends(current_user)]
CurrentAdmin = Annotated[Principal, Depends(current_admin)]


@contextlib.asynccontextmanager
async def refreshing_keys(verifier: TokenVerifier, settings: TokenSettings) -> AsyncIterator[None]:
    """Keep `verifier` supplied with auth's keys and revocations until the block ends.

    While auth is down, the last known keys and revocations stay in use. No revocation is missed, since nobody can log
    out then.
    """
    async with (
        httpx2.AsyncClient(base_url=settings.auth_url, timeout=2.0) as client,
        background(_poll(verifier, client)),
    ):
        yield


async def _poll(verifier: TokenVerifier, client: httpx2.AsyncClient) -> None:
    keys_fetched_at = float("-inf")
    reachable = True
    while True:
        try:
            if not verifier.has_keys or verifier.unknown_key_seen or time.monotonic() - keys_fetched_at > KEY_POLL_S:
                answer = await client.get("/.well-known/jwks.json")
                answer.raise_for_status()
                keys = JsonWebKeys.model_validate_json(answer.content)
                verifier.replace_keys(key.model_dump() for key in keys.keys)
                keys_fetched_at = time.monotonic()
            answer = await client.get("/internal/revocations")
            answer.raise_for_status()
            verifier.replace_revocations(Revocations.model_validate_json(answer.content).revocations)
            reachable = True
        except Exception as error:  # noqa: BLE001 - revocations must arrive again, whatever it was
            if reachable:
                log.warning("auth.unreachable", error=repr(error))
            reachable = False
        await asyncio.sleep(REVOCATION_POLL_S)
