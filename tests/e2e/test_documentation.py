"""The documentation of a running platform: whole, and true to the services and to what they answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from rayonnage_gateway.documentation import SCHEME
from rayonnage_gateway.routes import PUBLIC_ROUTES
from tests.e2e.api import finished_job, job_events, predict_form, start_training
from tests.e2e.documents import Documented, documented, validated
from tests.e2e.platform import Platform
from tests.waiting import PATIENCE_S

OWN_ROUTES = {("get", "/"), ("get", "/status"), ("get", "/health/live"), ("get", "/health/ready")}
SERVICES = ("auth", "ingest", "train", "predict")


@pytest.fixture(scope="module")
def documents(platform: Platform) -> Documented:
    return documented(platform)


@pytest.fixture
def client(platform: Platform, documents: Documented) -> Iterator[httpx2.Client]:
    with validated(platform.client(platform.admin_token()), documents) as opened:
        yield opened


def test_the_gateways_document_shows_each_public_route_as_its_running_service_does(
    platform: Platform, documents: Documented
) -> None:
    theirs = {
        service: httpx2.get(f"{platform.url(service)}/openapi.json", timeout=PATIENCE_S).json() for service in SERVICES
    }
    shown = {(method, path) for path, item in documents.document["paths"].items() for method in item}
    assert shown == OWN_ROUTES | {(route.method.lower(), route.path) for route in PUBLIC_ROUTES}
    for route in PUBLIC_ROUTES:
        merged = documents.document["paths"][route.path][route.method.lower()]
        own = theirs[route.service]["paths"][route.path][route.method.lower()]
        assert (merged["summary"], merged["description"]) == (own["summary"], own["description"])
        assert own["responses"].keys() <= merged["responses"].keys()
        assert bool(merged.get("security")) == (route.access != "public")


def test_every_answer_of_every_route_has_its_schema(documents: Documented) -> None:
    for path, item in documents.document["paths"].items():
        for method, operation in item.items():
            for status, response in operation["responses"].items():
                where = f"{method} {path} {status}"
                if status in {"204", "304"}:  # without a body
                    continue
                assert all(content["schema"] for content in response["content"].values()), where
                if status >= "400":
                    assert list(response["content"]) == ["application/problem+json"], where


def test_the_page_is_served_without_anything_from_elsewhere(platform: Platform, documents: Documented) -> None:
    with platform.client() as client:
        for path in ("/docs", "/redoc"):
            page = client.get(path)
            assert page.status_code == 200
            assert "https://" not in page.text, "the page works without the internet"
    flow = documents.document["components"]["securitySchemes"][SCHEME]["flows"]["password"]
    assert flow["tokenUrl"] == "token"


def test_answers_are_what_the_document_says(
    platform: Platform, client: httpx2.Client, documents: Documented, sample: Path
) -> None:
    photo = (sample / "exemple.jpg").read_bytes()
    product = {"designation": "Robot de piscine"}
    username, password = platform.admin
    for path in ("/", "/status", "/health/live", "/health/ready", "/.well-known/jwks.json"):
        assert client.get(path).status_code == 200
    for path in (
        "/info",
        "/models",
        "/users/me",
        "/users",
        "/datasets",
        "/train/jobs",
        "/drift",
        "/categories",
        "/models/promotions",
    ):
        assert client.get(path).status_code == 200
        assert client.get(path, headers={"Authorization": "Bearer none"}).status_code == 401
    assert client.get(f"/models/{client.get('/models').json()['champion']}").status_code == 200
    assert client.get(f"/datasets/{client.get('/datasets').json()['current']}").status_code == 200
    assert client.post("/predict", json=product).status_code == 200
    assert predict_form(client, photo, "/predict", **product).status_code == 200
    assert client.post("/predict/text/manual", json=product).status_code == 200
    assert predict_form(client, photo, "/predict/image/manual").status_code == 200
    assert predict_form(client, b"no photo").status_code == 422
    assert predict_form(client, bytes(11_000_000)).status_code == 413
    assert client.post("/predict", content=b"a", headers={"Content-Type": "text/plain"}).status_code == 415
    assert client.post("/token", data={"username": username, "password": "wrong"}).status_code == 401
    assert client.post("/token", data={"username": username}).status_code == 422
    pair = client.post("/token", data={"username": username, "password": password}).json()
    assert client.post("/token/refresh", json={"refresh_token": pair["refresh_token"]}).status_code == 200
    assert client.post("/token/refresh", json={"refresh_token": "none"}).status_code == 401
    for path in (
        "/models/none",
        "/datasets/20200101T000000Z-abcd",
        "/train/jobs/none",
        "/drift/none",
        f"/ingest/{'0' * 26}",
    ):
        assert client.get(path).status_code == 404
    assert client.post("/models/none/promote").status_code == 404
    assert client.post("/ingest", files={"features": ("f.csv", b"a,b\n1,2\n")}).status_code == 422
    assert client.post("/train", json={"text": "none"}).status_code == 422
    assert client.post("/users", json={"username": username, "password": "0123456789"}).status_code == 409
    assert client.delete(f"/users/{username}").status_code == 409
    assert client.delete("/users/nobody").status_code == 404
    assert client.get("/test/preprocess/text/manual").status_code == 200
    assert client.post("/logout").status_code == 204
    assert len(documents.seen) > 40


@pytest.mark.parametrize(
    ("wanted", "label", "language"),
    [
        (None, "Piscine > Entretien et équipement", None),
        ("fr-FR,fr;q=0.9,en;q=0.8", "Piscine > Entretien et équipement", "fr"),
        ("en-US,en;q=0.9", "Swimming pool > Maintenance and equipment", "en"),
        ("de", "Piscine > Entretien et équipement", None),
    ],
)
def test_labels_are_in_the_language_that_the_request_asks_for(
    client: httpx2.Client, wanted: str | None, label: str, language: str | None
) -> None:
    headers = {"Accept-Language": wanted} if wanted else {}
    answer = client.post("/predict", json={"designation": "Robot de piscine"}, headers=headers)
    assert answer.json()["label"] == label
    assert answer.headers.get("content-language") == language


def test_a_jobs_events_carry_the_documented_job(client: httpx2.Client, documents: Documented) -> None:
    job_id = start_training(client, "/train/text", text="tfidf-svm", promote="never")
    schema = {"$ref": "#/components/schemas/Job"}
    for job in job_events(client, job_id):
        documents.check_schema(b"", job, schema, "event")
    assert finished_job(client, job_id)["job_id"] == job_id
    assert client.delete(f"/train/jobs/{job_id}").status_code == 409
