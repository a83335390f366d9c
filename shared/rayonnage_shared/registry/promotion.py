"""Promotion and rollback. The champion pointer is authoritative; the audit table records each move of it."""

from __future__ import annotations

from pathlib import Path

import structlog
from sqlalchemy import Engine
from sqlmodel import col, select

from rayonnage_shared.core.errors import Conflict
from rayonnage_shared.database.engine import reading, writing
from rayonnage_shared.database.tables import PromotionRow
from rayonnage_shared.ml.bundles.bundle import load_bundle
from rayonnage_shared.ml.bundles.champion import (
    MAX_HISTORY,
    Champion,
    ChampionBroken,
    champion_lock,
    read_champion,
    readable_champion,
    write_champion,
)
from rayonnage_shared.ml.bundles.manifest import BundleBroken, BundleNotFound, read_manifest
from rayonnage_shared.registry.data_order import older_than
from rayonnage_shared.registry.schemas import Promotion

log = structlog.get_logger()

MAX_REASON_CHARACTERS = 1000  # the column's width


class NothingToRollBackTo(Conflict):
    code, title = "nothing_to_roll_back_to", "There is no earlier champion"


class OlderData(Conflict):
    code, title = "older_data", "The version was trained on older data than the champion"


def promote(
    models_path: Path, engine: Engine, version: str, by: str, reason: str, *, allow_older_data: bool = False
) -> Promotion:
    """Make `version` the champion; promoting the champion again changes nothing.

    A broken pointer is replaced; there is then nothing to roll back to. Raises BundleNotFound, BundleBroken or, unless
    it is allowed, OlderData before the pointer is moved.
    """
    with champion_lock(models_path):
        present = _champion_or_repair(models_path)
        if present is not None and present.version == version:
            return _record(engine, present)
        reason = _checked_reason(models_path, present, version, reason, allow_older_data=allow_older_data)
        load_bundle(models_path, version).warm_up()
        history = (*present.history, present.version)[-MAX_HISTORY:] if present else ()
        previous = present.version if present else None
        return _move(models_path, engine, present, Champion.promoted(version, by, reason, history, previous))


def rollback(models_path: Path, engine: Engine, by: str, reason: str, *, allow_older_data: bool = False) -> Promotion:
    """Make the previous champion the champion again.

    Raises NothingToRollBackTo, ChampionBroken, BundleNotFound, BundleBroken or, unless it is allowed, OlderData.
    """
    with champion_lock(models_path):
        present = read_champion(models_path)
        if present is None or not present.history:
            raise NothingToRollBackTo(
                "Promote another version with POST /models/{version}/promote or `rayonnage promote`."
            )
        *history, version = present.history
        reason = _checked_reason(models_path, present, version, reason, allow_older_data=allow_older_data)
        load_bundle(models_path, version).warm_up()
        return _move(
            models_path, engine, present, Champion.promoted(version, by, reason, tuple(history), present.version)
        )


def record_champion(models_path: Path, engine: Engine) -> None:
    """Record the pointer's last move if a crash prevented that; ignore a broken pointer."""
    with champion_lock(models_path):
        present = readable_champion(models_path)
        if present is not None:
            _record(engine, present)


def promotion_history(engine: Engine, limit: int) -> list[Promotion]:
    """Return the newest `limit` rows of the audit table, newest first."""
    newest_first = (col(PromotionRow.moved_at).desc(), col(PromotionRow.move_id).desc())
    with reading(engine) as session:
        rows = session.exec(select(PromotionRow).order_by(*newest_first).limit(limit))
        return [Promotion.model_validate(row, from_attributes=True) for row in rows]


def _checked_reason(
    models_path: Path, present: Champion | None, version: str, reason: str, *, allow_older_data: bool
) -> str:
    """Return the reason for the audit table, which names a move to older data. Raises OlderData if it is not allowed.

    A champion that cannot be read is replaced by anything.
    """
    manifest = read_manifest(models_path, version)
    try:
        champion = read_manifest(models_path, present.version) if present else None
    except (BundleNotFound, BundleBroken):
        champion = None
    older = older_than(models_path, manifest, champion) if champion else None
    if older is None:
        return reason
    if not allow_older_data:
        raise OlderData(f"{older}. To make it the champion, set `allow_older_data` or `--allow-older-data`.")
    return f"{reason} (older data allowed: {older})"[:MAX_REASON_CHARACTERS]


def _champion_or_repair(models_path: Path) -> Champion | None:
    """Return the champion; log a broken pointer, which the promotion replaces, and return None."""
    try:
        return read_champion(models_path)
    except ChampionBroken as error:
        log.warning("champion.pointer_replaced", error=error.detail)
        return None


def _move(models_path: Path, engine: Engine, present: Champion | None, champion: Champion) -> Promotion:
    if present is not None:
        _record(engine, present)
    write_champion(models_path, champion)
    log.info("champion.moved", version=champion.version, previous=champion.previous, by=champion.moved_by)
    return _record(engine, champion)


def _record(engine: Engine, champion: Champion) -> Promotion:
    """Write the move to the audit table unless it is already there."""
    promotion = Promotion(
        version=champion.version,
        previous=champion.previous,
        moved_by=champion.moved_by,
        moved_at=champion.moved_at,
        reason=champion.reason,
    )
    with writing(engine) as session:
        if session.get(PromotionRow, champion.move_id) is None:
            session.add(PromotionRow(move_id=champion.move_id, **promotion.model_dump()))
    return promotion
