"""What a caller reads who has made a mistake: the field and the remedy, over HTTP and on the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.e2e.api import job_events, predict_form, problem, start_training
from tests.e2e.command_line import rayonnage
from tests.e2e.platform import Platform

UNKNOWN = "Unknown field `desigation`; did you mean `designation`?"
PHOTO = "Send the photo in the field `image`."
PASSWORD = "must have at least 10 characters."


@pytest.fixture(scope="module")
def client(platform: Platform) -> Iterator[httpx2.Client]:
    with platform.client(platform.admin_token()) as opened:
        yield opened


@pytest.mark.parametrize("path", ["/predict", "/predict/text/manual"])
def test_a_misspelt_field_is_named_with_the_field_that_was_meant(client: httpx2.Client, path: str) -> None:
    as_json = client.post(path, json={"desigation": "Piscine"})
    as_form = predict_form(client, None, path, desigation="Piscine")
    for answer in (as_json, as_form):
        document = problem(answer, 422, "invalid_input")
        assert document["detail"] == UNKNOWN
        assert document["errors"][0] == {"field": "desigation", "message": UNKNOWN}


def test_a_photo_in_another_field_is_answered_with_the_right_one(client: httpx2.Client, sample: Path) -> None:
    photo = (sample / "exemple.jpg").read_bytes()
    as_form = client.post("/predict", data={"designation": "Piscine"}, files={"file": ("photo.jpg", photo)})
    as_json = client.post("/predict", json={"designation": "Piscine", "file": "aGVsbG8="})
    for answer in (as_form, as_json):
        assert problem(answer, 422, "invalid_input")["detail"] == f"Unknown field `file`. {PHOTO}"


def test_a_short_password_is_refused_in_words(client: httpx2.Client) -> None:
    added = client.post("/users", json={"username": "jane", "password": "short"})
    changed = client.put("/users/me/password", json={"current_password": "wrong-anyway", "new_password": "short"})
    assert problem(added, 422, "invalid_input")["detail"] == f"`password` {PASSWORD}"
    assert problem(changed, 422, "invalid_input")["detail"] == f"`new_password` {PASSWORD}"


def test_cancelling_twice_says_that_the_job_had_already_been_cancelled(client: httpx2.Client) -> None:
    job_id = start_training(client, "/train/text", promote="never")
    assert client.delete(f"/train/jobs/{job_id}").status_code == 202
    assert list(job_events(client, job_id))[-1]["status"] == "cancelled"
    again = client.delete(f"/train/jobs/{job_id}")
    assert problem(again, 409, "job_finished")["detail"] == f"Job {job_id} had already been cancelled."


@pytest.mark.parametrize(
    ("method", "path", "body", "detail"),
    [
        ("GET", "/train/jobs?limit=many", None, "Query parameter `limit` must be a whole number."),
        ("GET", "/train/jobs?limit=0", None, "Query parameter `limit` must be at least 1."),
        ("GET", "/train/jobs/not%20an%20id", None, "Path parameter `job_id` must be a job id."),
        ("POST", "/train", '{"text": ', "The body is not valid JSON: see character 9."),
        ("POST", "/train", "[]", "The body must be a JSON object."),
        ("POST", "/train", '{"promot": "never"}', "Unknown field `promot`; did you mean `promote`?"),
        ("POST", "/train", '{"promote": "maybe"}', "`promote` must be 'if_better', 'never' or 'always'."),
        ("POST", "/feedback", '{"category_id": 10}', "`prediction_id` is required."),
        ("POST", "/predict", '{"designation": ', "The body is not valid JSON: see line 1, column 16."),
        ("POST", "/predict", '{"designation": "x", "top_k": 28}', "`top_k` must be at most 27."),
        ("PATCH", "/users/nobody", '{"activ": false}', "Unknown field `activ`; did you mean `active`?"),
    ],
)
def test_every_place_of_a_request_is_answered_in_words(
    client: httpx2.Client, method: str, path: str, body: str | None, detail: str
) -> None:
    answer = client.request(method, path, content=body, headers={"Content-Type": "application/json"} if body else {})
    assert problem(answer, 422, "invalid_input")["detail"] == detail


def test_a_misspelt_part_of_an_ingest_is_named_with_the_part_that_was_meant(client: httpx2.Client) -> None:
    answer = client.post("/ingest", files={"feature": ("features.csv", b"designation\n", "text/csv")})
    assert problem(answer, 422, "invalid_input")["detail"] == "Unknown field `feature`; did you mean `features`?"


def test_the_command_line_uses_the_same_words(platform: Platform) -> None:
    done = rayonnage(platform.home, "feedback", "nonsense", "10")
    assert (done.returncode, done.stderr.strip()) == (1, "`prediction_id` must be a `prediction_id` from `/predict`.")


@pytest.mark.parametrize("path", ["/models/", "/status/", "/train/jobs/"])
def test_a_trailing_slash_is_redirected(client: httpx2.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 307
    assert httpx2.URL(answer.headers["location"]).path == path.removesuffix("/")
    assert client.get(path, follow_redirects=True).status_code == 200
