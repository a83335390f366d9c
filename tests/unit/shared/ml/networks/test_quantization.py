from __future__ import annotations

import numpy as np
import pytest

from rayonnage_shared.core.errors import BadInput
from rayonnage_shared.ml.base.model import FloatArray
from rayonnage_shared.ml.calibration.curve import Calibration
from rayonnage_shared.ml.networks.quantization import Variant, asked_precision, choose, spread

N = 400
CLASSES = np.arange(N) % 2


def variant(name: bytes, *, wrong: int = 0, confidence: float = 0.95, held_out: bool = True) -> Variant:
    """Return a variant that errs in `wrong` rows of the first 40 and says `confidence` in every row."""
    predicted = np.where(np.arange(N) < wrong, 1 - CLASSES, CLASSES)
    table: FloatArray = np.where(np.arange(2) == predicted[:, None], confidence, 1 - confidence).astype(np.float32)
    if not held_out:
        table[:] = np.nan
    return Variant(name, Calibration(1.0, 0.0, 1.0, np.ones(2, dtype=np.bool_)), table)


def made(int8: Variant) -> Variant:
    return int8


def test_fp32_is_used_where_nothing_else_is_asked_for() -> None:
    def never() -> Variant:
        raise AssertionError

    chosen = choose("fp32", variant(b"fp32"), CLASSES, never)

    assert chosen.variant.network == b"fp32"
    assert chosen.facts == {"asked": "fp32", "used": "fp32"}


def test_int8_is_used_where_it_is_as_good() -> None:
    chosen = choose("int8", variant(b"fp32", wrong=20), CLASSES, lambda: made(variant(b"int8", wrong=21)))

    assert chosen.variant.network == b"int8"
    assert chosen.facts["used"] == "int8"
    assert chosen.facts["rows"] == N
    assert chosen.facts["fp32"]["f1_weighted"] > chosen.facts["int8"]["f1_weighted"]


def test_int8_that_loses_f1_is_refused_with_the_figures() -> None:
    chosen = choose("int8", variant(b"fp32", wrong=20), CLASSES, lambda: made(variant(b"int8", wrong=24)))

    assert chosen.variant.network == b"fp32"
    assert chosen.facts["used"] == "fp32"
    assert "f1_macro" in chosen.facts["reason"]
    assert chosen.facts["int8"]["f1_macro"] == pytest.approx(0.94)


def test_int8_that_promises_too_much_is_refused() -> None:
    chosen = choose(
        "int8", variant(b"fp32", wrong=20), CLASSES, lambda: made(variant(b"int8", wrong=20, confidence=0.97))
    )

    assert chosen.facts["used"] == "fp32"
    assert "calibration error" in chosen.facts["reason"]


def test_int8_cannot_be_judged_without_held_out_rows() -> None:
    chosen = choose("int8", variant(b"fp32", held_out=False), CLASSES, lambda: made(variant(b"int8")))

    assert chosen.facts["used"] == "fp32"
    assert "held out" in chosen.facts["reason"]


def test_there_are_two_precisions() -> None:
    assert asked_precision({"precision": "int8"}) == "int8"
    with pytest.raises(BadInput, match="precision"):
        asked_precision({"precision": "fp16"})


def test_rows_are_spread_evenly() -> None:
    assert spread(np.arange(100, 110), 4).tolist() == [100, 103, 106, 109]
    assert spread(np.arange(3), 128).tolist() == [0, 1, 2]
