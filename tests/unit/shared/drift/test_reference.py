"""Which dataset is the reference of drift."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayonnage_shared.drift.reference import reference_of
from rayonnage_shared.ml.catalogue.datasets import DatasetNotFound, DatasetStore
from rayonnage_shared.ml.catalogue.ingestion.ingest import ingest
from tests.unit.shared.ml.bundles.manifests import DATASET, VERSION, write_loadable_bundle
from tests.unit.shared.ml.catalogue.catalogues import many_rows, write_csv
from tests.unit.shared.ml.training.test_plan import CATEGORIES


def test_the_demo_catalogue_takes_no_lost_datasets_place(tmp_path: Path) -> None:
    write_loadable_bundle(tmp_path / "models")
    products = write_csv(tmp_path / "features.csv", many_rows(30))
    ingest(DatasetStore(tmp_path), products, None, None, categories=CATEGORIES, demo=True)

    with pytest.raises(DatasetNotFound, match=DATASET):
        reference_of(tmp_path / "models", tmp_path, VERSION)
