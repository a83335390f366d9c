"""Measure whether predict's memory grows: `python -m tests.bench.memory`. Writes docs/benchmarks.md.

Sends title after title, forms with photos, and now and then the requests that take most memory: a JSON body of 9 MB,
and photos whose decoding takes as much as is allowed. Predict runs by itself, with the default models.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import tempfile
from pathlib import Path

import psutil
from PIL import Image

from tests.bench.http import products, train
from tests.bench.load import build_form, build_request, run_load
from tests.bench.predict_alone import predict_alone
from tests.bench.report import write_section
from tests.bench.stages import Requests

CONNECTIONS = 16
ROUND_S = 5.0
SHARE_OF_PHOTOS = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--volume", type=Path, help="data and models to serve; default: the sample's")
    parser.add_argument("--no-write", action="store_true", help="print only")
    arguments = parser.parse_args()
    titles, photos = products()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        volume = arguments.volume or train(Path(folder) / "trained")
        with predict_alone(volume, Path(folder) / "run") as server:
            text = Requests(titles, None).built(server.token)
            photo = Requests(titles, photos).built(server.token)
            heavy = heavy_requests(server.token)
            lines = ["| requests answered | resident memory, MB | highest so far, MB |", "|---|---|---|"]
            answered, due = 0, 0
            while True:
                if answered >= due:
                    peak = _peak_mb(server.process)
                    lines.append(f"| {answered:,} | {server.memory_mb():.0f} | {peak:.0f} |")
                    print(lines[-1], flush=True)
                    due += arguments.requests // 10
                if answered >= arguments.requests:
                    break
                run_load(server.port, heavy, connections=2, seconds=0.5)
                for requests, seconds in ((photo, SHARE_OF_PHOTOS * ROUND_S), (text, ROUND_S)):
                    result = run_load(server.port, requests, connections=CONNECTIONS, seconds=seconds)
                    assert set(result.statuses) == {200} and not result.broken, result.statuses
                    answered += len(result.latencies)
    if not arguments.no_write:
        write_section("memory", "\n".join(lines))


def heavy_requests(access_token: str) -> list[bytes]:
    """Return requests that take as much memory as is allowed."""
    png = _encoded(Image.new("RGBA", (2800, 2800), (1, 2, 3, 4)), "PNG")
    jpeg = _encoded(Image.effect_noise((5000, 5000), 5).convert("RGB"), "JPEG", progressive=True, quality=30)
    body = json.dumps({"image": base64.b64encode(bytes(6_900_000)).decode()}).encode()
    forms = [build_form({}, photo) for photo in (png, jpeg)]
    return [
        *(build_request("/predict", form, content_type, token=access_token) for form, content_type in forms),
        build_request("/predict", body, "application/json", token=access_token),
    ]


def _encoded(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def _peak_mb(process: psutil.Process) -> float:
    """Return the largest resident memory that the process has had, in MB (Linux)."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return float("nan")


if __name__ == "__main__":
    main()
