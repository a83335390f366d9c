"""The champion pointer is moved, and a damaged one is repaired by a promotion."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlmodel import col, select

from rayonnage_shared.database.engine import reading
from rayonnage_shared.database.tables import PromotionRow
from rayonnage_shared.ml.bundles.bundle import DECISIONS_NAME
from rayonnage_shared.ml.bundles.champion import POINTER_NAME, ChampionBroken, read_champion
from rayonnage_shared.ml.bundles.manifest import BundleBroken
from rayonnage_shared.registry.promotion import NothingToRollBackTo, OlderData, promote, record_champion, rollback
from tests.unit.shared.ml.bundles.manifests import DATASET, write_loadable_bundle

FIRST, SECOND = "20261121T081500Z-0001", "20261122T081500Z-0002"
BROKEN_POINTERS = ["garbage{", "", "[]", "null", json.dumps({"version": FIRST}), json.dumps({"version": "../../etc"})]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A volume with two bundles that can be loaded, though they have no models."""
    for version in (FIRST, SECOND):
        write_loadable_bundle(tmp_path, version)
    return tmp_path


def champion(models: Path) -> tuple[str, tuple[str, ...]]:
    found = read_champion(models)
    assert found is not None
    return found.version, found.history


def moves(engine: Engine) -> list[str]:
    with reading(engine) as session:
        return list(session.exec(select(PromotionRow.version).order_by(col(PromotionRow.moved_at))))


def test_a_promotion_moves_the_pointer_and_a_rollback_moves_it_back(models: Path, engine: Engine) -> None:
    promote(models, engine, FIRST, "jane", "first")
    moved = promote(models, engine, SECOND, "jane", "better")
    assert (moved.version, moved.previous, champion(models)) == (SECOND, FIRST, (SECOND, (FIRST,)))

    moved = rollback(models, engine, "john", "worse")

    assert (moved.version, moved.previous, champion(models)) == (FIRST, SECOND, (FIRST, ()))
    assert moves(engine) == [FIRST, SECOND, FIRST]
    with pytest.raises(NothingToRollBackTo):
        rollback(models, engine, "john", "once more")


DEMO = {"version": "20261119T081500Z-dddd", "sha256": "ab" * 32, "demo": True}
OLDER = {"version": "20261101T081500Z-aaaa", "sha256": "ab" * 32, "demo": False}


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (DEMO, f"{FIRST} was trained on the demo catalogue, the champion on real products"),
        (OLDER, f"{FIRST} was trained on dataset 20261101T081500Z-aaaa, the champion on the newer {DATASET}"),
    ],
)
def test_a_move_to_older_data_needs_a_flag_and_is_named_in_the_audit(
    models: Path, engine: Engine, dataset: dict[str, object], words: str
) -> None:
    write_loadable_bundle(models, FIRST, dataset=dataset)
    promote(models, engine, FIRST, "jane", "first")
    promote(models, engine, SECOND, "jane", "newer data needs no flag")

    with pytest.raises(OlderData, match=words):
        rollback(models, engine, "john", "worse")
    with pytest.raises(OlderData, match=words):
        promote(models, engine, FIRST, "john", "worse")
    assert champion(models) == (SECOND, (FIRST,))

    moved = rollback(models, engine, "john", "worse", allow_older_data=True)

    assert champion(models) == (FIRST, ())
    assert moved.reason == f"worse (older data allowed: {words})"
    with reading(engine) as session:
        assert moved.reason in session.exec(select(PromotionRow.reason)).all()
    promote(models, engine, SECOND, "jane", "and back")
    assert promote(models, engine, FIRST, "john", "once more", allow_older_data=True).reason.endswith(f"{words})")


def test_anything_replaces_a_champion_whose_manifest_is_broken(models: Path, engine: Engine) -> None:
    write_loadable_bundle(models, FIRST, dataset=OLDER)
    promote(models, engine, SECOND, "jane", "first")
    (models / SECOND / "manifest.json").write_text("{")

    assert promote(models, engine, FIRST, "jane", "repair").reason == "repair"


@pytest.mark.parametrize("content", BROKEN_POINTERS)
def test_a_promotion_repairs_a_broken_pointer(models: Path, engine: Engine, content: str) -> None:
    (models / POINTER_NAME).write_text(content)

    moved = promote(models, engine, SECOND, "jane", "repaired")

    assert (moved.version, moved.previous, champion(models)) == (SECOND, None, (SECOND, ()))
    assert moves(engine) == [SECOND]


@pytest.mark.parametrize("content", BROKEN_POINTERS)
def test_a_rollback_says_what_is_broken_and_how_to_repair_it(models: Path, engine: Engine, content: str) -> None:
    (models / POINTER_NAME).write_text(content)

    with pytest.raises(ChampionBroken, match=r"champion\.json .*promote a version"):
        rollback(models, engine, "jane", "worse")

    assert (models / POINTER_NAME).read_text() == content


def test_a_pointer_without_a_history_is_the_champion(models: Path, engine: Engine) -> None:
    moved_at = datetime.now(UTC).isoformat()
    document = {"version": FIRST, "moved_by": "jane", "reason": "", "move_id": "1", "moved_at": moved_at, "extra": 1}
    (models / POINTER_NAME).write_text(json.dumps(document))

    record_champion(models, engine)
    promote(models, engine, SECOND, "jane", "better")

    assert champion(models) == (SECOND, (FIRST,))
    assert moves(engine) == [FIRST, SECOND]


def test_a_service_starts_beside_a_broken_pointer(models: Path, engine: Engine) -> None:
    (models / POINTER_NAME).write_text("garbage{")
    record_champion(models, engine)
    assert moves(engine) == []


@pytest.mark.parametrize("name", ["manifest.json", DECISIONS_NAME])
def test_a_broken_bundle_is_not_promoted(models: Path, engine: Engine, name: str) -> None:
    promote(models, engine, FIRST, "jane", "first")
    (models / SECOND / name).write_text("{")

    with pytest.raises(BundleBroken, match=SECOND):
        promote(models, engine, SECOND, "jane", "careless")

    assert champion(models) == (FIRST, ())
