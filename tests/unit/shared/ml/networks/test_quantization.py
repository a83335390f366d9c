from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rayonnage_shared.ml.base.model import FloatArray
from rayonnage_shared.ml.calibration.curve import Calibration
from rayonnage_shared.ml.networks.keras.lstm_graph import Dense, Direction, LstmWeights, build_lstm
from rayonnage_shared.ml.networks.quantization import (
    Variant,
    choose,
    quantize_convolutions,
    quantize_recurrences,
    spread,
)

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


def test_int8_that_loses_f1_is_refused_with_the_metrics() -> None:
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


def test_int8_cannot_be_evaluated_without_held_out_rows() -> None:
    chosen = choose("int8", variant(b"fp32", held_out=False), CLASSES, lambda: made(variant(b"int8")))

    assert chosen.facts["used"] == "fp32"
    assert "held-out" in chosen.facts["reason"]


def test_rows_are_spread_evenly() -> None:
    assert spread(np.arange(100, 110), 4).tolist() == [100, 103, 106, 109]
    assert spread(np.arange(3), 128).tolist() == [0, 1, 2]


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.5, shape).astype(np.float32)


def int8_lstm() -> bytes:
    direction = Direction(drawn(5, 16), drawn(4, 16), drawn(16))
    weights = LstmWeights(
        drawn(30, 5), direction, direction, Dense(drawn(16, 6), drawn(6)), Dense(drawn(6, 3), drawn(3))
    )
    return quantize_recurrences(build_lstm(weights))


def int8_convolutions() -> bytes:
    """Return a plain and a depthwise convolution, quantized."""
    first, depthwise = (numpy_helper.from_array(drawn(8, n, 3, 3), f"kernel_{n}") for n in (3, 1))
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["pixels", "kernel_3"], ["wide"]),
            helper.make_node("Relu", ["wide"], ["positive"]),
            helper.make_node("Conv", ["positive", "kernel_1"], ["features"], group=8),
        ],
        "convolutions",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 8, 4, 4])],
        [first, depthwise],
    )
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return quantize_convolutions(network.SerializeToString(), "pixels", [drawn(1, 3, 8, 8)])


def int8_weights(network: bytes) -> dict[str, np.ndarray]:
    """Return the signed 8-bit tensors of a network that are not zero points."""
    tensors = {one.name: numpy_helper.to_array(one) for one in onnx.load_from_string(network).graph.initializer}
    return {name: one for name, one in tensors.items() if one.dtype == np.int8 and one.any()}


@pytest.mark.parametrize("quantize", [int8_lstm, int8_convolutions])
def test_int8_weights_saturate_on_no_processor(quantize: Callable[[], bytes]) -> None:
    """Processors without VNNI add two products of unsigned activations and signed weights in 16 bits."""
    weights = int8_weights(quantize())

    assert len(weights) >= 2
    largest = {name: int(np.abs(values.astype(np.int64)).max()) for name, values in weights.items()}
    assert {name: size for name, size in largest.items() if 2 * 255 * size > np.iinfo(np.int16).max} == {}
    assert max(largest.values()) == 64, "all of the 7 bits are used"
