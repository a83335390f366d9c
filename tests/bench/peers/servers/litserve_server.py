"""LitServe: `python -m tests.bench.peers.servers.litserve_server PORT`, one worker, no batching."""

from __future__ import annotations

import sys
from typing import Any

import litserve

from tests.bench.peers.function import load_function


class ProductApi(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self._answer = load_function()

    def predict(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._answer(request.get("designation"), request.get("description"))


if __name__ == "__main__":
    litserve.LitServer(ProductApi(), accelerator="cpu", workers_per_device=1).run(
        host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, generate_client_file=False, log_level="warning"
    )
