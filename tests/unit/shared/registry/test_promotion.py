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
from rayonnage_shared.registry.promotion import NothingToRollBackTo, promote, record_champion, rollback
from tests.unit.shared.ml.bundles.manifests import write_loadable_bundle

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
