from __future__ import annotations

import subprocess
import sys

from tests.waiting import PATIENCE_S

TRAINING_LIBRARIES = [
    "tensorflow",
    "torch",
    "sklearn",
    "pandas",
    "pyarrow",
    "pandera",
    "onnx",
    "scipy",
    "matplotlib",
    "sqlalchemy",
]
PROGRAM = """
import sys
import rayonnage_predict.app
from rayonnage_shared.ml.families import family_names, fusion_family, image_family, text_family
[find(name) for kind, find in {"text": text_family, "image": image_family, "fusion": fusion_family}.items()
 for name in family_names(kind)]
print(*(name for name in sys.argv[1:] if name in sys.modules))
"""


def test_predict_starts_without_training_libraries() -> None:
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, *TRAINING_LIBRARIES],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )

    assert found.stdout.split() == []
