"""Measure the speed of the platform on this machine: `python -m tests.bench.http`. Compare only ratios within one run.

Measures predictions from a title (JSON) and from a title and a photo (form), through the gateway and directly at
predict, with 1 and 16 connections; the same model without HTTP; a plain FastAPI application with scikit-learn's
pipeline; and predict's start time and memory.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import platform as machine
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import numpy as np
import psutil
from PIL import Image

from tests.bench.in_process import predictions_per_second
from tests.bench.load import LoadResult, build_form, build_request, run_load
from tests.e2e.platform import Platform, running_platform
from tests.ports import free_ports
from tests.processes import killed_at_end

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
PHOTO_BYTES = 44_000  # the average size of a marketplace photo of 500×500
CONNECTIONS = (1, 16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each run")
    seconds: float = parser.parse_args().seconds
    titles, photos = products()
    with tempfile.TemporaryDirectory(prefix="rayonnage-bench-") as folder:
        home = Path(folder)
        volume = train(home / "trained")
        print(f"# Speed, {machine.processor() or machine.machine()}, Python {machine.python_version()}\n")
        print("| what | connections | requests/s | p50 ms | p99 ms | not 200 |\n|---|---|---|---|---|---|", flush=True)
        with running_platform(home / "platform", {"LOG_LEVEL": "info"}, volume=volume) as platform:
            token = platform.admin_token()
            bodies = {
                "text, JSON": json_requests(titles, token),
                "title + photo, form": form_requests(titles, photos, token),
            }
            best: dict[str, float] = {}
            for kind, requests in bodies.items():
                for where in ("gateway", "predict"):
                    port = int(platform.url(where).rpartition(":")[2])
                    for connections in CONNECTIONS:
                        run_load(port, requests, connections=connections, seconds=min(1.0, seconds))
                        found = run_load(port, requests, connections=connections, seconds=seconds)
                        _row(f"{kind} → {where}", connections, found)
                        best[f"{kind} → {where}"] = found.per_second
            start_s, rss_mb = _restart_predict(platform)
        _peers(volume, titles, seconds)
        _without_http(volume, titles, photos, seconds, best)
        print(f"\npredict: ready {start_s:.1f} s after its start, {rss_mb:.0f} MB resident")


def _peers(volume: Path, titles: list[str], seconds: float) -> None:
    with _plain_fastapi(volume / "data") as port:
        for connections in CONNECTIONS:
            found = run_load(port, json_requests(titles, None), connections=connections, seconds=seconds)
            _row("peer: plain FastAPI + scikit-learn, text, JSON", connections, found)


def _without_http(volume: Path, titles: list[str], photos: list[bytes], seconds: float, best: dict[str, float]) -> None:
    models = volume / "models"
    print("\n| the same model without HTTP | processes | predictions/s |\n|---|---|---|")
    limits: dict[str, float] = {}
    for kind, some in (("text, JSON", None), ("title + photo, form", photos)):
        for processes in (1, 2):
            limits[kind] = predictions_per_second(models, titles, some, processes=processes, seconds=seconds)
            print(f"| {kind} | {processes} | {limits[kind]:.0f} |", flush=True)
    print("\n| path, 16 connections | share of the rate without HTTP (two processes) |\n|---|---|")
    for name, rate in best.items():
        print(f"| {name} | {100 * rate / limits[name.partition(' → ')[0]]:.0f} % |")


def _row(what: str, connections: int, found: LoadResult) -> None:
    failed = sum(count for status, count in found.statuses.items() if status != 200) + found.broken
    numbers = f"{found.per_second:.0f} | {found.quantile_ms(0.5):.1f} | {found.quantile_ms(0.99):.1f} | {failed}"
    print(f"| {what} | {connections} | {numbers} |", flush=True)


def train(home: Path) -> Path:
    from rayonnage_shared.ml.base.progress import silent
    from rayonnage_shared.ops.demo import prepare
    from rayonnage_shared.ops.local import LocalSettings

    settings = LocalSettings(
        models_path=home / "models", data_path=home / "data", database_url=f"sqlite:///{home}/data/rayonnage.db"
    )
    prepare(settings, SAMPLE, stage=lambda name: None, progress=silent)
    return home


def products() -> tuple[list[str], list[bytes]]:
    """Return titles of the sample, and its photos with noise added until they are as large as real ones."""
    with (SAMPLE / "features.csv").open(encoding="utf-8", newline="") as file:
        titles = [row["designation"] for row in csv.DictReader(file) if row["designation"]][:200]
    with zipfile.ZipFile(SAMPLE / "images.zip") as archive:
        names = archive.namelist()[:40]
        return titles, [_heavier(archive.read(name), seed) for seed, name in enumerate(names)]


def _heavier(photo: bytes, seed: int) -> bytes:
    pixels = np.asarray(Image.open(io.BytesIO(photo)).convert("RGB"), dtype=np.int16)
    noise = np.random.default_rng(seed).normal(0, 12, pixels.shape)
    noisy = Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))
    for quality in range(30, 95, 5):
        out = io.BytesIO()
        noisy.save(out, "JPEG", quality=quality)
        if out.tell() >= PHOTO_BYTES:
            break
    return out.getvalue()


def json_requests(titles: list[str], token: str | None) -> list[bytes]:
    return [
        build_request("/predict", json.dumps({"designation": title}).encode(), "application/json", token=token)
        for title in titles
    ]


def form_requests(titles: list[str], photos: list[bytes], token: str) -> list[bytes]:
    found = []
    for title, photo in zip(titles, photos, strict=False):
        body, content_type = build_form({"designation": title}, photo)
        found.append(build_request("/predict", body, content_type, token=token))
    return found


@contextmanager
def _plain_fastapi(data: Path) -> Iterator[int]:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "tests.bench.plain_fastapi", "--data", str(data), "--port", str(port)]
    with killed_at_end(subprocess.Popen(command)):
        _wait_until_ready(f"http://127.0.0.1:{port}", 120)
        yield port


def _restart_predict(platform: Platform) -> tuple[float, float]:
    """Restart predict; return the seconds until it is ready, and its memory after one prediction, megabytes."""
    platform.stop("predict")
    started = time.perf_counter()
    platform.start("predict")
    _wait_until_ready(platform.url("predict"), 60)
    seconds = time.perf_counter() - started
    with platform.client(platform.admin_token()) as client, (SAMPLE / "exemple.jpg").open("rb") as photo:
        client.post("/predict", data={"designation": "piscine"}, files={"image": photo}).raise_for_status()
    return seconds, psutil.Process(platform.pid("predict")).memory_info().rss / 2**20


def _wait_until_ready(url: str, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if httpx2.get(f"{url}/health/ready", timeout=2).status_code == 200:
                return
        except httpx2.HTTPError:
            pass
        time.sleep(0.05)
    raise TimeoutError(f"{url} was not ready within {within_s} s")


if __name__ == "__main__":
    main()
