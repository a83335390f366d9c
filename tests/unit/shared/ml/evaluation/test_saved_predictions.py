from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

from rayonnage_shared.ml.catalogue.products import Products
from rayonnage_shared.ml.evaluation.saved_predictions import (
    JSON_NAME,
    predictions_path,
    publish_predictions,
    write_predictions,
)
from tests.unit.shared.ml.evaluation.reports import CODES, scores_of


def products(ids: list[str], codes: list[int]) -> Products:
    n = len(ids)
    zeros = np.zeros(n, dtype=np.int64)
    return Products(ids, ["x"] * n, [""] * n, np.array(codes), [None] * n, np.full(n, "test"), zeros, zeros)


def test_each_product_has_truth_decision_and_the_prediction_of_each_modality(tmp_path: Path) -> None:
    path = predictions_path(tmp_path, "20260101T000000Z-abcd")

    write_predictions(path, products(["7:1", "7:2"], [10, 40]), scores_of([0, 2], [1, None], [0, 2]), CODES)

    with path.open(newline="") as file:
        first, second = csv.DictReader(file)
    assert first == {
        "product_id": "7:1",
        "truth": "10",
        "predicted": "10",
        "confidence": "0.8000",
        "decision": "accept",
        "text_predicted": "10",
        "text_probability": "0.8000",
        "image_predicted": "40",
        "image_probability": "0.8000",
    }
    assert (second["truth"], second["predicted"], second["decision"]) == ("40", "2583", "review")
    assert (second["image_predicted"], second["image_probability"]) == ("", "")
    assert [one.name for one in path.parent.iterdir()] == [path.name], "nothing half-written stays"


def test_an_id_that_a_spreadsheet_would_run_is_made_harmless(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    ids = ["=HYPERLINK(1)", "+1", "-1", "@x", "\tx", 'a,"b\nc']

    write_predictions(path, products(ids, [10] * 6), scores_of([0] * 6, [0] * 6, [0] * 6), CODES)

    with path.open(newline="") as file:
        found = [row["product_id"] for row in csv.DictReader(file)]
    assert found == ["'=HYPERLINK(1)", "'+1", "'-1", "'@x", "'\tx", 'a,"b\nc']


def test_the_newest_predictions_are_also_a_json_document_with_numbers(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    write_predictions(table, products(["7:1", "7:2"], [10, 40]), scores_of([0, 2], [1, None], [0, 2]), CODES)
    for version in ("20260101T000000Z-abcd", "20260201T000000Z-abcd"):
        publish_predictions(tmp_path, version, table.read_bytes())

    document = json.loads((tmp_path / "predictions" / JSON_NAME).read_text())

    assert document["version"] == "20260201T000000Z-abcd"
    first, second = document["predictions"]
    assert (first["product_id"], first["truth"], first["predicted"], first["confidence"]) == ("7:1", 10, 10, 0.8)
    assert (second["decision"], second["image_predicted"], second["image_probability"]) == ("review", None, None)
    assert predictions_path(tmp_path, "20260101T000000Z-abcd").read_bytes() == table.read_bytes()
