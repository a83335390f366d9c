"""What people say about predictions: checked, and written down; used by the predict service and the command line.

SQLAlchemy is imported when something is said for the first time: predict is ready to answer before that.
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
class FeedbackBook:
    """What feedback is checked against; `keep_days`, for what refusals say, is how long predictions are kept."""

    models_path: Path
    categories: Categories
    keep_days: float | None = None

    def check(self, category_id: int) -> None:
        """Raise UnknownCategory unless the code has a name, or came in by an ingest and the champion knows it."""
        if category_id not in self.categories.labels and category_id not in _champion_codes(self.models_path):
            raise UnknownCategory(f"{category_id} is none of the product type codes that are known here.")

    def write(self, engine: Engine, said: FeedbackRequest, username: str) -> tuple[Feedback, bool]:
        """Write down what was said, and return it with whether it is the first word about this prediction.

        Raises UnknownCategory or PredictionUnknown.
        """
        from rayonnage_shared.feedback.repository import give_feedback
        from rayonnage_shared.predictions.repository import find_prediction

        self.check(said.category_id)
        row = find_prediction(engine, said.prediction_id)
        if row is None:
            raise self._unknown(said)
        demo = _learned_from_demo(self.models_path, row.version)
        given = give_feedback(engine, said.prediction_id, said.category_id, username=username, demo=demo)
        if given is None:
            raise self._unknown(said)
        feedback = Feedback(
            prediction_id=said.prediction_id,
            category_id=said.category_id,
            predicted=str(row.category_id),
            correct=row.category_id == said.category_id,
            given_by=username,
            given_at=given.at,
        )
        return feedback, given.is_first

    def _unknown(self, said: FeedbackRequest) -> PredictionUnknown:
        days = "" if self.keep_days is None else f", {self.keep_days:g} days"
        return PredictionUnknown(
            f"No prediction {said.prediction_id} is in the log: it was never made here, or it is older than "
            f"PREDICTION_LOG_DAYS{days}."
        )


def _champion_codes(models_path: Path) -> tuple[int, ...]:
    champion = read_champion(models_path)
    return () if champion is None else read_manifest(models_path, champion.version).categories.codes


def _learned_from_demo(models_path: Path, version: str) -> bool:
    """Return whether a bundle has learned from the demo catalogue; of one that is gone nobody knows, so True.

    What is said about such a model's answers never gets into real data, and one that is gone may have been such.
    """
    try:
        return _is_demo(models_path, version)
    except RayonnageError:
        return True


@lru_cache(maxsize=64)
def _is_demo(models_path: Path, version: str) -> bool:
    return read_manifest(models_path, version).dataset.demo
