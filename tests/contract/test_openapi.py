"""The merged document says of every public operation what its service says, and every answer has its schema."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from jsonschema import Draft202012Validator

from rayonnage_gateway.app import create_app as gateway_app
from rayonnage_gateway.documentation import EXAMPLES, add_examples, merge
from rayonnage_gateway.routes import PUBLIC_ROUTES
from rayonnage_gateway.settings import GatewaySettings
from rayonnage_shared.core.validation import RequestModel

Document = dict[str, Any]
REFERENCE = "#/components/schemas/"
METHODS = {"get", "post", "put", "patch", "delete"}


def auth_app() -> FastAPI:
    from rayonnage_auth.app import create_app
    from rayonnage_auth.settings import AuthSettings

    return create_app(AuthSettings(_env_file=None))


def predict_app() -> FastAPI:
    from rayonnage_predict.app import create_app
    from rayonnage_predict.settings import PredictSettings

    return create_app(PredictSettings(_env_file=None))


def train_app() -> FastAPI:
    from rayonnage_train.app import create_app
    from rayonnage_train.settings import TrainSettings

    return create_app(TrainSettings(_env_file=None))


def ingest_app() -> FastAPI:
    from rayonnage_ingest.app import create_app
    from rayonnage_ingest.settings import IngestSettings

    return create_app(IngestSettings(_env_file=None))


APPS: dict[str, Callable[[], FastAPI]] = {
    "auth": auth_app,
    "ingest": ingest_app,
    "predict": predict_app,
    "train": train_app,
}


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Document]]:
    """What each service says of itself."""
    folder: Path = tmp_path_factory.mktemp("services")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield {service: build().openapi() for service, build in APPS.items()}


@pytest.fixture(scope="module")
def merged(documents: dict[str, Document]) -> Document:
    own = gateway_app(GatewaySettings(_env_file=None)).openapi()
    return merge(own, documents, PUBLIC_ROUTES)


def resolved(value: Any, schemas: Document, depth: int = 12) -> Any:
    """The value with references replaced by what they mean, so that names do not count."""
    if isinstance(value, dict):
        reference = value.get("$ref")
        if isinstance(reference, str) and reference.startswith(REFERENCE):
            assert depth, "a schema refers to itself"
            return resolved(schemas[reference[len(REFERENCE) :]], schemas, depth - 1)
        return {key: resolved(item, schemas, depth) for key, item in value.items()}
    if isinstance(value, list):
        return [resolved(item, schemas, depth) for item in value]
    return value


def operations(document: Document) -> Iterator[tuple[str, str, Document]]:
    for path, item in document["paths"].items():
        for method in METHODS & item.keys():
            yield method.upper(), path, item[method]


def name(route: Any) -> str:
    return f"{route.method} {route.path}"


@pytest.mark.parametrize("route", PUBLIC_ROUTES, ids=name)
def test_a_public_operation_is_described_as_its_service_describes_it(
    route: Any, documents: dict[str, Document], merged: Document
) -> None:
    theirs_document = documents[route.service]
    theirs = theirs_document["paths"][route.path][route.method.lower()]
    ours = merged["paths"][route.path][route.method.lower()]
    for part in ("parameters", "requestBody", "summary", "description"):
        assert resolved(ours.get(part), merged["components"]["schemas"]) == resolved(
            theirs.get(part), theirs_document["components"]["schemas"]
        )
    for status, response in theirs["responses"].items():
        assert resolved(ours["responses"][status], merged["components"]["schemas"]) == resolved(
            response, theirs_document["components"]["schemas"]
        )


@pytest.mark.parametrize("route", PUBLIC_ROUTES, ids=name)
def test_gateway_and_service_agree_on_who_may_call(route: Any, documents: dict[str, Document]) -> None:
    theirs = documents[route.service]["paths"][route.path][route.method.lower()]
    assert bool(theirs.get("security")) == (route.access != "public")


def test_nothing_else_is_public(merged: Document) -> None:
    shown = {(method, path) for method, path, _operation in operations(merged)}
    own = {("GET", "/"), ("GET", "/status"), ("GET", "/health/live"), ("GET", "/health/ready")}
    assert shown == own | {(route.method, route.path) for route in PUBLIC_ROUTES}


def test_every_answer_with_a_body_has_its_schema_and_every_error_is_a_problem(merged: Document) -> None:
    for method, path, operation in operations(merged):
        for status, response in operation["responses"].items():
            content = response.get("content", {})
            if status in ("204", "304"):
                assert not content
                continue
            assert content, f"{method} {path} {status} does not say what it answers with"
            if status >= "400":
                assert list(content) == ["application/problem+json"], f"{method} {path} {status}"
            for media_type, described in content.items():
                assert described.get("schema"), f"{method} {path} {status} {media_type} has no schema"


def test_references_lead_somewhere_and_operation_ids_are_unique(merged: Document) -> None:
    resolved(merged["paths"], merged["components"]["schemas"])
    ids = [operation["operationId"] for _method, _path, operation in operations(merged)]
    assert len(ids) == len(set(ids))


def test_a_photo_can_be_uploaded_from_the_page(merged: Document) -> None:
    form = merged["paths"]["/predict"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    image = resolved(form, merged["components"]["schemas"])["properties"]["image"]
    described = [image, *image.get("anyOf", [])]
    assert any(
        part.get("format") == "binary" or part.get("contentMediaType") == "application/octet-stream"
        for part in described
    )


def test_the_recorded_examples_fit_their_schemas_and_every_error_has_one(merged: Document) -> None:
    shown = copy.deepcopy(merged)
    add_examples(shown, json.loads(EXAMPLES.read_text(encoding="utf-8")))
    checked = 0
    for method, path, operation in operations(shown):
        for status, response in operation["responses"].items():
            for media_type, content in response.get("content", {}).items():
                where = f"{method} {path} {status}"
                if status >= "400":
                    assert content["example"]["status"] == int(status), where
                if "example" in content and media_type.endswith("json"):
                    schema = content["schema"] | {"components": shown["components"]}
                    errors = list(Draft202012Validator(schema).iter_errors(content["example"]))
                    assert not errors, f"{where}: {errors[0].message}"
                    checked += 1
    assert checked > 100


def test_every_json_body_is_a_request_model_which_refuses_what_cannot_be_encoded(merged: Document) -> None:
    known = {one.__name__ for one in subclasses(RequestModel)}
    bodies = {
        (path, reference.removeprefix(REFERENCE))
        for path, item in merged["paths"].items()
        for operation in item.values()
        for reference in references(operation.get("requestBody", {}).get("content", {}).get("application/json", {}))
    }

    assert len(bodies) > 10
    assert {(path, name) for path, name in bodies if name not in known} == set()


def subclasses(model: type[RequestModel]) -> Iterator[type[RequestModel]]:
    for one in model.__subclasses__():
        yield from (one, *subclasses(one))


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for one in value:
            yield from references(one)
