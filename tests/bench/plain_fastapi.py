"""A minimal peer to compare with: FastAPI and a scikit-learn pipeline. `python -m tests.bench.plain_fastapi`.

It is trained on the same products as the platform and returns the same fields, but has no tokens and no limits.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sklearn.calibration import CalibratedClassifierCV
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.svm import LinearSVC

from rayonnage_shared.ml.catalogue.datasets import DatasetStore


class Product(BaseModel):
    designation: str
    description: str | None = None
    top_k: int = 3


def fit(data: Path) -> Pipeline:
    """Return a scikit-learn pipeline, fitted to the training split of the current dataset."""
    store = DatasetStore(data)
    products = store.load(str(store.current()))
    train = products.take(products.splits == "train")
    features = FeatureUnion(
        [
            ("words", TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)),
            ("characters", TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), sublinear_tf=True)),
        ]
    )
    model = make_pipeline(features, CalibratedClassifierCV(LinearSVC(), cv=3))
    return model.fit([f"{one.title} {one.description}" for one in train.texts()], train.codes)


def create_app(model: Pipeline) -> FastAPI:
    """Return an application as most people would write it."""
    app = FastAPI()
    codes = model.classes_

    @app.post("/predict")
    def predict(product: Product) -> dict[str, object]:
        probabilities = model.predict_proba([f"{product.designation} {product.description or ''}"])[0]
        best = np.argsort(-probabilities)[: product.top_k]
        return {
            "category_id": int(codes[best[0]]),
            "confidence": float(probabilities[best[0]]),
            "predictions": [
                {"category_id": int(codes[i]), "probability": float(probabilities[i])} for i in best.tolist()
            ],
        }

    @app.get("/health/ready")
    def ready() -> dict[str, str]:
        return {"status": "ok"}

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    app = create_app(fit(arguments.data))
    uvicorn.run(app, port=arguments.port, loop="uvloop", http="httptools", access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
