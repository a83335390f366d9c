"""`python -m tests.bench.peers.servers.mlflow_model FOLDER` saves the model that `mlflow models serve` serves."""

from __future__ import annotations

import sys
from typing import Any

import mlflow.pyfunc
import pandas as pd


class Product(mlflow.pyfunc.PythonModel):
    def load_context(self, context: Any) -> None:
        from tests.bench.peers.function import load_function

        self._answer = load_function()

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> list[dict[str, Any]]:
        return [self._answer(title, None) for title in model_input["designation"]]


if __name__ == "__main__":
    mlflow.pyfunc.save_model(sys.argv[1], python_model=Product(), pip_requirements=[])
