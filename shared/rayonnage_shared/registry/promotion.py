"""The one place that moves the champion. The pointer is the truth for serving; the audit table follows from it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import structlog
from sqlalchemy import Engine

from rayonnage_shared.core.errors import Conflict
from rayonnage_shared.database.engine import writing
from rayonnage_shared.database.tables import PromotionRow
from rayonnage_shared.ml.bundles.bundle import load_bundle
from rayonnage_shared.ml.bundles.champion import MAX_HISTORY, Champion, champion_lock, read_champion, write_champion
from rayonnage_shared.registry.schemas import Promotion

log = structlog.get_logger()


class NothingToRollBackTo(Conflict):
    code, title = "nothing_to_roll_back_to", "There is no earlier champion"


def promote(models_path: Path, engine: Engine, version: str, by: str, reason: str) -> Promotion:
    """Make `version` the champion; promoting the champion again changes nothing.

    Raises BundleNotFound or BundleBroken, before anything has moved.
    """
    with champion_lock(models_path):
        present = read_champion(models_path)
        if present is not None and present.version == version:
            return _follow(engine, present)
        load_bundle(models_path, version).warm_up()
        history = (*present.history, present.version)[-MAX_HISTORY:] if present else ()
        return _move(models_path, engine, present, Champion(version, by, reason, history))


def rollback(models_path: Path, engine: Engine, by: str, reason: str) -> Promotion:
    """Make the champion before this one the champion again. Raises NothingToRollBackTo."""
    with champion_lock(models_path):
        present = read_champion(models_path)
        if present is None or not present.history:
            raise NothingToRollBackTo("Promote another version with POST /models/{version}/promote.")
        *history, version = present.history
        load_bundle(models_path, version).warm_up()
        return _move(models_path, engine, present, Champion(version, by, reason, tuple(history)))


def record_champion(models_path: Path, engine: Engine) -> None:
    """Bring the audit table up to the pointer, after a crash between the two."""
    with champion_lock(models_path):
        present = read_champion(models_path)
        if present is not None:
            _follow(engine, present)


def _move(models_path: Path, engine: Engine, present: Champion | None, champion: Champion) -> Promotion:
    if present is not None:
        _follow(engine, present)
        champion = Champion(
            champion.version, champion.moved_by, champion.reason, champion.history, previous=present.version
        )
    write_champion(models_path, champion)
    log.info("champion.moved", version=champion.version, previous=champion.previous, by=champion.moved_by)
    return _follow(engine, champion)


def _follow(engine: Engine, champion: Champion) -> Promotion:
    promotion = Promotion(
        version=champion.version,
        previous=champion.previous,
        moved_by=champion.moved_by,
        moved_at=datetime.fromisoformat(champion.moved_at),
        reason=champion.reason,
    )
    with writing(engine) as session:
        if session.get(PromotionRow, champion.move_id) is None:
            session.add(PromotionRow(move_id=champion.move_id, **promotion.model_dump()))
    return promotion
