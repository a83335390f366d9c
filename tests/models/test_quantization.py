"""int8 variants of trained models, accepted and refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from rayonnage_shared.ml.base.model import Fitted, Fitting, ImageModel, Labels, TextModel
from rayonnage_shared.ml.families.image.efficientnet_lite0 import EfficientNetLite0
from rayonnage_shared.ml.families.image.vgg16 import Vgg16
from rayonnage_shared.ml.families.text.lstm import Lstm
from rayonnage_shared.ml.features.photo_features import read_photo_file
from rayonnage_shared.ml.networks import quantization
from tests.models.keras_runs import SMALL_LSTM, SMALL_PHOTOS, draw_colours, shelves

pytestmark = pytest.mark.models

N_PHOTOS = 60
LABELS = Labels(np.arange(N_PHOTOS) % 3, np.arange(N_PHOTOS) // 3 % 5, 4)


@pytest.fixture(scope="module", autouse=True)
def few_rows() -> Iterator[None]:
    """One row of 60 is worth more than a real check allows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantization, "MAX_F1_LOSS", 0.05)
        patch.setattr(quantization, "MAX_ECE_RISE", 0.05)
        yield


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return draw_colours(tmp_path_factory.mktemp("photos"), N_PHOTOS)


@pytest.fixture(scope="module")
def lstm() -> Fitted[Lstm]:
    texts, labels = shelves()
    return Lstm.fit(texts, labels, Fitting({**SMALL_LSTM, "precision": "int8"}))


@pytest.fixture(scope="module")
def efficientnet(photos: list[Path]) -> Fitted[EfficientNetLite0]:
    return EfficientNetLite0.fit(photos, LABELS, Fitting({"precision": "int8"}))


def operators(model: TextModel | ImageModel, folder: Path, file: str) -> set[str]:
    """Return which operators the saved network has."""
    model.save(folder)
    return {node.op_type for node in onnx.load(folder / file).graph.node}


def test_an_int8_lstm_is_used_when_it_is_as_good(lstm: Fitted[Lstm], tmp_path: Path) -> None:
    facts = lstm.facts["precision"]

    assert (facts["asked"], facts["used"], facts["rows"]) == ("int8", "int8", 60)
    assert facts["int8"]["f1_weighted"] >= facts["fp32"]["f1_weighted"] - 0.05
    assert facts["int8"]["megabytes"] < facts["fp32"]["megabytes"]
    assert "DynamicQuantizeLSTM" in operators(lstm.model, tmp_path, "network.onnx")


def test_held_out_rows_of_an_int8_lstm_are_what_it_says_itself(lstm: Fitted[Lstm]) -> None:
    texts, labels = shelves()
    rows = np.flatnonzero(labels.folds == 0)

    said = lstm.model.predict_proba([texts[row] for row in rows])

    np.testing.assert_allclose(said, lstm.held_out[rows], atol=1e-5)


def test_other_rows_change_nothing_for_an_int8_lstm(lstm: Fitted[Lstm], tmp_path: Path) -> None:
    texts, _ = shelves(12)
    together = lstm.model.predict_proba(texts)

    np.testing.assert_array_equal(np.concatenate([lstm.model.predict_proba([text]) for text in texts]), together)
    lstm.model.save(tmp_path)
    np.testing.assert_array_equal(Lstm.load(tmp_path).predict_proba(texts), together)


def test_an_int8_photo_network_is_used_when_it_is_as_good(
    efficientnet: Fitted[EfficientNetLite0], photos: list[Path], tmp_path: Path
) -> None:
    facts = efficientnet.facts["precision"]

    assert (facts["used"], facts["rows"]) == ("int8", N_PHOTOS)
    assert facts["int8"]["megabytes"] < facts["fp32"]["megabytes"] / 3
    assert "QuantizeLinear" in operators(efficientnet.model, tmp_path, "backbone.onnx")
    pixels = np.stack([read_photo_file(photo, 224) for photo in photos[:6]])
    alone = np.concatenate([efficientnet.model.predict_proba(one[None]) for one in pixels])
    np.testing.assert_allclose(alone, efficientnet.model.predict_proba(pixels), atol=1e-5)
    loaded = EfficientNetLite0.load(tmp_path)
    np.testing.assert_array_equal(loaded.predict_proba(pixels), efficientnet.model.predict_proba(pixels))


def test_an_int8_network_that_is_not_as_good_is_refused_and_the_manifest_says_why(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing so small is really bad at this; a check that no network can pass stands for one.
    monkeypatch.setattr(quantization, "MAX_ECE_RISE", -1.0)

    found = EfficientNetLite0.fit(photos, LABELS, Fitting({"precision": "int8"}))

    facts = found.facts["precision"]
    assert facts["used"] == "fp32"
    assert "calibration error" in facts["reason"]
    assert {"fp32", "int8"} <= set(facts)
    assert "QuantizeLinear" not in operators(found.model, tmp_path, "backbone.onnx")


def test_a_keras_photo_network_can_be_int8(photos: list[Path], tmp_path: Path) -> None:
    options = {**SMALL_PHOTOS, "weights": "none", "epochs": 1, "precision": "int8"}

    found = Vgg16.fit(photos, LABELS, Fitting(options))

    facts = found.facts["precision"]
    assert facts["asked"] == "int8"
    assert facts["rows"] == N_PHOTOS // 5
    quantized = "QuantizeLinear" in operators(found.model, tmp_path, "network.onnx")
    assert quantized == (facts["used"] == "int8")
    rows = LABELS.folds == 0
    pixels = np.stack([read_photo_file(photo, 32) for photo, out in zip(photos, rows, strict=True) if out])
    np.testing.assert_allclose(found.model.predict_proba(pixels), found.held_out[rows], atol=1e-4)
