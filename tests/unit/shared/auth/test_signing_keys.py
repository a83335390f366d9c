"""The folder of signing keys: first start, rotation, retirement."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from jose import jwt

from rayonnage_shared.auth.schemas import JsonWebKeys
from rayonnage_shared.auth.signing_keys import (
    PUBLISH_BEFORE_SIGNING,
    KeyFolder,
    SigningKeysUnusable,
    retired,
    signing_key,
)

LIFE = timedelta(minutes=30)
OVERLAP = PUBLISH_BEFORE_SIGNING + LIFE + timedelta(minutes=1)


def _age(path: Path, by: timedelta) -> None:
    """Rename every key of `path` as if it had been made so much earlier."""
    for file in path.glob("*.pem"):
        stamp, _, rest = file.name.partition("-")
        earlier = datetime.strptime(stamp, "%Y%m%dT%H%M%S%fZ").replace(tzinfo=UTC) - by
        file.rename(path / f"{earlier:%Y%m%dT%H%M%S%fZ}-{rest}")


def test_the_first_start_makes_one_private_key_for_its_owner_alone(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path / "keys", "ES256", LIFE)
    folder.ensure()
    folder.ensure()
    (file,) = (tmp_path / "keys").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
def test_what_a_key_signs_its_published_half_verifies(tmp_path: Path, algorithm: str) -> None:
    folder = KeyFolder(tmp_path, algorithm, LIFE)  # type: ignore[arg-type]
    folder.ensure()
    (key,) = folder.load()
    token = jwt.encode({"sub": "alice"}, key.private, algorithm)
    assert jwt.decode(token, key.public.model_dump(), algorithm)["sub"] == "alice"
    assert key.public.kid == key.kid and key.public.alg == algorithm
    assert "d" not in JsonWebKeys(keys=[key.public]).model_dump()["keys"][0]


def test_keys_of_another_algorithm_are_left_alone(tmp_path: Path) -> None:
    KeyFolder(tmp_path, "RS256", LIFE).ensure()
    folder = KeyFolder(tmp_path, "ES256", LIFE)
    folder.ensure()
    assert [key.algorithm for key in folder.load()] == ["ES256"]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_new_key_is_published_at_once_and_signs_when_all_have_seen_it(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path, "ES256", LIFE)
    folder.ensure()
    _age(tmp_path, timedelta(days=1))
    before = folder.fingerprint()
    kid = folder.rotate()
    assert folder.fingerprint() != before
    old, new = folder.published(folder.load())
    assert new.kid == kid
    moment = new.created_at
    assert signing_key([old, new], moment) is old
    assert signing_key([old, new], moment + PUBLISH_BEFORE_SIGNING) is new
    assert signing_key([new], moment) is new


def test_an_old_key_retires_when_its_last_token_has_expired(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path, "ES256", LIFE)
    folder.ensure()
    _age(tmp_path, timedelta(days=1))
    folder.rotate()
    old, new = folder.load()
    last_token_expires = new.created_at + PUBLISH_BEFORE_SIGNING + LIFE
    assert retired([old, new], last_token_expires, OVERLAP) == []
    assert retired([old, new], new.created_at + OVERLAP, OVERLAP) == [old]
    _age(tmp_path, OVERLAP)
    assert [key.created_at for key in folder.published(folder.load())] == [new.created_at - OVERLAP]
    folder.rotate()
    assert len(list(tmp_path.glob("*.pem"))) == 2


def test_a_stolen_key_is_replaced_at_once(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path, "ES256", LIFE)
    folder.ensure()
    kid = folder.rotate(at_once=True)
    assert [key.kid for key in folder.load()] == [kid]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("20260101T000000000000Z-aa.pem", "no key"),
        ("20260101T000000000000Z-aa.pem", ""),
        ("server.pem", "-----BEGIN PRIVATE KEY-----"),
    ],
)
def test_a_foreign_file_is_named_in_the_error(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(SigningKeysUnusable, match=name):
        KeyFolder(tmp_path, "ES256", LIFE).load()


def test_an_unfinished_file_is_no_key(tmp_path: Path) -> None:
    (tmp_path / "20260101T000000000000Z-aa.unfinished").write_text("half a k")
    assert KeyFolder(tmp_path, "ES256", LIFE).load() == []
