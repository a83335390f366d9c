"""What several end-to-end tests ask of the platform, over HTTP alone."""

from __future__ import annotations

import csv
import io
import json
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from tests.waiting import PATIENCE_S

TRAINED_WITHIN_S = 500  # jobs give way to other work: 15 s on idle cores, ten times as much on two busy ones
COLUMNS = ("", "designation", "description", "productid", "imageid")


@dataclass(frozen=True)
class Catalogue:
    """Labelled products in the forms that `POST /ingest` takes."""

    rows: list[dict[str, str]]
    photos: Mapping[str, bytes]

    @property
    def features(self) -> bytes:
        """The features CSV, which needs the target CSV."""
        return as_csv(COLUMNS, self.rows)

    @property
    def target(self) -> bytes:
        """The target CSV."""
        return as_csv(("", "prdtypecode"), self.rows)

    @property
    def labelled(self) -> bytes:
        """One CSV with the labels in it, and without the index column."""
        return as_csv((*COLUMNS[1:], "prdtypecode"), self.rows)

    @property
    def images(self) -> bytes:
        """A zip of the photos."""
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for name, photo in self.photos.items():
                archive.writestr(name, photo)
        return packed.getvalue()


def as_csv(columns: Iterable[str], rows: Iterable[Mapping[str, str]]) -> bytes:
    """Return a CSV of these columns; whatever else the rows hold stays out."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def catalogue(sample: Path, first: int, last: int) -> Catalogue:
    """Return the sample's rows `first` to `last`, with the photos that belong to them."""
    with (sample / "features.csv").open(newline="", encoding="utf-8") as features:
        rows = list(csv.DictReader(features))[first:last]
    with (sample / "target.csv").open(newline="", encoding="utf-8") as target:
        codes = {row[""]: row["prdtypecode"] for row in csv.DictReader(target)}
    for row in rows:
        row["prdtypecode"] = codes[row[""]]
    with zipfile.ZipFile(sample / "images.zip") as archive:
        there = set(archive.namelist())
        names = [f"image_{row['imageid']}_product_{row['productid']}.jpg" for row in rows]
        photos = {name: archive.read(name) for name in names if name in there}
    return Catalogue(rows, photos)


def ingest(
    client: httpx2.Client, features: bytes, target: bytes | None = None, images: bytes | None = None, **fields: str
) -> httpx2.Response:
    """Send products and return the answer, whatever it is."""
    files = {"features": ("features.csv", features, "text/csv")}
    if target is not None:
        files["target"] = ("target.csv", target, "text/csv")
    if images is not None:
        files["images"] = ("photos.zip", images, "application/zip")
    return client.post("/ingest", data=fields, files=files, timeout=PATIENCE_S)


def start_training(client: httpx2.Client, path: str = "/train", **wanted: Any) -> str:
    """Queue a training and return its job id."""
    answer = client.post(path, json=wanted)
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert job["status"] == "queued"
    assert answer.headers["location"] == f"/train/jobs/{job['job_id']}"
    return str(job["job_id"])


def job_events(client: httpx2.Client, job_id: str, within_s: float = TRAINED_WITHIN_S) -> Iterator[dict[str, Any]]:
    """Yield the job as it is after each of its events until the stream ends."""
    job: dict[str, Any] = {}
    deadline = time.monotonic() + within_s
    with client.stream("GET", f"/train/jobs/{job_id}/events", timeout=PATIENCE_S) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            assert time.monotonic() < deadline, f"job {job_id} has not ended within {within_s:g} s"
            if line.startswith("data:"):
                job = job | json.loads(line.removeprefix("data:"))
                yield job


def finished_job(client: httpx2.Client, job_id: str, within_s: float = TRAINED_WITHIN_S) -> dict[str, Any]:
    """Follow the job's events and return it as it ended: with success, or the test fails."""
    job = list(job_events(client, job_id, within_s))[-1]
    assert job["status"] == "succeeded", job
    return job


def problem(answer: httpx2.Response, status: int, code: str | None = None) -> dict[str, Any]:
    """Assert that the answer is a problem document of this status, and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["status"] == status
    assert document["type"] == f"urn:rayonnage:problem:{document['code']}"
    assert document["title"] and document["detail"]
    assert document["request_id"] == answer.headers["x-request-id"]
    if code is not None:
        assert document["code"] == code, document
    return document


def predict_form(client: httpx2.Client, photo: bytes | None, path: str = "/predict", **fields: str) -> httpx2.Response:
    """Ask for a prediction by multipart form and return the answer."""
    if photo is None:
        # Without a file httpx2 would send the form urlencoded, which is not one of the two forms.
        return client.post(path, files={name: (None, value) for name, value in fields.items()})
    return client.post(path, data=fields, files={"image": ("photo.jpg", photo, "image/jpeg")})


def add_user(admin: httpx2.Client, username: str, password: str, role: str = "user") -> None:
    """Add a user."""
    answer = admin.post("/users", json={"username": username, "password": password, "role": role})
    assert answer.status_code == 201, answer.text
