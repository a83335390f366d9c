"""Password hashing (argon2id) and password rules."""

from __future__ import annotations

import secrets
import unicodedata

from passlib.hash import argon2

from rayonnage_shared.core.settings import is_example_secret

MIN_PASSWORD_CHARACTERS = 10
MAX_PASSWORD_CHARACTERS = 256
MIN_DISTINCT_CHARACTERS = 5


class PasswordHasher:
    """Hashes and checks passwords with argon2id.

    The defaults are OWASP's (Password Storage Cheat Sheet): 19 MiB, two rounds, one lane; 50 ms here. Callers bound
    how many run at once: each holds its memory, and the work leaves the interpreter lock free.
    """

    def __init__(self, *, memory_kib: int = 19_456, rounds: int = 2) -> None:
        argon2.get_backend()  # loaded now: two threads that load it at first use race
        self._argon2 = argon2.using(type="ID", memory_cost=memory_kib, rounds=rounds, parallelism=1)
        self._nobody = self.hash(secrets.token_urlsafe())

    def hash(self, password: str) -> str:
        return str(self._argon2.hash(_normalised(password)))

    def matches(self, password: str, password_hash: str | None) -> bool:
        """Return whether the password matches. Without a hash (unknown user) return False after the same work."""
        fits = bool(self._argon2.verify(_normalised(password), password_hash or self._nobody))
        return fits and password_hash is not None


def weakness(password: str, username: str) -> str | None:
    """Return why this password is too weak, or None if it is accepted."""
    if not MIN_PASSWORD_CHARACTERS <= len(password) <= MAX_PASSWORD_CHARACTERS:
        return f"The password must have {MIN_PASSWORD_CHARACTERS} to {MAX_PASSWORD_CHARACTERS} characters."
    if len(set(password)) < MIN_DISTINCT_CHARACTERS:
        return f"The password must have at least {MIN_DISTINCT_CHARACTERS} different characters."
    if username and username.lower() in password.lower() and 2 * len(username) >= len(password):
        return "The password must not be based on the username."
    if is_example_secret(password):
        return "The password is a known example value."
    return None


def _normalised(password: str) -> str:
    # Keyboards differ in whether é is one code point or two; both are the same password.
    return unicodedata.normalize("NFC", password)
