"""Revoke access tokens, in the transaction of the change that revokes them."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete, func
from sqlmodel import Session, col, select, update

from rayonnage_shared.auth.schemas import Revocation
from rayonnage_shared.database.tables import RefreshTokenRow, RevocationRow, now

# The longest lifetime that ACCESS_TOKEN_EXPIRE_MINUTES allows: the code that revokes may not know the lifetime of
# the tokens (the command line on another machine).
LONGEST_ACCESS_TOKEN_LIFE = timedelta(days=1)


def revoke_everything_of(session: Session, username: str) -> None:
    """Revoke every token issued to this user so far. The caller holds the lock on the user's row.

    Tokens are issued under the same lock, so each was issued either before this moment or with the user's new state.
    """
    moment = now()
    session.exec(delete(RevocationRow).where(col(RevocationRow.username) == username))
    session.add(RevocationRow(username=username, issued_before=moment, expires_at=moment + LONGEST_ACCESS_TOKEN_LIFE))
    session.exec(
        update(RefreshTokenRow)
        .where(col(RefreshTokenRow.username) == username, col(RefreshTokenRow.revoked_at).is_(None))
        .values(revoked_at=moment)
    )


def revoke_family(session: Session, family: str, access_token_life: timedelta) -> None:
    """Revoke a token family: its refresh tokens, and its access tokens that may still be valid."""
    moment = now()
    rows = session.exec(
        select(RefreshTokenRow).where(RefreshTokenRow.family == family, col(RefreshTokenRow.revoked_at).is_(None))
    )
    for row in rows:
        row.revoked_at = moment
        session.add(row)
        if row.issued_at + access_token_life > moment:
            revoke_token(session, row.access_token_id, row.issued_at + access_token_life)


def revoke_token(session: Session, token_id: str, expires_at: datetime) -> None:
    """Revoke one access token that expires at `expires_at`."""
    # One second after its expiry, which is rounded up to whole seconds.
    session.add(RevocationRow(token_id=token_id, expires_at=expires_at + timedelta(seconds=1)))


def current_revocations(session: Session) -> list[Revocation]:
    """Return the revocations of tokens that have not expired yet."""
    alive = col(RevocationRow.expires_at) > now()
    tokens = session.exec(select(RevocationRow.token_id).where(alive, col(RevocationRow.token_id).is_not(None)))
    users = session.exec(
        select(RevocationRow.username, func.max(RevocationRow.issued_before))
        .where(alive, col(RevocationRow.username).is_not(None))
        .group_by(col(RevocationRow.username))
    )
    return [
        *(Revocation(token_id=token_id) for token_id in tokens.all()),
        *(
            Revocation(username=username, issued_before=issued_before.timestamp())
            for username, issued_before in users.all()
            if issued_before is not None
        ),
    ]


def prune_tokens(session: Session) -> None:
    """Delete expired refresh tokens and revocations."""
    moment = now()
    session.exec(delete(RevocationRow).where(col(RevocationRow.expires_at) <= moment))
    session.exec(delete(RefreshTokenRow).where(col(RefreshTokenRow.expires_at) <= moment))
