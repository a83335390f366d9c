"""What a token must be to be believed."""

from __future__ import annotations

import base64
import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st
from jose import jwk, jwt
from pydantic import SecretStr

from rayonnage_shared.auth import tokens
from rayonnage_shared.auth.schemas import Revocation
from rayonnage_shared.auth.tokens import SHARED_SECRET_KID, TokenVerifier
from rayonnage_shared.core.errors import DependencyDown, InvalidSetting, NotAuthenticated
from rayonnage_shared.core.settings import TokenSettings

SECRET = "0123456789abcdef" * 4


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


EC_KEY = _pem(ec.generate_private_key(ec.SECP256R1()))
OTHER_EC_KEY = _pem(ec.generate_private_key(ec.SECP256R1()))
RSA_KEY = _pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))


def _public(pem: str, algorithm: str, kid: str = "k1") -> dict[str, Any]:
    return {**jwk.construct(pem, algorithm).public_key().to_dict(), "kid": kid, "use": "sig"}


def _settings(**fields: Any) -> TokenSettings:
    return TokenSettings(_env_file=None, **fields)


def _claims(**changed: Any) -> dict[str, Any]:
    moment = time.time()
    claims = {
        "sub": "alice",
        "role": "user",
        "jti": "t1",
        "iat": moment,
        "exp": moment + 60,
        "iss": "rayonnage",
        "aud": "rayonnage",
        "use": "access",
        **changed,
    }
    return {name: value for name, value in claims.items() if value is not None}


def _signed(pem: str = EC_KEY, algorithm: str = "ES256", kid: str = "k1", **changed: Any) -> str:
    return jwt.encode(_claims(**changed), pem, algorithm, headers={"kid": kid})


def _dated(claim: str, value: object) -> str:
    return jwt.encode({**_claims(), claim: value}, EC_KEY, "ES256", headers={"kid": "k1"})


def _verifier() -> TokenVerifier:
    verifier = TokenVerifier(_settings())
    verifier.replace_keys([_public(EC_KEY, "ES256")])
    return verifier


@pytest.mark.parametrize(("algorithm", "pem"), [("ES256", EC_KEY), ("RS256", RSA_KEY)])
def test_a_token_signed_with_a_published_key_speaks_for_its_user(algorithm: str, pem: str) -> None:
    verifier = TokenVerifier(_settings(algorithm=algorithm))
    verifier.replace_keys([_public(pem, algorithm)])
    principal = verifier.verify(_signed(pem, algorithm, iat=1234.567891))
    assert (principal.username, principal.role, principal.token_id) == ("alice", "user", "t1")
    assert principal.issued_at == 1234.567891


def test_hs256_works_with_the_shared_secret_alone() -> None:
    verifier = TokenVerifier(_settings(algorithm="HS256", secret_key=SecretStr(SECRET)))
    assert verifier.verify(_signed(SECRET, "HS256", SHARED_SECRET_KID)).username == "alice"
    verifier.replace_keys([_public(EC_KEY, "ES256")])
    with pytest.raises(NotAuthenticated):
        verifier.verify(_signed())
    with pytest.raises(NotAuthenticated):
        verifier.verify(_signed("x" * 64, "HS256", SHARED_SECRET_KID))


@pytest.mark.parametrize("secret", [None, "", "x", "x" * 31, "change-me-" * 5])
def test_tiny_or_example_secrets_are_refused(secret: str | None) -> None:
    with pytest.raises(InvalidSetting, match="SECRET_KEY"):
        _settings(algorithm="HS256", secret_key=secret)


def _segment(part: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def _hmac_with_public_key() -> str:
    """The classic confusion: the public key, which everybody knows, used as an HMAC secret."""
    import hashlib
    import hmac

    public = jwk.construct(EC_KEY, "ES256").public_key().to_pem()
    body = f"{_segment({'alg': 'HS256', 'typ': 'JWT', 'kid': 'k1'})}.{_segment(_claims())}"
    signature = hmac.new(public, body.encode(), hashlib.sha256).digest()
    return f"{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def _unsigned(algorithm: str) -> str:
    return f"{_segment({'alg': algorithm, 'typ': 'JWT', 'kid': 'k1'})}.{_segment(_claims())}."


def _tampered() -> str:
    header, _, signature = _signed().split(".")
    return f"{header}.{_segment(_claims(role='admin'))}.{signature}"


def _without(claim: str) -> str:
    absent: dict[str, Any] = {claim: None}
    return _signed(**absent)


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(_hmac_with_public_key(), id="HS256 with the public key"),
        pytest.param(_unsigned("none"), id="alg none"),
        pytest.param(_unsigned("ES256"), id="no signature"),
        pytest.param(_tampered(), id="claims changed"),
        pytest.param(_signed(RSA_KEY, "RS256"), id="another algorithm"),
        pytest.param(_signed(OTHER_EC_KEY), id="forged with another key"),
        pytest.param(_signed(kid="k2"), id="unknown kid"),
        pytest.param(jwt.encode(_claims(), EC_KEY, "ES256"), id="no kid"),
        pytest.param(_signed(exp=time.time() - 5), id="expired"),
        *(
            pytest.param(_dated(claim, value), id=f"{claim} {name}")
            for claim in ("exp", "iat")
            for name, value in {
                "infinite": math.inf,
                "minus infinity": -math.inf,
                "nan": math.nan,
                "huge": 10**400,
                "far": 1e300,
                "text": "4102444800",
                "true": True,
                "list": [4102444800],
            }.items()
        ),
        pytest.param(_signed(nbf=time.time() + 600), id="not yet valid"),
        pytest.param(_signed(aud="elsewhere"), id="wrong audience"),
        pytest.param(_signed(iss="elsewhere"), id="wrong issuer"),
        pytest.param(_signed(use="refresh"), id="not an access token"),
        pytest.param(_signed(role="root"), id="unknown role"),
        *(
            pytest.param(_without(claim), id=f"without {claim}")
            for claim in ("sub", "role", "jti", "iat", "exp", "iss", "aud", "use")
        ),
        pytest.param("", id="empty"),
        pytest.param("a.b.c", id="nonsense"),
        pytest.param("é.é.é", id="not ASCII"),
        pytest.param(_signed() + "A" * 5000, id="too long"),
        pytest.param(
            base64.urlsafe_b64encode(b"[" * 2900).rstrip(b"=").decode() + ".e30.AAAA", id="a deeply nested header"
        ),
        pytest.param(f"{_segment({'alg': 'ES256', 'kid': {}})}.e30.AAAA", id="kid is no text"),
    ],
)
def test_every_other_token_is_refused(token: str) -> None:
    verifier = _verifier()
    with pytest.raises(NotAuthenticated) as refused:
        verifier.verify(token)
    assert refused.value.headers["WWW-Authenticate"] == "Bearer"
    assert token not in refused.value.detail or not token


STRICT = _verifier()


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: raw.decode("latin-1")))
def test_no_text_makes_the_verifier_fail_in_another_way(text: str) -> None:
    with pytest.raises(NotAuthenticated):
        STRICT.verify(text)


async def test_before_the_first_key_the_platform_says_that_it_is_not_ready() -> None:
    verifier = TokenVerifier(_settings())
    assert not verifier.has_keys
    assert await verifier.why_not_ready() == "auth's public keys have not been fetched yet"
    assert await STRICT.why_not_ready() is None
    with pytest.raises(DependencyDown):
        verifier.verify(_signed())


def test_an_unknown_kid_asks_for_newer_keys() -> None:
    verifier = _verifier()
    with pytest.raises(NotAuthenticated):
        verifier.verify(_signed(OTHER_EC_KEY, kid="k2"))
    assert verifier.unknown_key_seen
    verifier.replace_keys([_public(EC_KEY, "ES256"), _public(OTHER_EC_KEY, "ES256", "k2")])
    assert not verifier.unknown_key_seen
    assert verifier.verify(_signed(OTHER_EC_KEY, kid="k2")).username == "alice"


def test_tokens_of_a_retired_key_end_although_they_were_verified_before() -> None:
    verifier = _verifier()
    token = _signed()
    verifier.verify(token)
    verifier.replace_keys([_public(OTHER_EC_KEY, "ES256", "k2")])
    with pytest.raises(NotAuthenticated):
        verifier.verify(token)


def test_a_broken_key_set_leaves_the_former_keys_in_place() -> None:
    verifier = _verifier()
    for broken in ({"kid": "k1", "alg": "ES256", "kty": "EC"}, {"kid": "k1", "kty": "EC"}):
        with pytest.raises(ValueError, match="not a JSON Web Key set"):
            verifier.replace_keys([broken])
    assert verifier.verify(_signed()).username == "alice"


def test_a_token_seen_for_the_first_time_after_its_end_is_refused_as_expired() -> None:
    with pytest.raises(NotAuthenticated, match="expired"):
        _verifier().verify(_signed(exp=time.time() - 5))


def test_a_verified_token_still_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = _verifier()
    token = _signed()
    verifier.verify(token)
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    for _ in range(2):
        with pytest.raises(NotAuthenticated, match="expired"):
            verifier.verify(token)


def test_a_revoked_token_ends_although_it_was_verified_before() -> None:
    verifier = _verifier()
    token, other = _signed(), _signed(jti="t2")
    verifier.verify(token)
    verifier.replace_revocations([Revocation(token_id="t1")])
    with pytest.raises(NotAuthenticated, match="revoked"):
        verifier.verify(token)
    assert verifier.verify(other).token_id == "t2"


def test_a_users_revocation_ends_older_tokens_and_no_newer_one() -> None:
    verifier = _verifier()
    moment = time.time()
    verifier.replace_revocations(
        [
            Revocation(username="alice", issued_before=moment),
            Revocation(username="alice", issued_before=moment - 100),
        ]
    )
    with pytest.raises(NotAuthenticated, match="revoked"):
        verifier.verify(_signed(iat=moment - 0.001))
    assert verifier.verify(_signed(iat=moment, jti="t2"))
    assert verifier.verify(_signed(iat=moment - 0.001, sub="bob", jti="t3")).username == "bob"


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "MAX_CACHED_TOKENS", 5)
    decoded: list[str] = []
    decode = jwt.decode

    def counting(token: str, *arguments: Any, **options: Any) -> dict[str, Any]:
        decoded.append(token)
        return decode(token, *arguments, **options)

    monkeypatch.setattr(jwt, "decode", counting)
    verifier, several = _verifier(), [_signed(jti=str(number)) for number in range(12)]
    for token in several:
        verifier.verify(token)
    decoded.clear()

    for token in several[-5:]:
        verifier.verify(token)
    assert decoded == [], "the newest five are cached"
    verifier.verify(several[-6])
    assert decoded == [several[-6]]


def test_threads_may_share_a_full_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "MAX_CACHED_TOKENS", 2)
    verifier = _verifier()
    several = [_signed(jti=str(number)) for number in range(6)]
    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(verifier.verify, several * 50))
