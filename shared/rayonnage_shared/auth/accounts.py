"""The user store, shared by the auth service and the command line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, cast

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from rayonnage_shared.auth.passwords import PasswordHasher, weakness
from rayonnage_shared.auth.revocations import revoke_everything_of
from rayonnage_shared.auth.schemas import Role, User, UserChange
from rayonnage_shared.core.errors import BadInput, Conflict, NotAllowed, NotAuthenticated, NotFound
from rayonnage_shared.database.engine import reading, writing
from rayonnage_shared.database.tables import UserRow, now

log = structlog.get_logger()

_USERNAME = re.compile(r"[A-Za-z0-9._@-]{2,64}")


class UserNotFound(NotFound):
    code, title = "user_not_found", "User not found"


class UsernameTaken(Conflict):
    code, title = "username_taken", "Username already taken"


class LastAdmin(Conflict):
    code, title = "last_admin", "The last active admin cannot be removed"


class WeakPassword(BadInput):
    code, title = "weak_password", "The password is too weak"


class WrongPassword(NotAllowed):
    code, title = "wrong_password", "The current password is wrong"


class WrongCredentials(NotAuthenticated):
    """The same answer whatever was wrong; `reason` is for metrics and logs only."""

    code, title = "wrong_credentials", "The login was refused"

    def __init__(
        self,
        detail: str = "Wrong username or password.",
        *,
        reason: str = "unknown",
        headers: dict[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail, headers=headers, **extra)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class VerifiedUser:
    """A user whose password was checked, and the hash it matched. Tokens are issued only while that hash is current."""

    username: str
    password_hash: str


class Accounts:
    """Users in the database.

    Changing the password, role or active state, or deleting a user, revokes the user's tokens.

    Methods that take a password hash it (50 ms, 19 MiB) before they take any lock.
    """

    def __init__(self, engine: Engine, hasher: PasswordHasher) -> None:
        self._engine = engine
        self._hasher = hasher

    def users(self) -> list[User]:
        """Return all users by name."""
        with reading(self._engine) as session:
            return [_user(row) for row in session.exec(select(UserRow).order_by(col(UserRow.username)))]

    def get(self, username: str) -> User:
        """Return one user. Raises UserNotFound."""
        with reading(self._engine) as session:
            return _user(_found(session.get(UserRow, username), username))

    def create(self, username: str, password: str, role: Role = "user") -> User:
        """Return the new user. Raises UsernameTaken, WeakPassword or BadInput."""
        _refuse_weak(password, username)
        return self._insert(username, password, role)

    def verify(self, username: str, password: str) -> VerifiedUser:
        """Check a login. Raises WrongCredentials; takes the same time whether the user exists or not."""
        row = None
        if _USERNAME.fullmatch(username):
            with reading(self._engine) as session:
                row = session.get(UserRow, username)
        fits = self._hasher.matches(password, row.password_hash if row else None)
        if row is None:
            raise WrongCredentials(reason="unknown_user")
        if not fits:
            raise WrongCredentials(reason="wrong_password")
        if not row.active:
            raise WrongCredentials(reason="inactive_user")
        return VerifiedUser(row.username, row.password_hash)

    def change(self, username: str, change: UserChange) -> User:
        """Change a user and return it. Raises UserNotFound, LastAdmin or WeakPassword."""
        password_hash = None
        if change.password is not None:
            _refuse_weak(change.password.get_secret_value(), username)
            password_hash = self._hasher.hash(change.password.get_secret_value())
        with writing(self._engine) as session:
            admins = _locked_admins(session)
            row = _locked(session, username)
            before = (row.role, row.active, row.password_hash)
            row.role = change.role or row.role
            row.active = row.active if change.active is None else change.active
            row.password_hash = password_hash or row.password_hash
            if not (row.role == "admin" and row.active):
                _refuse_without(admins, username)
            if (row.role, row.active, row.password_hash) != before:
                session.add(row)
                revoke_everything_of(session, username)
            return _user(row)

    def change_own_password(self, username: str, current: str, new: str) -> None:
        """Replace the password. Raises WrongPassword, WeakPassword or UserNotFound."""
        _refuse_weak(new, username)
        try:
            verified = self.verify(username, current)
        except WrongCredentials as error:
            raise WrongPassword("The current password is wrong; nothing was changed.") from error
        new_hash = self._hasher.hash(new)
        with writing(self._engine) as session:
            row = _locked(session, username)
            if row.password_hash != verified.password_hash:
                raise WrongPassword("The password was changed by another request at the same time.")
            row.password_hash = new_hash
            session.add(row)
            revoke_everything_of(session, username)

    def delete(self, username: str) -> None:
        """Remove the user. Raises UserNotFound or LastAdmin."""
        with writing(self._engine) as session:
            admins = _locked_admins(session)
            row = _locked(session, username)
            _refuse_without(admins, username)
            revoke_everything_of(session, username)
            session.delete(row)

    def has_active_admin(self) -> bool:
        with reading(self._engine) as session:
            return session.exec(_active_admins()).first() is not None

    def ensure_first_admin(self, username: str | None, password: str | None) -> None:
        """Create the admin that the settings name if there is no active admin; otherwise log what to do.

        The settings check the password's strength: a weak one is allowed in development.
        """
        if self.has_active_admin():
            return
        if not username or not password:
            log.warning("auth.admin.missing", advice="set ADMIN_USERNAME and ADMIN_PASSWORD, or `rayonnage users add`")
            return
        try:
            self._insert(username, password, "admin")
        except UsernameTaken:
            # Another process created it first, or the name belongs to a user without the admin role.
            if not self.has_active_admin():
                log.warning("auth.admin.missing", username=username, advice="rayonnage users set-role")
        else:
            log.info("auth.admin.created", username=username)

    def ensure_test_user(self, username: str, password: str) -> None:
        """Create this user, with the role `user`, unless there is one of this name; log why it cannot be created."""
        with reading(self._engine) as session:
            if session.get(UserRow, username) is not None:
                return
        try:
            self._insert(username, password, "user")
        except UsernameTaken:  # another process created it first
            return
        except BadInput as error:
            log.warning("auth.test_user.ignored", username=username, reason=error.detail)
        else:
            log.info("auth.test_user.created", username=username)

    def _insert(self, username: str, password: str, role: Role) -> User:
        if not _USERNAME.fullmatch(username):
            raise BadInput("A username has 2 to 64 letters, digits or one of . _ @ -")
        row = UserRow(
            username=username, password_hash=self._hasher.hash(password), role=role, active=True, created_at=now()
        )
        try:
            with writing(self._engine) as session:
                session.add(row)
        except IntegrityError as error:
            raise UsernameTaken(f"The username {username} is taken; choose another one.") from error
        return _user(row)


def lock_user(session: Session, username: str) -> UserRow | None:
    """Return the user's row, locked until the transaction ends, or None.

    All code that writes a user or the user's tokens takes this lock first.
    """
    return session.exec(
        select(UserRow).where(UserRow.username == username).with_for_update().execution_options(populate_existing=True)
    ).first()


def _locked(session: Session, username: str) -> UserRow:
    return _found(lock_user(session, username), username)


def _found(row: UserRow | None, username: str) -> UserRow:
    if row is None:
        raise UserNotFound(f"There is no user {username}; GET /users or `rayonnage users list` shows all users.")
    return row


def _active_admins() -> Any:
    return select(UserRow.username).where(UserRow.role == "admin", col(UserRow.active)).order_by(col(UserRow.username))


def _locked_admins(session: Session) -> set[str]:
    # Lock all admins in one order: two admins who remove each other at once must not both succeed.
    return set(session.exec(_active_admins().with_for_update()).all())


def _refuse_without(admins: set[str], username: str) -> None:
    if admins == {username}:
        raise LastAdmin(f"{username} is the last active admin; give another user the admin role first.")


def _refuse_weak(password: str, username: str) -> None:
    reason = weakness(password, username)
    if reason is not None:
        raise WeakPassword(reason)


def _user(row: UserRow) -> User:
    return User(username=row.username, role=cast(Role, row.role), active=row.active, created_at=row.created_at)
