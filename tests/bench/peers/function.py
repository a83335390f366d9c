"""The function that every peer serves: a title in, the answer of `POST /predict` out.

It runs in each peer's own environment, which has Rayonnage's extra `serve` and the peer's packages.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rayonnage_shared.ml.base.categories import load_categories
from rayonnage_shared.ml.bundles.bundle import load_bundle
from rayonnage_shared.ml.bundles.champion import read_champion
from rayonnage_shared.predictions.inference import predict_product

MODELS = "BENCH_MODELS"
"""The environment variable that names the folder with the bundles."""


def load_function() -> Callable[[str | None, str | None], dict[str, Any]]:
    """Load the champion, and return a function from (title, description) to the answer."""
    models = Path(os.environ[MODELS])
    champion = read_champion(models)
    if champion is None:
        raise FileNotFoundError(f"{models} has no champion")
    bundle = load_bundle(models, champion.version)
    bundle.warm_up()
    categories = load_categories(None)

    def answer(designation: str | None, description: str | None) -> dict[str, Any]:
        return dict(predict_product(bundle, categories, designation, description, None).document)

    return answer
