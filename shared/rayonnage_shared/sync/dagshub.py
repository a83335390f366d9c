"""Credentials of DagsHub, which hosts a DVC remote and an MLflow server behind one token."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, SecretStr

from rayonnage_shared.core.settings import OptionalSecret, OptionalText, Settings

_HOST = "dagshub.com"


class DagshubSettings(Settings):
    """The account on DagsHub."""

    dagshub_username: OptionalText = Field(
        None, description="User on DagsHub, for a DVC remote and an MLflow server at dagshub.com."
    )
    dagshub_token: OptionalSecret = Field(
        None, description="Token of that user; used instead of the keys and passwords of DVC and MLflow there."
    )


def with_dagshub(values: Any, address: str, login: tuple[str, str], *, user_is_token: bool = False) -> Any:
    """Return the raw settings with the DagsHub account as `login` (user, password), if `address` is at DagsHub.

    DagsHub's S3 takes the token as access key and as secret: `user_is_token`.
    """
    if not isinstance(values, dict) or not values.get("dagshub_token") or not is_at_dagshub(values.get(address)):
        return values
    token = values["dagshub_token"]
    text = token.get_secret_value() if isinstance(token, SecretStr) else token
    user, password = login
    return {**values, user: text if user_is_token else values.get("dagshub_username"), password: token}


def is_at_dagshub(address: object) -> bool:
    """Return whether an address is one of DagsHub's."""
    if not isinstance(address, str):
        return False
    try:
        host = urlsplit(address).hostname or ""
    except ValueError:
        return False
    return host == _HOST or host.endswith(f".{_HOST}")
