"""The folder of private keys that sign tokens: creation, rotation, removal."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jose import jwk
from jose.backends.base import Key

from rayonnage_shared.auth.schemas import JsonWebKey
from rayonnage_shared.core.errors import RayonnageError
from rayonnage_shared.core.files import write_atomically

AsymmetricAlgorithm = Literal["ES256", "RS256"]

# Verifiers fetch keys every 60 s (security.access.KEY_POLL_S); a new key signs only after all of them have fetched it.
PUBLISH_BEFORE_SIGNING = timedelta(seconds=120)
_KID_TIME = "%Y%m%dT%H%M%S%fZ"


class SigningKeysUnusable(RayonnageError):
    status, code, title = 500, "signing_keys_unusable", "The signing keys cannot be used"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key, loaded once (parsing RSA from PEM takes 28 ms), and its public key."""

    kid: str
    algorithm: AsymmetricAlgorithm
    created_at: datetime
    private: Key
    public: JsonWebKey


class KeyFolder:
    """Private keys as PEM files `<kid>.pem`, readable by their owner only. A `kid` begins with the time of creation."""

    def __init__(self, path: Path, algorithm: AsymmetricAlgorithm, access_token_life: timedelta) -> None:
        self._path = path
        self._algorithm = algorithm
        self._overlap = PUBLISH_BEFORE_SIGNING + access_token_life + timedelta(minutes=1)

    def fingerprint(self) -> tuple[str, ...]:
        """Return a value that changes when a key is added or removed. Cheap enough to poll several times a second."""
        try:
            return tuple(sorted(path.name for path in self._path.iterdir() if path.suffix == ".pem"))
        except FileNotFoundError:
            return ()

    def load(self) -> list[SigningKey]:
        """Return the keys of the configured algorithm, oldest first. Raises SigningKeysUnusable."""
        keys = [self._read(self._path / name) for name in self.fingerprint()]
        return sorted((key for key in keys if key.algorithm == self._algorithm), key=lambda key: key.created_at)

    def ensure(self) -> None:
        """Create the first key unless there is one."""
        if not self.load():
            self._add()

    def rotate(self, *, at_once: bool = False) -> str:
        """Add a key, delete keys whose tokens have all expired, and return the new key's id.

        `at_once` deletes all older keys now, which invalidates their tokens: for a key that was stolen.
        """
        older = self.load()
        kid = self._add()
        for key in older if at_once else retired(older, datetime.now(UTC), self._overlap):
            (self._path / f"{key.kid}.pem").unlink(missing_ok=True)
        return kid

    def published(self, keys: Sequence[SigningKey]) -> list[SigningKey]:
        """Return the keys that verifiers must trust: all but those whose tokens have all expired."""
        gone = {key.kid for key in retired(keys, datetime.now(UTC), self._overlap)}
        return [key for key in keys if key.kid not in gone]

    def _read(self, path: Path) -> SigningKey:
        try:
            created_at = datetime.strptime(path.stem.partition("-")[0], _KID_TIME).replace(tzinfo=UTC)
            pem = path.read_text("ascii")
            private = serialization.load_pem_private_key(pem.encode(), password=None)
        except (OSError, ValueError, TypeError) as error:
            raise SigningKeysUnusable(f"{path} is not a signing key: {error}. Move it out of the folder.") from error
        algorithm = _algorithm_of(private)
        if algorithm is None:
            raise SigningKeysUnusable(f"{path} holds neither a P-256 nor an RSA key of 2048 bits or more.")
        key = jwk.construct(pem, algorithm)
        public = JsonWebKey.model_validate({**key.public_key().to_dict(), "kid": path.stem, "use": "sig"})
        return SigningKey(path.stem, algorithm, created_at, key, public)

    def _add(self) -> str:
        kid = f"{datetime.now(UTC).strftime(_KID_TIME)}-{secrets.token_hex(4)}"
        private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
        if self._algorithm == "ES256":
            private = ec.generate_private_key(ec.SECP256R1())
        else:
            private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self._path.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(self._path / f"{kid}.pem", pem, mode=0o600)
        return kid


def signing_key(keys: Sequence[SigningKey], moment: datetime) -> SigningKey:
    """Return the newest key that verifiers have had time to fetch, or the only key at first start.

    `keys` are oldest first and not empty.
    """
    known_to_all = [key for key in keys if moment - key.created_at >= PUBLISH_BEFORE_SIGNING]
    return known_to_all[-1] if known_to_all else keys[0]


def retired(keys: Sequence[SigningKey], moment: datetime, overlap: timedelta) -> list[SigningKey]:
    """Return the keys replaced longer than `overlap` ago: all of their tokens have expired."""
    successors = [key.created_at for key in keys if moment - key.created_at >= overlap]
    return [key for key in keys if successors and key.created_at < max(successors)]


def _algorithm_of(private: object) -> AsymmetricAlgorithm | None:
    if isinstance(private, ec.EllipticCurvePrivateKey) and isinstance(private.curve, ec.SECP256R1):
        return "ES256"
    if isinstance(private, rsa.RSAPrivateKey) and private.key_size >= 2048:
        return "RS256"
    return None
