"""The peers: how each is started, where it answers and the form of its request."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import psutil

from tests.bench.peers.environments import REPOSITORY, environment, python_of
from tests.bench.peers.function import MODELS
from tests.ports import free_ports

START_LIMIT_S = 180
_SERVERS = "tests.bench.peers.servers"
_UVICORN = ("-m", "uvicorn", "--host", "127.0.0.1", "--no-access-log", "--log-level", "warning")


def plain_json(title: str) -> bytes:
    """Return the JSON form of `POST /predict`, which most peers take too."""
    return json.dumps({"designation": title}).encode()


def _inference_protocol(title: str) -> bytes:
    tensor = {"name": "designation", "shape": [1], "datatype": "BYTES", "data": [title]}
    return json.dumps({"inputs": [tensor]}).encode()


def _dataframe(title: str) -> bytes:
    return json.dumps({"dataframe_records": [{"designation": title}]}).encode()


@dataclass(frozen=True)
class Peer:
    """A server to compare with.

    `command` follows the interpreter of `environment`; `{port}` and `{folder}`, a new empty folder, are filled in.
    """

    name: str
    environment: str
    command: tuple[str, ...]
    path: str = "/predict"
    body: Callable[[str], bytes] = plain_json
    variables: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[Path], tuple[str, ...]] | None = None
    alone: bool = False
    """Started anew for each of its measurements, since it uses CPU while it waits."""


@dataclass(frozen=True)
class Server:
    """A running server: its address, the form of its requests, and the processes whose trees are measured."""

    name: str
    port: int
    path: str
    body: Callable[[str], bytes]
    pids: tuple[int, ...]
    token: str | None = None

    def cpu_seconds(self) -> float:
        """Return the CPU time that the server's processes have used, in seconds."""
        return sum(_cpu_seconds(process) for process in self._processes())

    def megabytes(self) -> float:
        """Return the memory of the server's processes, with their part of shared pages (PSS)."""
        return float(sum(process.memory_full_info().pss for process in self._processes())) / 2**20

    def _processes(self) -> list[psutil.Process]:
        roots = [psutil.Process(pid) for pid in self.pids]
        return roots + [child for root in roots for child in root.children(recursive=True)]


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _mlserver_settings(folder: Path) -> tuple[str, ...]:
    (port,) = free_ports(1)
    others = free_ports(2)
    settings = {"host": "127.0.0.1", "http_port": port, "grpc_port": others[0], "metrics_port": others[1]}
    model = {"name": "product", "implementation": f"{_SERVERS}.mlserver_model.Product"}
    # In the server's own process, which is faster than one worker beside it.
    (folder / "settings.json").write_text(json.dumps({**settings, "parallel_workers": 0, "debug": False}))
    (folder / "model-settings.json").write_text(json.dumps(model))
    return (str(port),)


def _save_mlflow_model(folder: Path) -> tuple[str, ...]:
    command = [str(python_of("mlflow")), "-m", f"{_SERVERS}.mlflow_model", str(folder / "model")]
    subprocess.run(command, cwd=REPOSITORY, env=environment("mlflow"), check=True, capture_output=True, timeout=120)
    return ()


_RAY_FOLDER = {"BENCH_RAY_FOLDER": "/tmp/ray"}  # a longer name does not fit into the names of its sockets
_RAY_FAST = {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}

_ONE_WORKER = ("--workers", "1", "--host", "127.0.0.1", "--port", "{port}")

PEERS = (
    Peer("bare ASGI", "fastapi", (*_UVICORN, "--lifespan", "off", "--port", "{port}", f"{_SERVERS}.bare_asgi:app")),
    Peer("plain FastAPI", "fastapi", (*_UVICORN, "--port", "{port}", f"{_SERVERS}.plain_fastapi:app")),
    Peer(
        "MLServer",
        "mlserver",
        ("-m", "mlserver.cli.main", "start", "{folder}"),
        path="/v2/models/product/infer",
        body=_inference_protocol,
        prepare=_mlserver_settings,
    ),
    Peer("LitServe", "litserve", ("-m", f"{_SERVERS}.litserve_server", "{port}")),
    Peer(
        "BentoML",
        "bentoml",
        ("-m", "bentoml", "serve", f"{_SERVERS}.bentoml_service:Product", "--host", "127.0.0.1", "--port", "{port}"),
        variables={"BENTOML_DO_NOT_TRACK": "True"},
    ),
    Peer(
        "mlflow models serve",
        "mlflow",
        ("-m", "mlflow", "models", "serve", "--model-uri", "{folder}/model", "--env-manager", "local", *_ONE_WORKER),
        path="/invocations",
        body=_dataframe,
        prepare=_save_mlflow_model,
    ),
    Peer("Ray Serve", "ray", ("-m", f"{_SERVERS}.ray_serve", "{port}"), alone=True),
    Peer("Ray Serve, HAProxy", "ray", ("-m", f"{_SERVERS}.ray_serve", "{port}"), variables=_RAY_FAST, alone=True),
)

OLDER_PATTERN = Peer(
    "Keras in the route (BiLSTM, VGG16)", "keras", (*_UVICORN, "--port", "{port}", f"{_SERVERS}.keras_route:app")
)
"""Sent a form with title and photo, not JSON."""


@contextmanager
def running(peer: Peer, models: Path, folder: Path) -> Iterator[Server]:
    """Start a peer with the bundles of `models` in the folder `folder`, which is emptied; it ends with the block.

    Raises CannotInstall, or TimeoutError with the end of its output if it does not answer.
    """
    python = python_of(peer.environment)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    chosen = peer.prepare(folder) if peer.prepare is not None else ()
    port = int(chosen[0]) if chosen else free_ports(1)[0]
    command = [str(python), *(part.format(port=port, folder=folder) for part in peer.command)]
    variables = {**environment(peer.environment), **peer.variables, MODELS: str(models), **_RAY_FOLDER}
    output = folder / "output.txt"
    with output.open("wb") as log:
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=variables, stdout=log, stderr=log, start_new_session=True
        )
        try:
            server = Server(peer.name, port, peer.path, peer.body, (process.pid,))
            _wait_until_it_answers(server, process, output)
            yield server
        finally:
            _end(process)


def _wait_until_it_answers(server: Server, process: subprocess.Popen[bytes], output: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    url = f"http://127.0.0.1:{server.port}{server.path}"
    headers = {"Content-Type": "application/json"}
    while time.monotonic() < deadline and process.poll() is None:
        try:
            answer = httpx2.post(url, content=server.body("piscine gonflable"), headers=headers, timeout=20)
            if answer.is_success or answer.status_code == 422:  # a server of forms, which is ready too
                return
        except httpx2.HTTPError:
            pass
        time.sleep(0.2)
    last = output.read_text(errors="replace").strip().splitlines()[-1:]
    raise TimeoutError(f"it did not answer: {' '.join(last)[:200]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server: by SIGTERM, and after a while whatever it started by SIGKILL."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        children = []
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(15)
    for child in children:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(children, timeout=15)
