"""Gauges of the current dataset's size, read at each scrape since the command line ingests too."""

from __future__ import annotations

import math

from prometheus_client import Gauge

from rayonnage_shared.ml.catalogue.datasets import DatasetBroken, DatasetNotFound, DatasetStore

ROWS = Gauge("rayonnage_dataset_rows", "Products in the current dataset version.")
ROWS_WITH_IMAGE = Gauge("rayonnage_dataset_rows_with_image", "Products with a photo in the current dataset version.")


def show_dataset(store: DatasetStore) -> None:
    """Make both gauges report on `store`."""
    ROWS.set_function(lambda: _rows(store)[0])
    ROWS_WITH_IMAGE.set_function(lambda: _rows(store)[1])


def _rows(store: DatasetStore) -> tuple[float, float]:
    """Return the rows and those with a photo; NaN where the dataset is broken, so that the page is still served."""
    version = store.current()
    if version is None:
        return 0, 0
    try:
        dataset = store.describe(version)
    except DatasetNotFound:  # pruned between the two reads
        return 0, 0
    except DatasetBroken:
        return math.nan, math.nan
    return dataset.rows, dataset.rows_with_image
