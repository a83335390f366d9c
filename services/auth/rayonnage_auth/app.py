"""Build the auth service."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import structlog
from anyio import to_thread
from fastapi import FastAPI

from rayonnage_auth.feed import Feed
from rayonnage_auth.routes import Auth, service_routes, token_routes, user_routes
from rayonnage_auth.settings import AuthSettings
from rayonnage_auth.throttle import LoginThrottle, PasswordThreads
from rayonnage_auth.tokens import Tokens
from rayonnage_shared.auth.accounts import Accounts
from rayonnage_shared.auth.passwords import PasswordHasher
from rayonnage_shared.auth.tokens import TokenVerifier
from rayonnage_shared.core.disk import disk_trouble
from rayonnage_shared.database.engine import database_folder, migrate, open_database
from rayonnage_shared.http.app import create_service
from rayonnage_shared.http.outage import answer_outages

log = structlog.get_logger()

MAX_BODY_BYTES = 64 * 1024


def create_app(settings: AuthSettings, hasher: PasswordHasher | None = None) -> FastAPI:
    """Return the auth service. Its lifespan migrates the database and creates the first signing key and admin."""
    verifier = TokenVerifier(settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine = open_database(settings.database_url)
        try:
            await to_thread.run_sync(migrate, engine)
            accounts = Accounts(engine, hasher or PasswordHasher())
            password = settings.admin_password.get_secret_value() if settings.admin_password else None
            await to_thread.run_sync(accounts.ensure_first_admin, settings.admin_username, password)
            await to_thread.run_sync(_add_test_user, accounts, settings)
            feed = Feed(engine, settings, verifier)
            await to_thread.run_sync(feed.start)
            app.state.auth = Auth(
                accounts,
                Tokens(engine, settings, feed.signing),
                feed,
                LoginThrottle(settings.login_failures_per_user, settings.login_failures_per_address),
                PasswordThreads(settings.password_threads),
            )
            async with feed.kept_current():
                yield
        finally:
            engine.dispose()

    database = database_folder(settings.database_url)
    written = [settings.auth_keys_path, *([database] if database else [])]

    async def storage() -> str | None:
        auth: Auth = app.state.auth
        return await auth.feed.trouble() or await to_thread.run_sync(disk_trouble, *written)

    app = create_service(
        title="Rayonnage auth",
        description="Users, roles and tokens.",
        lifespan=lifespan,
        routers=[token_routes, user_routes, service_routes],
        readiness={"database and signing keys": storage},
        max_body_bytes=MAX_BODY_BYTES,
    )
    answer_outages(app)
    app.state.verifier = verifier
    return app


def _add_test_user(accounts: Accounts, settings: AuthSettings) -> None:
    """Create TEST_USER unless it exists; outside development, log that it is ignored."""
    if not settings.test_user:
        return
    if settings.environment != "development":
        log.warning("auth.test_user.ignored", username=settings.test_user, reason="only in development")
    elif settings.test_user_password is None:
        log.warning("auth.test_user.ignored", username=settings.test_user, reason="TEST_USER_PASSWORD is not set")
    else:
        accounts.ensure_test_user(settings.test_user, settings.test_user_password.get_secret_value())
