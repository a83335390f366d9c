"""Keras networks to ONNX: uint8 pixels or token numbers in, log-probabilities and features out, checked after."""

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
"""Largest difference of a probability between Keras and ONNX Runtime; float32 sums in another order stay below 1e-5."""


class ExportDiffers(RayonnageError):
    code, title = "export_differs", "The exported network does not answer like the trained one"


def export_network(runtime: Runtime, network: Any, input_name: str, shape: tuple[int, ...]) -> bytes:
    """Return a Keras network with outputs scores and features as ONNX; its input is uint8 (n, *shape).

    `scores` are made log-probabilities on the way.
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
    """Return the largest difference of a probability, for the manifest; raises ExportDiffers above TOLERANCE.

    `expected` is what Keras says of `inputs`, real ones.
    """
    answer = ScoringNetwork(network).run(inputs)
    difference = float(np.abs(_probabilities(answer.scores) - _probabilities(expected.scores)).max())
    spread = max(1.0, float(np.abs(expected.features).max()))
    of_features = float(np.abs(answer.features - expected.features).max()) / spread
    if not max(difference, of_features) <= TOLERANCE:
        raise ExportDiffers(
            f"After the export probabilities differ by {difference:.2g} and features by {of_features:.2g} of their "
            f"size, {TOLERANCE:g} is allowed; check the versions of the exporter and of onnxruntime."
        )
    return {"max_difference": difference, "rows": len(inputs)}


def _probabilities(scores: FloatArray) -> FloatArray:
    odds: FloatArray = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))
