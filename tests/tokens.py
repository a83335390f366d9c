"""Access tokens for services that verify them with a shared secret (ALGORITHM=HS256)."""

from __future__ import annotations

import time
from typing import Any

from jose import jwt

from rayonnage_shared.auth.schemas import Role

SECRET = "a-shared-secret-for-these-tests-0123456789"


def token(username: str = "ada", role: Role = "user", **claims: Any) -> str:
    """Return an access token that is valid for a day; `claims` replace its own."""
    now = time.time()
    values = {
        "sub": username,
        "role": role,
        "jti": f"{username}-{now}",
        "iat": now,
        "exp": now + 24 * 3600,  # longer than any test run
        "iss": "rayonnage",
        "aud": "rayonnage",
        "use": "access",
    }
    return jwt.encode(values | claims, SECRET, "HS256", headers={"kid": "shared-secret"})


def bearer(username: str = "ada", role: Role = "user") -> dict[str, str]:
    """Return the header that carries such a token."""
    return {"Authorization": f"Bearer {token(username, role)}"}
