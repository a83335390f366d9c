"""Ray Serve: `python -m tests.bench.peers.servers.ray_serve PORT`, one replica."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import ray
from ray import serve
from starlette.requests import Request

from tests.bench.peers.function import load_function


@serve.deployment(num_replicas=1, max_ongoing_requests=64)
class Product:
    def __init__(self) -> None:
        self._answer = load_function()

    async def __call__(self, request: Request) -> dict[str, Any]:
        product = await request.json()
        return self._answer(product.get("designation"), product.get("description"))


if __name__ == "__main__":
    ray.init(
        include_dashboard=False,
        num_cpus=4,
        log_to_driver=False,
        _temp_dir=os.environ.get("BENCH_RAY_FOLDER"),
        runtime_env={"env_vars": {name: os.environ[name] for name in ("BENCH_MODELS", "PYTHONPATH")}},
    )
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Product.bind(), route_prefix="/predict")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
