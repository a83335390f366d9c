"""HTTP routes of auth: tokens, users, keys and revocations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import structlog
from anyio import to_thread
from fastapi import APIRouter, Depends, Form, Path, Request, Response
from prometheus_client import Counter
from pydantic import BaseModel, Field, SecretStr

from rayonnage_auth.feed import Feed
from rayonnage_auth.throttle import LoginThrottle, PasswordThreads, TooManyLogins
from rayonnage_auth.tokens import RefreshRefused, Tokens
from rayonnage_shared.auth.accounts import Accounts, WrongCredentials, WrongPassword
from rayonnage_shared.auth.dependencies import CurrentAdmin, CurrentUser
from rayonnage_shared.auth.schemas import (
    JsonWebKeys,
    NewUser,
    PasswordChange,
    RefreshRequest,
    Revocations,
    TokenPair,
    User,
    UserChange,
    Username,
)
from rayonnage_shared.http.problems import problems

log = structlog.get_logger()

LOGIN_FAILURES = Counter("rayonnage_login_failures_total", "Refused logins by reason.", ["reason"])


@dataclass(frozen=True, slots=True)
class Auth:
    """What the routes use; the lifespan creates it."""

    accounts: Accounts
    tokens: Tokens
    feed: Feed
    throttle: LoginThrottle
    passwords: PasswordThreads


async def _auth(request: Request) -> Auth:
    auth: Auth = request.app.state.auth
    return auth


async def _keep_out_of_caches(response: Response) -> None:
    # RFC 6749, section 5.1: responses with tokens must not be cached.
    response.headers["Cache-Control"] = "no-store"


AuthParts = Annotated[Auth, Depends(_auth)]
UserPath = Annotated[Username, Path(description="The user's name.", examples=["camille"])]


class LoginForm(BaseModel):
    """The OAuth2 password form. Other fields, such as `client_id`, are ignored, as RFC 6749 requires."""

    grant_type: Literal["password"] = "password"
    username: str = Field(min_length=1, max_length=64, examples=["admin"])
    password: SecretStr = Field(
        min_length=1, max_length=256, examples=["your password"], json_schema_extra={"format": "password"}
    )
    scope: str = Field("", max_length=256, description="Ignored: the user's role decides.")


token_routes = APIRouter(tags=["tokens"], dependencies=[Depends(_keep_out_of_caches)])
user_routes = APIRouter(prefix="/users", tags=["users"])
service_routes = APIRouter(tags=["for services"])


@token_routes.post("/token", response_model=TokenPair, responses=problems(401, 429, 503))
async def log_in(form: Annotated[LoginForm, Form()], request: Request, auth: AuthParts) -> TokenPair:
    """Log in with username and password; send the access token as `Authorization: Bearer …` with each request."""
    address = request.client.host if request.client else "unknown"
    try:
        auth.throttle.admit(form.username, address)
    except TooManyLogins:
        _count_failure("throttled", address)
        raise
    try:
        user, pair = await auth.passwords.run(lambda: _log_in(auth, form))
    except WrongCredentials as error:
        # An unknown name may be a password typed into the wrong field, so it is not logged.
        _count_failure(error.reason, address, None if error.reason == "unknown_user" else form.username)
        raise
    except Exception:
        auth.throttle.withdraw(form.username, address)
        raise
    auth.throttle.succeeded(form.username, address)
    log.info("auth.login.succeeded", username=user, address=address)
    return pair


def _log_in(auth: Auth, form: LoginForm) -> tuple[str, TokenPair]:
    user = auth.accounts.verify(form.username, form.password.get_secret_value())
    return user.username, auth.tokens.log_in(user)


def _count_failure(reason: str, address: str, username: str | None = None) -> None:
    LOGIN_FAILURES.labels(reason=reason).inc()
    log.warning("auth.login.failed", reason=reason, username=username, address=address)


@token_routes.post("/token/refresh", response_model=TokenPair, responses=problems(401, 503))
async def refresh(body: RefreshRequest, auth: AuthParts) -> TokenPair:
    """Exchange a refresh token for new tokens. A refresh token used twice revokes its whole token family."""
    try:
        return await to_thread.run_sync(auth.tokens.refresh, body.refresh_token)
    except RefreshRefused:
        await to_thread.run_sync(auth.feed.refresh)
        raise


@token_routes.post("/logout", status_code=204, responses=problems(401, 503))
async def log_out(user: CurrentUser, auth: AuthParts) -> None:
    """Revoke this access token and its refresh tokens; every service refuses them within a second."""
    await to_thread.run_sync(auth.tokens.log_out, user)
    await to_thread.run_sync(auth.feed.refresh)
    log.info("auth.logout", username=user.username)


@user_routes.get("/me", response_model=User, responses=problems(401, 404, 503))
async def show_me(user: CurrentUser, auth: AuthParts) -> User:
    """Show the calling user."""
    return await to_thread.run_sync(auth.accounts.get, user.username)


@user_routes.put("/me/password", status_code=204, responses=problems(401, 403, 429, 503))
async def change_my_password(body: PasswordChange, request: Request, user: CurrentUser, auth: AuthParts) -> None:
    """Change the calling user's password. All of the user's tokens are revoked: log in again."""
    address = request.client.host if request.client else "unknown"
    auth.throttle.admit(user.username, address)
    current, new = body.current_password.get_secret_value(), body.new_password.get_secret_value()
    try:
        await auth.passwords.run(lambda: auth.accounts.change_own_password(user.username, current, new))
    except WrongPassword:
        _count_failure("wrong_password", address, user.username)
        raise
    except Exception:
        auth.throttle.withdraw(user.username, address)
        raise
    auth.throttle.succeeded(user.username, address)
    await to_thread.run_sync(auth.feed.refresh)
    log.info("auth.password.changed", username=user.username, by=user.username)


@user_routes.get("", response_model=list[User], responses=problems(401, 403, 503))
async def list_users(_admin: CurrentAdmin, auth: AuthParts) -> list[User]:
    """List all users by name."""
    return await to_thread.run_sync(auth.accounts.users)


@user_routes.post("", response_model=User, status_code=201, responses=problems(401, 403, 409, 503))
async def add_user(body: NewUser, admin: CurrentAdmin, auth: AuthParts) -> User:
    """Add a user."""
    password = body.password.get_secret_value()
    user = await auth.passwords.run(lambda: auth.accounts.create(body.username, password, body.role))
    log.info("auth.user.added", username=user.username, role=user.role, by=admin.username)
    return user


@user_routes.patch("/{username}", response_model=User, responses=problems(401, 403, 404, 409, 503))
async def change_user(username: UserPath, body: UserChange, admin: CurrentAdmin, auth: AuthParts) -> User:
    """Change a user's role, active state or password. The user's tokens are revoked."""
    user = await auth.passwords.run(lambda: auth.accounts.change(username, body))
    await to_thread.run_sync(auth.feed.refresh)
    log.info("auth.user.changed", username=username, fields=sorted(body.model_fields_set), by=admin.username)
    return user


@user_routes.delete("/{username}", status_code=204, responses=problems(401, 403, 404, 409, 503))
async def remove_user(username: UserPath, admin: CurrentAdmin, auth: AuthParts) -> None:
    """Delete a user and revoke the user's tokens. The last active admin cannot be deleted."""
    await to_thread.run_sync(auth.accounts.delete, username)
    await to_thread.run_sync(auth.feed.refresh)
    log.info("auth.user.removed", username=username, by=admin.username)


@service_routes.get("/.well-known/jwks.json", response_model=JsonWebKeys)
async def show_keys(auth: AuthParts) -> JsonWebKeys:
    """Return the public keys that verify tokens, as a JSON Web Key Set."""
    return auth.feed.key_set


@service_routes.get("/internal/revocations", response_model=Revocations)
async def show_revocations(auth: AuthParts) -> Revocations:
    """Return the revoked tokens. Services poll this twice a second."""
    return auth.feed.revocations
