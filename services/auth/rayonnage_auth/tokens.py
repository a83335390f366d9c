"""Issue access tokens, and rotate refresh tokens within token families."""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import structlog
from jose import jwt
from jose.backends.base import Key
from sqlalchemy import Engine
from sqlmodel import Session, col, select
from ulid import ULID

from rayonnage_auth.settings import AuthSettings
from rayonnage_shared.auth.accounts import VerifiedUser, WrongCredentials, lock_user
from rayonnage_shared.auth.revocations import revoke_family, revoke_token
from rayonnage_shared.auth.schemas import TokenPair
from rayonnage_shared.auth.tokens import Principal
from rayonnage_shared.core.errors import NotAuthenticated
from rayonnage_shared.database.engine import writing
from rayonnage_shared.database.tables import RefreshTokenRow, UserRow, now

log = structlog.get_logger()


class RefreshRefused(NotAuthenticated):
    code, title = "refresh_refused", "The refresh token is not valid"


class Tokens:
    """Sessions: each login starts a token family. Only its newest refresh token is valid, and only once.

    A refresh token used a second time revokes its family and the family's access tokens, since one of the two callers
    must have stolen it. Of two simultaneous uses exactly one gets new tokens, and the other revokes them. A client
    must therefore refresh in one place at a time, and log in again when a response is lost.

    `signing` returns the current signing key and its `kid`.
    """

    def __init__(self, engine: Engine, settings: AuthSettings, signing: Callable[[], tuple[str, Key]]) -> None:
        self._engine = engine
        self._signing = signing
        self._algorithm = settings.algorithm
        self._issuer = settings.token_issuer
        self._audience = settings.token_audience
        self._access_life = timedelta(minutes=settings.access_token_expire_minutes)
        self._refresh_life = timedelta(days=settings.refresh_token_expire_days)

    def log_in(self, user: VerifiedUser) -> TokenPair:
        """Return the first tokens of a new family. Raises WrongCredentials if the user changed since the check."""
        with writing(self._engine) as session:
            row = lock_user(session, user.username)
            if row is None or not row.active or row.password_hash != user.password_hash:
                raise WrongCredentials(reason="changed_meanwhile")
            return self._issue(session, row, family=str(ULID()))

    def refresh(self, refresh_token: str) -> TokenPair:
        """Exchange a refresh token for new tokens. Raises RefreshRefused."""
        fingerprint = _fingerprint(refresh_token)
        with writing(self._engine) as session:
            row, user = _locked_token(session, fingerprint)
            moment = now()
            if row is None or user is None or row.revoked_at is not None or row.expires_at <= moment:
                raise RefreshRefused("Unknown, expired or revoked; log in again at POST /token.")
            reused = row.used_at is not None
            if reused:
                revoke_family(session, row.family, self._access_life)
            elif not user.active:
                raise RefreshRefused("Unknown, expired or revoked; log in again at POST /token.")
            else:
                row.used_at = moment
                session.add(row)
                return self._issue(session, user, row.family)
        # Raised after the commit: an error inside the block would roll the revocation back.
        log.warning("auth.refresh.reused", username=user.username, family=row.family)
        raise RefreshRefused("This refresh token was used before; all tokens of this login are revoked. Log in again.")

    def log_out(self, principal: Principal) -> None:
        """Revoke this access token and its token family."""
        with writing(self._engine) as session:
            lock_user(session, principal.username)
            family = session.exec(
                select(RefreshTokenRow.family).where(
                    RefreshTokenRow.username == principal.username,
                    RefreshTokenRow.access_token_id == principal.token_id,
                )
            ).first()
            if family is not None:
                revoke_family(session, family, self._access_life)
            revoke_token(session, principal.token_id, now() + self._access_life)

    def _issue(self, session: Session, user: UserRow, family: str) -> TokenPair:
        # Read under the user's lock, so a token is either older than a revocation or issued with the new state.
        moment = now()
        token_id, refresh_token = str(ULID()), secrets.token_urlsafe(32)
        session.add(
            RefreshTokenRow(
                token_sha256=_fingerprint(refresh_token),
                family=family,
                username=user.username,
                access_token_id=token_id,
                issued_at=moment,
                expires_at=moment + self._refresh_life,
            )
        )
        return TokenPair(
            access_token=self._sign(user, token_id, moment),
            expires_in=int(self._access_life.total_seconds()),
            refresh_token=refresh_token,
        )

    def _sign(self, user: UserRow, token_id: str, moment: datetime) -> str:
        kid, key = self._signing()
        claims: dict[str, Any] = {
            "sub": user.username,
            "role": user.role,
            "jti": token_id,
            "iat": moment.timestamp(),  # with microseconds, as revocations are
            "exp": math.ceil((moment + self._access_life).timestamp()),
            "iss": self._issuer,
            "aud": self._audience,
            "use": "access",
        }
        return str(jwt.encode(claims, key, self._algorithm, headers={"kid": kid}))


def _locked_token(session: Session, fingerprint: str) -> tuple[RefreshTokenRow | None, UserRow | None]:
    """Return the rows of this token and of its user, read under the user's lock."""
    same_token = col(RefreshTokenRow.token_sha256) == fingerprint
    username = session.exec(select(RefreshTokenRow.username).where(same_token)).first()
    if username is None:
        return None, None
    user = lock_user(session, username)
    return session.exec(select(RefreshTokenRow).where(same_token)).first(), user


def _fingerprint(refresh_token: str) -> str:
    return hashlib.sha256(refresh_token.encode()).hexdigest()
