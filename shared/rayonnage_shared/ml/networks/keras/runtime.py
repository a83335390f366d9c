"""Import TensorFlow and Keras for one training: quiet, on the available cores, deterministic.

Only training uses this; the import takes 10 s and 600 MB.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from typing import Any

from rayonnage_shared.ml.base.model import FamilyNotTrainable
from rayonnage_shared.ml.features.photo_features import usable_cores


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


def check_tensorflow() -> None:
    """Raise FamilyNotTrainable if a library of the extra `keras` is not installed; imports none."""
    missing = [name for name in ("tensorflow", "keras", "tf2onnx") if find_spec(name) is None]
    if missing:
        raise FamilyNotTrainable(
            f"Training this family needs {', '.join(missing)}; "
            "run `make keras` to install it, or choose another family."
        )


def start_tensorflow(seed: int) -> Runtime:
    """Return TensorFlow and Keras with an empty graph and all random generators seeded.

    Raises FamilyNotTrainable. Operations are deterministic from here on (for the whole process): with the
    same number of threads, trainings are reproducible. On 2 cores this costs no time.
    """
    # 3: errors only. Read by TensorFlow's C++ part when it is loaded.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    check_tensorflow()
    import keras
    import tensorflow

    _bound_threads(tensorflow)
    tensorflow.get_logger().setLevel("ERROR")
    tensorflow.config.experimental.enable_op_determinism()
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    return Runtime(tensorflow, keras)


def _bound_threads(tensorflow: Any) -> None:
    """Limit the threads: TensorFlow counts the machine's cores, not those available to the process."""
    threading, cores = tensorflow.config.threading, usable_cores()
    if threading.get_intra_op_parallelism_threads() != cores:
        threading.set_intra_op_parallelism_threads(cores)
        threading.set_inter_op_parallelism_threads(cores)
