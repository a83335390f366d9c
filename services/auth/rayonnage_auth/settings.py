"""Settings of the auth service."""

from __future__ import annotations

from pydantic import Field, model_validator

from rayonnage_shared.auth.passwords import weakness
from rayonnage_shared.core.settings import (
    DatabaseSettings,
    KeyFolderSettings,
    OptionalSecret,
    OptionalText,
    Proxies,
    ServiceSettings,
)


class AuthSettings(ServiceSettings, DatabaseSettings, KeyFolderSettings):
    auth_host: str = Field("127.0.0.1", description="Address that auth listens on.")
    auth_port: int = Field(8011, ge=1, le=65535, description="Port that auth listens on.")
    forwarded_allow_ips: Proxies = Field(
        "127.0.0.1", description="Trusted proxies for X-Forwarded-For: addresses or networks, separated by commas."
    )
    admin_username: OptionalText = Field(None, description="First admin, created at start if there is no active admin.")
    admin_password: OptionalSecret = Field(None, description="Password of the first admin, 10 characters or more.")
    test_user: OptionalText = Field(
        None, description="User without the admin role for trying the API, created at start; not in production."
    )
    test_user_password: OptionalSecret = Field(None, description="Password of TEST_USER.")
    refresh_token_expire_days: float = Field(7, gt=0, le=90, description="Lifetime of an unused refresh token, days.")
    login_failures_per_user: int = Field(10, ge=1, description="Failed logins per minute for one username before 429.")
    login_failures_per_address: int = Field(
        30, ge=1, description="Failed logins per minute from one client address before 429."
    )
    password_threads: int = Field(2, ge=1, le=64, description="Passwords hashed at the same time; each takes 19 MiB.")

    @model_validator(mode="after")
    def _refuse_weak_admin_password(self) -> AuthSettings:
        if self.environment != "development" and self.admin_password is not None:
            reason = weakness(self.admin_password.get_secret_value(), self.admin_username or "")
            if reason is not None:
                raise ValueError(f"ADMIN_PASSWORD is refused outside development: {reason}")
        return self
