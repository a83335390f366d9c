"""Run the whole path on real products over HTTP: `python -m tests.bench.real DATA`.

Starts an empty platform, ingests text.csv, then pairs.csv with its photos as a zip, trains, promotes, predicts, and
prints the responses and the time of each step. Exits with 1 if a step failed, or if ingest and training took longer
than five minutes.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import httpx2

from tests.e2e.platform import Platform, running_platform

LIMIT_S = 300
JOB_TIMEOUT_S = 900
SHOWN = 5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with text.csv, pairs.csv and images/")
    data: Path = parser.parse_args().data
    with tempfile.TemporaryDirectory(prefix="rayonnage-real-") as folder:
        photos = zip_photos(data / "images", Path(folder) / "photos.zip")
        with running_platform(Path(folder) / "platform") as platform:
            return _walk(platform, data, photos)


def _walk(platform: Platform, data: Path, photos: Path) -> int:
    with platform.client(platform.admin_token()) as client:
        client.timeout = httpx2.Timeout(JOB_TIMEOUT_S)
        started = time.perf_counter()
        _ingest(client, data / "text.csv", None)
        report = _ingest(client, data / "pairs.csv", photos)
        ingested = time.perf_counter()
        dataset = client.get(f"/datasets/{report['dataset_version']}").raise_for_status().json()
        _show("dataset", {name: dataset[name] for name in ("rows", "rows_with_image", "rows_train", "rows_test")})
        job = client.post("/train", json={}).raise_for_status().json()
        job = _follow(client, job["job_id"])
        trained = time.perf_counter()
        _show("training", {"status": job["status"], "error": job["error"], **(job["result"] or {})})
        if job["status"] != "succeeded":
            return 1
        _wait_for_champion(platform, client, job["result"]["version"])
        right = _predict(client, data)
        seconds = trained - started
        _show(
            "times, s",
            {
                "ingest": round(ingested - started, 1),
                "train": round(trained - ingested, 1),
                "together": round(seconds, 1),
                "limit": LIMIT_S,
            },
        )
        return 0 if seconds <= LIMIT_S and right else 1


def _ingest(client: httpx2.Client, features: Path, photos: Path | None) -> dict[str, Any]:
    files: dict[str, Any] = {"features": (features.name, features.open("rb"), "text/csv")}
    if photos is not None:
        files["images"] = (photos.name, photos.open("rb"), "application/zip")
    started = time.perf_counter()
    answer = client.post("/ingest", files=files)
    answer.raise_for_status()
    report: dict[str, Any] = answer.json()
    shown = {name: value for name, value in report.items() if name != "rejects"}
    _show(f"ingest {features.name}", {**shown, "seconds": round(time.perf_counter() - started, 1)})
    return report


def _follow(client: httpx2.Client, job_id: str) -> dict[str, Any]:
    """Wait for the job to end and return it; print each stage that the event stream reports."""
    job: dict[str, Any] = {}
    with client.stream("GET", f"/train/jobs/{job_id}/events") as events:
        stage = None
        for line in events.iter_lines():
            if not line.startswith("data:"):
                continue
            job |= json.loads(line.removeprefix("data:"))
            if job["stage"] != stage:
                stage = job["stage"]
                print(f"  stage {stage}", flush=True)
    return job


def _wait_for_champion(platform: Platform, client: httpx2.Client, version: str) -> None:
    platform.wait_until_ready(30)
    deadline = time.monotonic() + 10
    while client.get("/info").json()["version"] != version:
        if time.monotonic() > deadline:
            raise TimeoutError(f"predict has not loaded {version}")
        time.sleep(0.2)


def _predict(client: httpx2.Client, data: Path) -> bool:
    """Print predictions for a few pairs; return whether there were enough pairs. Raises when a request fails."""
    with (data / "pairs.csv").open(encoding="utf-8") as file:
        rows = [row for row, _ in zip(csv.DictReader(file), range(SHOWN), strict=False)]
    for row in rows:
        photo = (data / "images" / row["image"]).read_bytes()
        answer = client.post(
            "/predict", data={"designation": row["designation"]}, files={"image": (row["image"], photo, "image/jpeg")}
        ).raise_for_status()
        found = answer.json()
        print(
            f"  {row['designation'][:60]:60} {row['prdtypecode']:>5} → {found['predicted']:>5} "
            f"{found['confidence']:.3f} {found['decision']:6} {found['duration_ms']:.1f} ms"
        )
    return len(rows) == SHOWN


def zip_photos(folder: Path, path: Path) -> Path:
    """Write the photos of a folder to the zip `path`, and return it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for photo in sorted(folder.iterdir()):
            archive.write(photo, photo.name)
    return path


def _show(title: str, document: dict[str, Any]) -> None:
    print(f"{title}: {json.dumps(document, ensure_ascii=False, indent=1)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
