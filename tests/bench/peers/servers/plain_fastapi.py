"""FastAPI as one would write it: a pydantic body, an `async def` route that predicts on the event loop."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from tests.bench.peers.function import load_function

app = FastAPI()
answer = load_function()


class Product(BaseModel):
    designation: str | None = None
    description: str | None = None


@app.post("/predict")
async def predict(product: Product) -> dict[str, Any]:
    return answer(product.designation, product.description)
