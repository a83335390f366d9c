"""Every request example of the documentation is sent as it stands to a running platform."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest

from rayonnage_gateway import documentation
from tests.e2e.api import catalogue, finished_job, ingest, predict_form, start_training
from tests.e2e.conftest import MakePlatform
from tests.e2e.documents import Documented, documented, validated
from tests.e2e.platform import Platform
from tests.waiting import eventually

JSON, FORM, URLENCODED = "application/json", "multipart/form-data", "application/x-www-form-urlencoded"
METHODS = ("post", "put", "patch", "delete", "get")
SECRETS = {"access_token", "refresh_token", "x", "y", "n"}
EXAMPLES = Path(documentation.__file__).parent / "docs" / "examples.json"
UNREADABLE_PRODUCTS = b"designation,description,prdtypecode\n,,2583\n"

# Where an example needs what only its reader has, the answer says so. All others succeed.
REFUSED = {
    ("POST", "/token", URLENCODED): (401, "wrong_credentials"),  # the reader's password
    ("POST", "/token/refresh", JSON): (401, "refresh_refused"),  # and refresh token
    ("PUT", "/users/me/password", JSON): (403, "wrong_password"),
    ("POST", "/feedback", JSON): (404, "prediction_unknown"),  # and prediction
    ("POST", "/models/rollback", JSON): (409, "nothing_to_roll_back_to"),  # and an earlier champion
    ("POST", "/predict/image/manual", FORM): (422, "invalid_input"),  # a file that a page cannot fill in
    ("POST", "/ingest", FORM): (422, "invalid_input"),
    ("GET", "/drift/{report_id}/page", ""): (403, "link_not_valid"),  # and link
}


class Reader:
    """Sends the examples as the page does, and looks up the ids in paths as its reader does."""

    def __init__(self, client: httpx2.Client, documents: Documented, known: Mapping[str, str]) -> None:
        self.client = client
        self.documents = documents
        self.known = dict(known)

    def operations(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Return method, path and operation, with the requests that others need first."""
        paths = self.documents.document["paths"]
        found = [(method, path, item[method]) for path, item in paths.items() for method in METHODS if method in item]
        return sorted(found, key=lambda one: (one[1] == "/logout", METHODS.index(one[0])))

    def send(self, method: str, path: str, operation: dict[str, Any]) -> Iterator[tuple[str, httpx2.Response]]:
        """Yield each form of the request body and the answer to its example."""
        url = path
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "path":
                name = parameter["name"]
                key = f"{path.split('/')[1]} {name}"
                value = self.known.get(key) or parameter["schema"].get("examples", parameter.get("examples"))[0]
                url = url.replace(f"{{{name}}}", value)
        contents = operation.get("requestBody", {}).get("content", {"": {}})
        for media_type, content in contents.items():
            yield media_type, self.client.request(method, url, **self._body(media_type, content))

    def _body(self, media_type: str, content: dict[str, Any]) -> dict[str, Any]:
        if not media_type:
            return {}
        schema = self._resolved(content["schema"])
        if media_type == JSON:
            return {"json": content["example"] if "example" in content else schema["examples"][0]}
        fields = {name: self._field(field) for name, field in schema["properties"].items()}
        filled = {name: str(value) for name, value in fields.items() if value not in ("", None)}
        return {"data": filled} if media_type == URLENCODED else {"files": {k: (None, v) for k, v in filled.items()}}

    def _field(self, schema: dict[str, Any]) -> Any:
        if schema.get("format") == "binary":
            return None  # the page cannot choose a file
        value = schema.get("example", schema.get("examples", [schema.get("default", "")])[0])
        return json.dumps(value) if isinstance(value, bool) else value

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        schema = schema["anyOf"][0] if "anyOf" in schema else schema
        if "$ref" in schema:
            schema = self.documents.document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return schema


class Recorder:
    """Keeps the last JSON body of each operation and status, shortened, as examples of the documentation."""

    def __init__(self, documents: Documented) -> None:
        self.documents = documents
        self.examples: dict[str, dict[str, Any]] = {}

    def record(self, answer: httpx2.Response) -> None:
        """Keep the answer instead of an earlier one of its kind."""
        path = self.documents.template(answer.request.url.path)
        is_json = "json" in answer.headers.get("content-type", "") and answer.read()
        if path in self.documents.document["paths"] and is_json:
            answers = self.examples.setdefault(f"{answer.request.method} {path}", {})
            answers[str(answer.status_code)] = shortened(json.loads(answer.read()))


def shortened(value: Any, key: str = "") -> Any:
    """Return a body without most of its long lists and texts, and without secrets."""
    if isinstance(value, dict):
        items = list(value.items())
        kept = items[:3] if all(name.isdigit() for name in value) else items
        return {name: shortened(item, name) for name, item in kept}
    if isinstance(value, list):
        return [shortened(item) for item in value[:2]]
    if isinstance(value, str) and (key in SECRETS or len(value) > 300):
        return f"{value[: 10 if key in SECRETS else 300]}…"
    return value


def kinds(examples: dict[str, dict[str, Any]]) -> dict[tuple[str, str], Any]:
    """Return of each example its error code, or the names of its fields."""
    return {
        (operation, status): body["code"]
        if status >= "400"
        else tuple(sorted(body))
        if isinstance(body, dict)
        else None
        for operation, answers in examples.items()
        for status, body in answers.items()
    }


def provoke_errors(client: httpx2.Client, platform: Platform) -> None:
    """Have the platform answer with each error that its documentation shows, as far as that takes no broken network."""
    assert client.get("/info", headers={"Authorization": "Bearer none"}).status_code == 401
    assert client.post("/users", json={"username": "sacha", "password": "quatre-mots-au-hasard"}).status_code == 201
    with platform.client(platform.token("sacha", "quatre-mots-au-hasard")) as user:
        user.event_hooks = client.event_hooks
        assert user.get("/users").status_code == 403
    for path in ("/models/none", "/train/jobs/none", "/drift/none", f"/datasets/{'2020'}0101T000000Z-abcd"):
        assert client.get(path).status_code == 404
    assert client.delete(f"/users/{platform.admin[0]}").status_code == 409
    assert predict_form(client, bytes(11_000_000)).status_code == 413
    assert client.post("/predict", content=b"a", headers={"Content-Type": "text/plain"}).status_code == 415
    assert client.post("/predict", json={"desigation": "Piscine"}).status_code == 422
    assert client.post("/train", json={"text": "none"}).status_code == 422
    assert eventually(lambda: client.post("/predict/text/manual", json={"designation": "Piscine"}).status_code == 429)
    champion = client.get("/models").json()["champion"]
    (platform.home / "models" / champion / "manifest.json").write_text("{")
    assert client.get(f"/models/{champion}").status_code == 500
    platform.stop("predict")
    assert client.get("/info").status_code == 503


@pytest.fixture
def busy_platform(make_platform: MakePlatform) -> Platform:
    return make_platform({"PREDICT_RATE_LIMIT": "30/minute"})


def test_every_request_example_of_every_route_is_answered_as_expected(busy_platform: Platform, sample: Path) -> None:
    documents = documented(busy_platform)
    with validated(busy_platform.client(busy_platform.admin_token()), documents) as client:
        recorder = Recorder(documents)
        client.event_hooks["response"].append(recorder.record)
        reader = Reader(client, documents, known_ids(client))
        unexpected, sent = [], set()
        for method, path, operation in reader.operations():
            if (method, path) == ("delete", "/train/jobs/{job_id}"):
                reader.known["train job_id"] = start_training(client)
            for media_type, answer in reader.send(method, path, operation):
                where = (method.upper(), path, media_type)
                sent.add(where)
                got = answer.status_code, answer.json().get("code") if answer.status_code >= 400 else None
                wanted = REFUSED.get(where, (answer.status_code if answer.is_success else 0, None))
                if got != wanted:
                    unexpected.append(f"{where}: {answer.status_code} {answer.text[:300]}")
                if path.startswith("/train") and answer.status_code == 202 and method == "post":
                    client.delete(answer.headers["location"])
                if path == "/drift" and method == "post":
                    report = finished_job(client, answer.json()["job_id"])["result"]
                    reader.known["drift report_id"] = client.get("/drift").json()["reports"][0]["id"]
                    assert report
        client.headers["Authorization"] = f"Bearer {busy_platform.admin_token()}"  # the last example logged out
        send_what_was_missing(client, busy_platform, sample)
        provoke_errors(client, busy_platform)
    if target := os.environ.get("DOCS_EXAMPLES"):
        Path(target).write_text(json.dumps(recorder.examples, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    committed = json.loads(EXAMPLES.read_text(encoding="utf-8"))
    assert kinds(committed).items() <= kinds(recorder.examples).items(), "`make docs-examples` records them again"
    assert not unexpected, "\n".join(unexpected)
    assert REFUSED.keys() <= sent
    assert {(method.upper(), path) for method, path, _ in reader.operations()} == {where[:2] for where in sent}


def known_ids(client: httpx2.Client) -> dict[str, str]:
    """Return ids of the platform by the first part of their path and their name."""
    refused = ingest(client, UNREADABLE_PRODUCTS)
    assert refused.status_code == 422
    return {
        "models version": client.get("/models").json()["champion"],
        "models name": "confusion",
        "datasets version": client.get("/datasets").json()["current"],
        "ingest ingest_id": refused.json()["ingest_id"],
    }


def send_what_was_missing(client: httpx2.Client, platform: Platform, sample: Path) -> None:
    """Send the refused examples again, with what only their reader has."""
    prediction = predict_form(client, (sample / "exemple.jpg").read_bytes(), "/predict/image/manual", top_k="3")
    assert prediction.status_code == 200
    feedback = {"prediction_id": prediction.json()["prediction_id"], "category_id": 2583}
    assert client.post("/feedback", json=feedback).status_code == 201
    username, password = platform.admin
    pair = client.post("/token", data={"username": username, "password": password}).json()
    assert client.post("/token/refresh", json={"refresh_token": pair["refresh_token"]}).status_code == 200
    assert ingest(client, catalogue(sample, 0, 60).labelled).status_code == 201


def test_an_example_works_once_its_reader_has_put_in_what_is_missing(busy_platform: Platform, sample: Path) -> None:
    with busy_platform.client(busy_platform.admin_token()) as client:
        send_what_was_missing(client, busy_platform, sample)
        change = {"current_password": busy_platform.admin[1], "new_password": "quatre-autres-mots-longs"}
        assert client.put("/users/me/password", json=change).status_code == 204
