"""Export Keras networks to ONNX (uint8 pixels or token ids in, log-probabilities and features out) and check them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayonnage_shared.core.errors import RayonnageError
from rayonnage_shared.ml.base.model import FloatArray
from rayonnage_shared.ml.networks.keras.runtime import Runtime
from rayonnage_shared.ml.networks.scoring_network import FEATURES, SCORES, Scored, ScoringNetwork

OPSET, IR_VERSION = 17, 8
TOLERANCE = 1e-4
"""Largest difference of a probability between Keras and ONNX Runtime; the order of float32 sums explains 1e-5."""


class ExportDiffers(RayonnageError):
    code, title = "export_differs", "The exported network gives other outputs than the trained one"


def export_network(runtime: Runtime, network: Any, input_name: str, shape: tuple[int, ...]) -> bytes:
    """Return a Keras network with outputs scores and features as ONNX; its input is uint8 (n, *shape).

    The exported `scores` are log-probabilities.
    """
    import tf2onnx

    tensorflow = runtime.tensorflow
    signature = [tensorflow.TensorSpec((None, *shape), tensorflow.uint8, name=input_name)]

    @tensorflow.function(input_signature=signature)  # type: ignore[untyped-decorator]
    def serve(inputs: Any) -> dict[str, Any]:
        scores, features = network(inputs, training=False)
        return {SCORES: tensorflow.nn.log_softmax(scores), FEATURES: features}

    model, _ = tf2onnx.convert.from_function(serve, input_signature=signature, opset=OPSET)
    by_name = {output.name: output for output in model.graph.output}
    del model.graph.output[:]
    model.graph.output.extend([by_name[SCORES], by_name[FEATURES]])
    model.ir_version = IR_VERSION
    return bytes(model.SerializeToString(deterministic=True))


def check_export(network: bytes, inputs: NDArray[Any], expected: Scored) -> dict[str, float | int]:
    """Return the largest difference of a probability, for the manifest. Raises ExportDiffers above TOLERANCE.

    `expected` is the output of the Keras network for `inputs`, which are real rows.
    """
    answer = ScoringNetwork(network).run(inputs)
    difference = float(np.abs(_probabilities(answer.scores) - _probabilities(expected.scores)).max())
    spread = max(1.0, float(np.abs(expected.features).max()))
    of_features = float(np.abs(answer.features - expected.features).max()) / spread
    if not max(difference, of_features) <= TOLERANCE:
        raise ExportDiffers(
            f"After the export, probabilities differ by {difference:.2g} and features by {of_features:.2g} of their "
            f"size; {TOLERANCE:g} is allowed. Check the versions of the exporter and of onnxruntime."
        )
    return {"max_difference": difference, "rows": len(inputs)}


def _probabilities(scores: FloatArray) -> FloatArray:
    odds: FloatArray = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))
