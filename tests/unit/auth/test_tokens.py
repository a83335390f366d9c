"""Families of refresh tokens."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine
from sqlmodel import col, select, update

from rayonnage_auth.feed import Feed
from rayonnage_auth.settings import AuthSettings
from rayonnage_auth.tokens import RefreshRefused, Tokens
from rayonnage_shared.auth.accounts import Accounts, WrongCredentials
from rayonnage_shared.auth.passwords import PasswordHasher
from rayonnage_shared.auth.revocations import prune_tokens
from rayonnage_shared.auth.schemas import TokenPair, UserChange
from rayonnage_shared.auth.signing_keys import KeyFolder
from rayonnage_shared.auth.tokens import Principal, TokenVerifier
from rayonnage_shared.core.errors import NotAuthenticated
from rayonnage_shared.database.engine import reading, writing
from rayonnage_shared.database.tables import RefreshTokenRow, RevocationRow

GOOD = "correct-horse-battery"


class Platform:
    """The parts of auth without HTTP."""

    def __init__(self, engine: Engine, settings: AuthSettings) -> None:
        self.engine = engine
        self.verifier = TokenVerifier(settings)
        self.accounts = Accounts(engine, PasswordHasher(memory_kib=64, rounds=1))
        self.feed = Feed(engine, settings, self.verifier)
        self.feed.start()
        self.tokens = Tokens(engine, settings, self.feed.signing)
        self.accounts.create("alice", GOOD)

    def log_in(self) -> TokenPair:
        return self.tokens.log_in(self.accounts.verify("alice", GOOD))

    def who(self, pair: TokenPair) -> Principal:
        self.feed.refresh()
        return self.verifier.verify(pair.access_token)

    def refused(self, *pairs: TokenPair) -> bool:
        for pair in pairs:
            with pytest.raises(NotAuthenticated, match="revoked"):
                self.who(pair)
            with pytest.raises(RefreshRefused):
                self.tokens.refresh(pair.refresh_token)
        return True


@pytest.fixture
def platform(engine: Engine, tmp_path: Path) -> Platform:
    settings = AuthSettings(_env_file=None, auth_keys_path=tmp_path / "keys")
    return Platform(engine, settings)


def test_a_login_gives_a_token_that_speaks_for_the_user(platform: Platform) -> None:
    pair = platform.log_in()
    principal = platform.who(pair)
    assert (principal.username, principal.role) == ("alice", "user")
    assert 1799 <= principal.expires_at - principal.issued_at <= 1801
    assert pair.expires_in == 1800


@pytest.mark.parametrize("algorithm", ["RS256", "HS256"])
def test_other_algorithms_work_by_settings(engine: Engine, tmp_path: Path, algorithm: str) -> None:
    settings = AuthSettings(
        _env_file=None,
        auth_keys_path=tmp_path / "keys",
        algorithm=algorithm,
        secret_key=SecretStr("0123456789abcdef" * 4) if algorithm == "HS256" else None,
    )
    platform = Platform(engine, settings)
    assert platform.who(platform.log_in()).username == "alice"
    assert len(platform.feed.key_set.keys) == (0 if algorithm == "HS256" else 1)


def test_a_refresh_token_is_stored_as_a_hash_alone(platform: Platform) -> None:
    pair = platform.log_in()
    with reading(platform.engine) as session:
        row = session.exec(select(RefreshTokenRow)).one()
    assert pair.refresh_token not in row.model_dump_json()
    assert len(row.token_sha256) == 64


def test_each_refresh_gives_a_new_pair_in_the_same_family(platform: Platform) -> None:
    first = platform.log_in()
    second = platform.tokens.refresh(first.refresh_token)
    third = platform.tokens.refresh(second.refresh_token)
    assert len({pair.refresh_token for pair in (first, second, third)}) == 3
    assert len({platform.who(pair).token_id for pair in (first, second, third)}) == 3
    with reading(platform.engine) as session:
        assert len(set(session.exec(select(RefreshTokenRow.family)).all())) == 1


def test_a_refresh_token_used_twice_ends_its_family_and_its_access_tokens(platform: Platform) -> None:
    first, elsewhere = platform.log_in(), platform.log_in()
    second = platform.tokens.refresh(first.refresh_token)
    third = platform.tokens.refresh(second.refresh_token)
    with pytest.raises(RefreshRefused, match="used before"):
        platform.tokens.refresh(first.refresh_token)
    assert platform.refused(first, second, third)
    assert platform.who(elsewhere)
    assert platform.tokens.refresh(elsewhere.refresh_token)


def test_of_two_simultaneous_uses_one_wins_and_the_other_ends_the_family(platform: Platform) -> None:
    for _ in range(8):
        token = platform.log_in().refresh_token

        def use(refresh_token: str = token) -> TokenPair | None:
            try:
                return platform.tokens.refresh(refresh_token)
            except RefreshRefused:
                return None

        with ThreadPoolExecutor(4) as threads:
            found = [future.result(30) for future in [threads.submit(use) for _ in range(4)]]
        (won,) = [pair for pair in found if pair is not None]
        assert platform.refused(won)


def test_unknown_and_expired_refresh_tokens_are_refused(platform: Platform) -> None:
    pair = platform.log_in()
    with pytest.raises(RefreshRefused):
        platform.tokens.refresh("nonsense")
    with writing(platform.engine) as session:
        row = session.exec(select(RefreshTokenRow)).one()
        row.expires_at = row.issued_at
    with pytest.raises(RefreshRefused):
        platform.tokens.refresh(pair.refresh_token)
    assert platform.who(pair)


def test_logging_out_ends_this_session_alone(platform: Platform) -> None:
    here, elsewhere = platform.log_in(), platform.log_in()
    newer = platform.tokens.refresh(here.refresh_token)
    platform.tokens.log_out(platform.who(newer))
    assert platform.refused(here, newer)
    assert platform.who(elsewhere)


@pytest.mark.parametrize(
    "change",
    [
        lambda accounts: accounts.change("alice", UserChange(role="admin")),
        lambda accounts: accounts.change("alice", UserChange(password=SecretStr("paper-clip-mountain"))),
        lambda accounts: accounts.change("alice", UserChange(active=False)),
        lambda accounts: accounts.change_own_password("alice", GOOD, "paper-clip-mountain"),
        lambda accounts: accounts.delete("alice"),
    ],
    ids=["role", "password by admin", "deactivation", "own password", "deletion"],
)
def test_a_change_of_the_user_ends_every_session(platform: Platform, change: Callable[[Accounts], object]) -> None:
    first, second = platform.log_in(), platform.log_in()
    change(platform.accounts)
    assert platform.refused(first, second)


def test_a_token_given_right_after_a_change_is_valid(platform: Platform) -> None:
    platform.accounts.create("root", "another-good-password", "admin")
    for role in ("admin", "user") * 5:
        platform.accounts.change("alice", UserChange.model_validate({"role": role}))
        assert platform.who(platform.log_in()).role == role


def test_no_token_outlives_a_change_made_while_it_was_issued(platform: Platform) -> None:
    """Whatever the order, a token with the old role is refused."""
    platform.accounts.create("root", "another-good-password", "admin")
    for role in ("admin", "user") * 5:
        verified = platform.accounts.verify("alice", GOOD)
        with ThreadPoolExecutor(2) as threads:
            login = threads.submit(platform.tokens.log_in, verified)
            threads.submit(platform.accounts.change, "alice", UserChange.model_validate({"role": role})).result(30)
            pair = login.result(30)
        with contextlib.suppress(NotAuthenticated):
            assert platform.who(pair).role == role


def test_a_login_checked_before_a_password_change_gets_no_token_after_it(platform: Platform) -> None:
    verified = platform.accounts.verify("alice", GOOD)
    platform.accounts.change("alice", UserChange(password=SecretStr("paper-clip-mountain")))
    with pytest.raises(WrongCredentials):
        platform.tokens.log_in(verified)


def test_expired_rows_are_pruned(platform: Platform) -> None:
    for _ in range(2):
        platform.tokens.log_out(platform.who(platform.log_in()))
    kept = platform.log_in()
    with writing(platform.engine) as session:
        session.exec(
            update(RefreshTokenRow)
            .where(col(RefreshTokenRow.revoked_at).is_not(None))
            .values(expires_at=RefreshTokenRow.issued_at)
        )
        for row in session.exec(select(RevocationRow)).all()[1:]:
            row.expires_at -= timedelta(days=2)
        prune_tokens(session)
    with reading(platform.engine) as session:
        assert len(session.exec(select(RefreshTokenRow)).all()) == 1
        assert len(session.exec(select(RevocationRow)).all()) == 1
    assert platform.tokens.refresh(kept.refresh_token)


def test_the_verifier_follows_a_key_rotation_without_a_restart(platform: Platform, tmp_path: Path) -> None:
    before = platform.log_in()
    folder = KeyFolder(tmp_path / "keys", "ES256", timedelta(minutes=30))
    folder.rotate()
    assert platform.who(before)
    assert len(platform.feed.key_set.keys) == 2
    folder.rotate(at_once=True)
    with pytest.raises(NotAuthenticated, match="unknown key"):
        platform.who(before)
    assert platform.who(platform.log_in())
