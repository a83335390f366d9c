"""The user store."""

from __future__ import annotations

import pickle
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine

from rayonnage_shared.auth.accounts import (
    Accounts,
    LastAdmin,
    UsernameTaken,
    UserNotFound,
    WeakPassword,
    WrongCredentials,
    WrongPassword,
)
from rayonnage_shared.auth.passwords import PasswordHasher, weakness
from rayonnage_shared.auth.revocations import current_revocations
from rayonnage_shared.auth.schemas import Revocation, UserChange
from rayonnage_shared.core.errors import BadInput
from rayonnage_shared.database.engine import reading

GOOD = "correct-horse-battery"
OTHER = "paper-clip-mountain"


@pytest.fixture
def accounts(engine: Engine) -> Accounts:
    return Accounts(engine, PasswordHasher(memory_kib=64, rounds=1))


def _revocations(engine: Engine) -> list[Revocation]:
    with reading(engine) as session:
        return current_revocations(session)


def test_a_new_user_can_be_listed_and_verified(accounts: Accounts) -> None:
    made = accounts.create("alice", GOOD)
    assert (made.username, made.role, made.active) == ("alice", "user", True)
    assert accounts.users() == [made] == [accounts.get("alice")]
    assert accounts.verify("alice", GOOD).username == "alice"


def test_passwords_are_stored_as_argon2id(accounts: Accounts) -> None:
    accounts.create("alice", GOOD)
    assert accounts.verify("alice", GOOD).password_hash.startswith("$argon2id$")
    assert PasswordHasher().hash(GOOD).startswith("$argon2id$v=19$m=19456,t=2,p=1$")


@pytest.mark.parametrize(
    ("username", "password", "reason"),
    [
        ("alice", OTHER, "wrong_password"),
        ("alice", "", "wrong_password"),
        ("nobody", GOOD, "unknown_user"),
        ("ali\x00ce", GOOD, "unknown_user"),
        ("Alice'; DROP TABLE users; --", GOOD, "unknown_user"),
        ("idle", GOOD, "inactive_user"),
    ],
)
def test_wrong_credentials_are_refused_with_one_answer(
    accounts: Accounts, username: str, password: str, reason: str
) -> None:
    accounts.create("alice", GOOD)
    accounts.create("idle", GOOD)
    accounts.change("idle", UserChange(active=False))
    with pytest.raises(WrongCredentials) as refused:
        accounts.verify(username, password)
    assert refused.value.reason == reason
    assert refused.value.detail == "Wrong username or password."
    assert refused.value.extra == {}
    assert pickle.loads(pickle.dumps(refused.value)).detail == refused.value.detail


def test_an_unknown_user_costs_as_much_time_as_a_wrong_password(engine: Engine) -> None:
    accounts = Accounts(engine, PasswordHasher())
    accounts.create("alice", GOOD)

    def fastest(username: str) -> float:
        times = []
        for _ in range(5):
            started = time.thread_time()
            with pytest.raises(WrongCredentials):
                accounts.verify(username, OTHER)
            times.append(time.thread_time() - started)
        return min(times)

    assert 0.5 < fastest("nobody") / fastest("alice") < 2


def test_one_letter_written_in_two_ways_is_the_same_password(accounts: Accounts) -> None:
    accounts.create("alice", "mot-de-passe-préféré")
    assert accounts.verify("alice", "mot-de-passe-pre\u0301fe\u0301re\u0301")


def test_a_name_is_given_once(accounts: Accounts) -> None:
    accounts.create("alice", GOOD)
    with pytest.raises(UsernameTaken):
        accounts.create("alice", OTHER, "admin")
    assert accounts.get("alice").role == "user"


@pytest.mark.parametrize("username", ["", "a", "a b", "a/b", "é" * 5, "x" * 65, "alice\n"])
def test_odd_names_are_refused(accounts: Accounts, username: str) -> None:
    with pytest.raises(BadInput):
        accounts.create(username, GOOD)


@pytest.mark.parametrize("password", ["short", "x" * 257, "aaaaaaaaaaaa", "alice12345", "please-change-me"])
def test_weak_passwords_are_refused(accounts: Accounts, password: str) -> None:
    with pytest.raises(WeakPassword):
        accounts.create("alice", password)
    assert weakness(GOOD, "alice") is None


def test_change_of_role_activity_or_password_ends_the_users_tokens(accounts: Accounts, engine: Engine) -> None:
    accounts.create("alice", GOOD)
    assert _revocations(engine) == []
    moments = []
    for change in (UserChange(role="admin"), UserChange(password=SecretStr(OTHER))):
        accounts.change("alice", change)
        (only,) = _revocations(engine)
        assert only.username == "alice" and only.issued_before is not None
        moments.append(only.issued_before)
    assert moments == sorted(set(moments))
    assert accounts.verify("alice", OTHER)


def test_a_change_that_changes_nothing_ends_no_token(accounts: Accounts, engine: Engine) -> None:
    accounts.create("alice", GOOD)
    accounts.change("alice", UserChange(role="user", active=True))
    assert _revocations(engine) == []


def test_own_password_needs_the_current_one(accounts: Accounts, engine: Engine) -> None:
    accounts.create("alice", GOOD)
    with pytest.raises(WrongPassword):
        accounts.change_own_password("alice", OTHER, OTHER)
    with pytest.raises(WeakPassword):
        accounts.change_own_password("alice", GOOD, "short")
    assert _revocations(engine) == []
    accounts.change_own_password("alice", GOOD, OTHER)
    assert accounts.verify("alice", OTHER)
    assert [entry.username for entry in _revocations(engine)] == ["alice"]


def test_deleting_ends_the_users_tokens_and_frees_the_name(accounts: Accounts, engine: Engine) -> None:
    accounts.create("alice", GOOD)
    accounts.delete("alice")
    assert [entry.username for entry in _revocations(engine)] == ["alice"]
    with pytest.raises(UserNotFound):
        accounts.get("alice")
    with pytest.raises(UserNotFound):
        accounts.delete("alice")
    with pytest.raises(UserNotFound):
        accounts.change("alice", UserChange(role="admin"))
    accounts.create("alice", OTHER)


def test_the_last_active_admin_stays(accounts: Accounts) -> None:
    accounts.create("root", GOOD, "admin")
    accounts.create("idle", GOOD, "admin")
    accounts.change("idle", UserChange(active=False))
    with pytest.raises(LastAdmin):
        accounts.delete("root")
    with pytest.raises(LastAdmin):
        accounts.change("root", UserChange(role="user"))
    with pytest.raises(LastAdmin):
        accounts.change("root", UserChange(active=False))
    accounts.change("root", UserChange(password=SecretStr(OTHER)))
    accounts.delete("idle")
    accounts.create("second", GOOD, "admin")
    accounts.delete("root")


def test_two_admins_who_remove_each_other_do_not_both_succeed(accounts: Accounts) -> None:
    def remove(username: str) -> bool:
        try:
            accounts.delete(username)
        except LastAdmin:
            return False
        return True

    for round_ in range(10):
        names = [f"left{round_}", f"right{round_}"]
        for name in names:
            accounts.create(name, GOOD, "admin")
        for user in accounts.users():
            if user.username not in names:
                accounts.delete(user.username)
        with ThreadPoolExecutor(2) as threads:
            assert sorted(threads.map(remove, names)) == [False, True]


def test_the_first_admin_comes_from_the_settings_once(accounts: Accounts) -> None:
    accounts.ensure_first_admin("root", GOOD)
    accounts.ensure_first_admin("another", OTHER)
    accounts.ensure_first_admin("root", OTHER)
    assert [user.username for user in accounts.users()] == ["root"]
    assert accounts.verify("root", GOOD)


def test_without_settings_or_with_a_users_name_nobody_becomes_admin(accounts: Accounts) -> None:
    accounts.ensure_first_admin(None, None)
    accounts.create("alice", GOOD)
    accounts.ensure_first_admin("alice", OTHER)
    assert [user.role for user in accounts.users()] == ["user"]
    assert accounts.verify("alice", GOOD)


def test_processes_that_start_together_make_one_first_admin(accounts: Accounts) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: accounts.ensure_first_admin("root", GOOD), range(4)))
    assert [user.role for user in accounts.users()] == ["admin"]
