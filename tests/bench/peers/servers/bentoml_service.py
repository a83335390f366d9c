"""BentoML: one service with one worker."""

from __future__ import annotations

from typing import Any

import bentoml

from tests.bench.peers.function import load_function


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Product:
    def __init__(self) -> None:
        self._answer = load_function()

    @bentoml.api
    async def predict(self, designation: str, description: str | None = None) -> dict[str, Any]:
        return self._answer(designation, description)
