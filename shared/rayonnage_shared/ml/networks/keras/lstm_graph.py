"""The LSTM text network as ONNX, written node by node.

tf2onnx turns Keras' masked recurrences into two `Loop`s of 70 small nodes, which take 48 ms for 128 words. ONNX has an
operator for the whole layer, which takes row lengths into account and 2 ms; dynamic int8 quantization supports it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayonnage_shared.ml.networks.keras.onnx_export import IR_VERSION, OPSET
from rayonnage_shared.ml.networks.onnx_graph import OnnxGraph
from rayonnage_shared.ml.networks.scoring_network import FEATURES, SCORES

Weights = NDArray[np.float32]

# Keras orders the gates as input, forget, cell, output; ONNX as input, output, forget, cell.
_GATES = (0, 3, 1, 2)

LOW = np.float32(4)
"""Subtracted from padding before the maximum over states between -1 and 1."""


@dataclass(frozen=True, slots=True)
class Direction:
    """One direction of the recurrence in Keras' layout: (width, 4·units), (units, 4·units) and (4·units,)."""

    kernel: Weights
    recurrent: Weights
    bias: Weights


@dataclass(frozen=True, slots=True)
class Dense:
    """A dense layer in Keras' layout: (inputs, outputs) and (outputs,)."""

    kernel: Weights
    bias: Weights


@dataclass(frozen=True, slots=True)
class LstmWeights:
    """All weights: embedding (size, width), the recurrence both ways, the features' layer and the scores' layer."""

    embedding: Weights
    forward: Direction
    backward: Direction
    features: Dense
    scores: Dense


def build_lstm(weights: LstmWeights) -> bytes:
    """Return the network as serialized ONNX: `tokens` (n, length) int32, 0 behind the last word, to its two outputs.

    Each word's states of both directions are pooled by their mean and by their maximum over the words of the row.
    """
    from onnx import TensorProto, helper

    graph = OnnxGraph()
    units = len(weights.forward.recurrent)
    words = graph.add("Cast", graph.add("Greater", "tokens", graph.constant("padding", np.int32(0))), to=1)
    lengths = graph.add("ReduceSum", words, graph.constant("axis_1", np.array([1])), keepdims=1)
    embedded = graph.add("Gather", graph.constant("embedding", weights.embedding), "tokens")
    states = graph.add(
        "LSTM",
        graph.add("Transpose", embedded, perm=[1, 0, 2]),
        graph.constant("input_weights", _both(weights, lambda one: _gates(one.kernel.T))),
        graph.constant("recurrent_weights", _both(weights, lambda one: _gates(one.recurrent.T))),
        # The second half is a bias of the recurrence, which Keras does not have.
        graph.constant("biases", _both(weights, lambda one: np.append(_gates(one.bias), np.zeros_like(one.bias)))),
        graph.add("Squeeze", graph.add("Cast", lengths, to=TensorProto.INT32), "axis_1"),
        direction="bidirectional",
        hidden_size=units,
    )
    # (length, 2, n, units) to (n, length, 2 · units)
    by_row = graph.add("Transpose", states, perm=[2, 0, 1, 3])
    by_row = graph.add("Reshape", by_row, graph.constant("joined", np.array([0, 0, 2 * units])))
    mask = graph.add("Unsqueeze", words, graph.constant("axis_2", np.array([2])))
    mean = graph.add("Div", graph.add("ReduceSum", graph.add("Mul", by_row, mask), "axis_1", keepdims=0), lengths)
    # States lie between -1 and 1; padding is moved below that.
    lowered = graph.add("Mul", graph.add("Sub", mask, graph.constant("one", np.float32(1))), graph.constant("low", LOW))
    largest = graph.add("ReduceMax", graph.add("Add", by_row, lowered), axes=[1], keepdims=0)
    pooled = graph.add("Concat", mean, largest, axis=1)
    features = graph.add("Relu", _dense(graph, "dense", pooled, weights.features), output=FEATURES)
    graph.add("LogSoftmax", _dense(graph, "head", features, weights.scores), axis=1, output=SCORES)
    tokens = helper.make_tensor_value_info("tokens", TensorProto.INT32, ["n", "length"])
    outputs = [
        helper.make_tensor_value_info(SCORES, TensorProto.FLOAT, ["n", len(weights.scores.bias)]),
        helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, ["n", len(weights.features.bias)]),
    ]
    return graph.serialize("lstm", [tokens], outputs, opset=OPSET, ir_version=IR_VERSION)


def _dense(graph: OnnxGraph, name: str, inputs: str, layer: Dense) -> str:
    kernel, bias = graph.constant(f"{name}_kernel", layer.kernel), graph.constant(f"{name}_bias", layer.bias)
    return graph.add("Add", graph.add("MatMul", inputs, kernel), bias)


def _both(weights: LstmWeights, of: Any) -> Weights:
    both: Weights = np.stack([of(weights.forward), of(weights.backward)])
    return both


def _gates(values: Weights) -> Weights:
    parts = np.split(values, 4)
    return np.concatenate([parts[gate] for gate in _GATES])
