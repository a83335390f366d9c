"""Brings up TensorFlow and Keras for one training: quiet, on the cores this process may use, the same every time.

Only training calls this; the import takes 10 s and 600 MB.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from rayonnage_shared.core.errors import RayonnageError
from rayonnage_shared.ml.features.photo_features import usable_cores


class TrainingLibraryMissing(RayonnageError):
    status, code, title = 503, "training_library_missing", "A library that this family is trained with is not installed"


@dataclass(frozen=True, slots=True)
class Runtime:
    """The two modules, imported."""

    tensorflow: Any
    keras: Any

    def frameworks(self) -> dict[str, str]:
        """Return the versions that a trained network depends on."""
        return {
            "tensorflow": self.tensorflow.__version__,
            "keras": self.keras.__version__,
            "tf2onnx": metadata.version("tf2onnx"),
        }


def start_tensorflow(seed: int) -> Runtime:
    """Return TensorFlow and Keras with an empty graph and every random generator at `seed`.

    Raises TrainingLibraryMissing. Operations are deterministic from here on (for the whole process): with as many
    threads a second training gives the same numbers; on 2 cores it takes as long as without.
    """
    # 3: errors only. Read by TensorFlow's C++ part when it is loaded.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    try:
        import tensorflow
    except ModuleNotFoundError as err:
        raise TrainingLibraryMissing(
            "TensorFlow is not installed here; `make keras` adds it, or choose another family."
        ) from err
    import keras

    _bound_threads(tensorflow)
    tensorflow.get_logger().setLevel("ERROR")
    tensorflow.config.experimental.enable_op_determinism()
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    return Runtime(tensorflow, keras)


def _bound_threads(tensorflow: Any) -> None:
    """TensorFlow counts the machine's cores, not those that a container or a worker may use."""
    threading, cores = tensorflow.config.threading, usable_cores()
    if threading.get_intra_op_parallelism_threads() != cores:
        threading.set_intra_op_parallelism_threads(cores)
        threading.set_inter_op_parallelism_threads(cores)
