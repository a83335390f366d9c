"""The job types and their concurrency groups."""

from __future__ import annotations

TRAIN_KIND = "train"


SEARCH_KIND = "search"


DRIFT_KIND = "drift"


TRAINING_KINDS = (TRAIN_KIND, SEARCH_KIND)


TRAINING_GROUP = "models"  # trainings move the champion and take all cores: one at a time


DRIFT_GROUP = "drift"  # two reports at once would decide without knowing of each other
