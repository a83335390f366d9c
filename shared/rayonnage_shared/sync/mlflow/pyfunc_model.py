"""A bundle as an MLflow model: `mlflow.pyfunc.load_model` predicts what `/predict` answers.

The saved model contains the bundle, this package's source and pinned requirements, so it loads where Rayonnage is not
installed. Nothing is pickled: MLflow loads it through `_load_pyfunc` below.
"""

from __future__ import annotations

import base64
import binascii
import re
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayonnage_shared.core.errors import BadInput, RayonnageError
from rayonnage_shared.ml.bundles.bundle import Bundle, load_folder
from rayonnage_shared.predictions.inference import predict_product

if TYPE_CHECKING:
    import pandas

PACKAGE = "rayonnage-shared"
INPUTS = ("designation", "description", "image")
OUTPUTS = {"predicted": "string", "label": "string", "probability": "double", "decision": "string", "error": "string"}
EXAMPLE = {"designation": "Piscine gonflable ronde", "description": "Pour enfant, 183 cm"}
_DATA_URI = re.compile(r"data:[\w.+-]+/[\w.+-]+;base64,", re.IGNORECASE)


class BundleModel:
    """The Python model that MLflow calls."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    def predict(self, products: pandas.DataFrame, params: dict[str, Any] | None = None) -> pandas.DataFrame:
        """Return a row for each row of `products` (columns designation, description, image; all may be missing).

        `image` is base64 or a data URI. A row that cannot be predicted has no `predicted` and the reason in `error`.
        """
        import pandas

        rows = [self._row(row) for row in products.to_dict("records")]
        return pandas.DataFrame(rows, columns=list(OUTPUTS), index=products.index)

    def _row(self, row: dict[Any, Any]) -> dict[str, Any]:
        title, description, image = (_text(row.get(name)) for name in INPUTS)
        try:
            photo = _photo(image) if image else None
            categories = self._bundle.manifest.categories
            found = predict_product(self._bundle, categories, title, description, photo, top_k=1).prediction
        except RayonnageError as error:
            return {"predicted": "", "label": "", "probability": float("nan"), "decision": "", "error": error.detail}
        return {
            "predicted": found.predicted,
            "label": found.label,
            "probability": found.confidence,
            "decision": found.decision,
            "error": "",
        }


def _load_pyfunc(data_path: str) -> BundleModel:
    """Return the model in a bundle's folder. MLflow requires this name."""
    bundle = load_folder(Path(data_path))
    bundle.warm_up()
    return BundleModel(bundle)


def save_pyfunc(bundle_folder: Path, target: Path, *, run_id: str, model_id: str) -> None:
    """Write the bundle as an MLflow model into the folder `target`, which must not exist."""
    import pandas
    from mlflow import pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema

    signature = ModelSignature(
        inputs=Schema([ColSpec("string", name, required=False) for name in INPUTS]),
        outputs=Schema([ColSpec(kind, name) for name, kind in OUTPUTS.items()]),
    )
    pyfunc.save_model(
        path=str(target),
        loader_module=__name__,
        data_path=str(bundle_folder),
        code_paths=[str(Path(__file__).parents[2])],
        mlflow_model=Model(run_id=run_id, model_id=model_id, model_uuid=model_id),
        signature=signature,
        input_example=pandas.DataFrame([EXAMPLE]),
        pip_requirements=requirements(),
    )


def requirements() -> list[str]:
    """Return the requirements of serving a bundle from MLflow, pinned to the installed versions."""
    from packaging.requirements import Requirement

    wanted = {"pandas"}
    for line in metadata.requires(PACKAGE) or []:
        requirement = Requirement(line)
        if any(requirement.marker is None or requirement.marker.evaluate({"extra": extra}) for extra in ("", "serve")):
            wanted.add(requirement.name)
    pinned = [f"{name}=={metadata.version(name)}" for name in sorted(wanted)]
    return [f"mlflow=={metadata.version('mlflow-skinny')}", *pinned]


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None  # pandas uses NaN for a missing value


def _photo(image: str) -> bytes:
    try:
        return base64.b64decode(_DATA_URI.sub("", image, count=1), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadInput("`image` is neither base64 nor a data URI.") from error
