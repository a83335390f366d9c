"""Feedback, checked and stored; used by the predict service and the command line.

SQLAlchemy is imported with the first feedback, so that predict starts a second earlier.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rayonnage_shared.core.errors import BadInput, NotFound, RayonnageError
from rayonnage_shared.feedback.schemas import Feedback, FeedbackRequest
from rayonnage_shared.ml.base.categories import Categories
from rayonnage_shared.ml.bundles.champion import read_champion
from rayonnage_shared.ml.bundles.manifest import read_manifest

if TYPE_CHECKING:
    from sqlalchemy import Engine


class PredictionUnknown(NotFound):
    code: ClassVar[str] = "prediction_unknown"
    title: ClassVar[str] = "There is no such prediction"


class UnknownCategory(BadInput):
    code: ClassVar[str] = "unknown_category"
    title: ClassVar[str] = "There is no such category"


@dataclass(frozen=True, slots=True)
class FeedbackService:
    """Checks and stores feedback; `keep_days`, named in refusals, is how long predictions are kept."""

    models_path: Path
    categories: Categories
    keep_days: float | None = None

    def write(self, engine: Engine, request: FeedbackRequest, username: str) -> tuple[Feedback, bool]:
        """Store feedback and return it, with whether it is the first about its prediction.

        Raises UnknownCategory or PredictionUnknown.
        """
        from rayonnage_shared.feedback.repository import store_feedback
        from rayonnage_shared.predictions.repository import find_prediction

        self._check(request.category_id)
        row = find_prediction(engine, request.prediction_id)
        if row is None:
            raise self._unknown(request)
        demo = _trained_on_demo(self.models_path, row.version)
        stored = store_feedback(engine, request.prediction_id, request.category_id, username=username, demo=demo)
        if stored is None:
            raise self._unknown(request)
        feedback = Feedback(
            prediction_id=request.prediction_id,
            category_id=request.category_id,
            predicted=str(row.category_id),
            correct=row.category_id == request.category_id,
            given_by=username,
            given_at=stored.given_at,
        )
        return feedback, stored.is_first

    def _check(self, category_id: int) -> None:
        """Raise UnknownCategory unless the code has a label, or was added by an ingest and the champion knows it."""
        if category_id not in self.categories.labels and category_id not in _champion_codes(self.models_path):
            raise UnknownCategory(f"{category_id} is not one of the known product type codes.")

    def _unknown(self, request: FeedbackRequest) -> PredictionUnknown:
        days = "" if self.keep_days is None else f", {self.keep_days:g} days"
        return PredictionUnknown(
            f"There is no prediction {request.prediction_id} in the log: it was not made here, or it is older than "
            f"PREDICTION_LOG_DAYS{days}."
        )


def _champion_codes(models_path: Path) -> tuple[int, ...]:
    champion = read_champion(models_path)
    return () if champion is None else read_manifest(models_path, champion.version).categories.codes


def _trained_on_demo(models_path: Path, version: str) -> bool:
    """Return whether a bundle was trained on the demo catalogue; True for a bundle that cannot be read.

    Feedback about a demo model must not get into real data, and a removed bundle may have been one.
    """
    try:
        return _is_demo(models_path, version)
    except RayonnageError:
        return True


@lru_cache(maxsize=64)
def _is_demo(models_path: Path, version: str) -> bool:
    return read_manifest(models_path, version).dataset.demo
