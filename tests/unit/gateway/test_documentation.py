"""One document for the whole platform, true to what each service says."""

from __future__ import annotations

import json
import re
import threading
import time
from typing import Any

import httpx2
import pytest

from rayonnage_gateway.documentation import add_examples, merge
from rayonnage_gateway.routes import PublicRoute
from tests.unit.gateway.servers import Conversation, Service, running
from tests.waiting import PATIENCE_S, eventually

ROUTES = (
    PublicRoute("GET", "/models", "predict", "user"),
    PublicRoute("POST", "/train", "train", "admin"),
    PublicRoute("GET", "/train/{job_id}", "train", "admin"),
    PublicRoute("POST", "/token", "auth", "public"),
)


def operation(schema: str, operation_id: str = "op", **more: Any) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"operationId": operation_id, "responses": {"200": {"description": "Fine", "content": content}}, **more}


def document(paths: dict[str, Any], **schemas: Any) -> dict[str, Any]:
    return {"openapi": "3.1.0", "info": {"title": "x", "description": "d"}, "paths": paths} | (
        {"components": {"schemas": schemas}} if schemas else {}
    )


def own() -> dict[str, Any]:
    return document({"/status": {"get": operation("Status", "own")}}, Status={"type": "object", "title": "Status"})


def test_only_public_operations_of_the_right_service_are_shown() -> None:
    train = document(
        {"/train": {"post": operation("Job", "a"), "get": operation("Job", "b")}, "/internal": {"get": operation("X")}},
        Job={"type": "object"},
        X={"type": "object"},
    )
    predict = document({"/train": {"post": operation("Job", "c")}}, Job={"type": "string"})
    merged = merge(own(), {"train": train, "predict": predict}, ROUTES)
    assert {path: set(item) for path, item in merged["paths"].items()} == {"/status": {"get"}, "/train": {"post"}}
    assert merged["paths"]["/train"]["post"]["operationId"] == "a"
    assert merged["paths"]["/train"]["post"]["tags"] == ["train"]
    assert "X" not in merged["components"]["schemas"]


def test_equal_schemas_are_shared_and_different_ones_renamed_with_all_that_refers_to_them() -> None:
    reference = {"$ref": "#/components/schemas/Inner"}
    outer = {"type": "object", "properties": {"inner": {"anyOf": [reference, {"type": "null"}]}}}
    same = {"type": "object", "title": "Same"}
    predict = document({"/models": {"get": operation("Outer")}}, Outer=outer, Inner={"type": "string"}, Same=same)
    train = document(
        {"/train": {"post": operation("Outer")}, "/train/{job_id}": {"get": operation("Same")}},
        Outer=outer,
        Inner={"type": "integer"},
        Same=same,
    )
    merged = merge(own(), {"predict": predict, "train": train}, ROUTES)
    schemas = merged["components"]["schemas"]
    assert schemas["Inner"] == {"type": "string"}
    assert schemas["TrainInner"] == {"type": "integer"}
    assert schemas["TrainOuter"]["properties"]["inner"]["anyOf"][0] == {"$ref": "#/components/schemas/TrainInner"}
    assert "TrainSame" not in schemas
    body = merged["paths"]["/train"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/TrainOuter"}


def test_operation_ids_are_unique() -> None:
    merged = merge(
        own(),
        {
            "predict": document({"/models": {"get": operation("A", "same")}}, A={}),
            "train": document({"/train": {"post": operation("A", "same")}}, A={}),
        },
        ROUTES,
    )
    ids = [item["operationId"] for path in merged["paths"].values() for item in path.values()]
    assert sorted(ids) == ["own", "same", "train_same"]


def test_security_is_what_the_table_says() -> None:
    merged = merge(
        own(),
        {
            "auth": document({"/token": {"post": operation("A", "t", security=[{"Other": []}])}}, A={}),
            "train": document({"/train": {"post": operation("A")}}, A={}),
        },
        ROUTES,
    )
    assert "security" not in merged["paths"]["/token"]["post"]
    assert merged["paths"]["/train"]["post"]["security"] == [{"OAuth2PasswordBearer": []}]
    scheme = merged["components"]["securitySchemes"]["OAuth2PasswordBearer"]
    assert scheme["flows"]["password"]["tokenUrl"] == "token"


def test_answers_that_the_gateway_gives_itself_are_among_the_answers() -> None:
    merged = merge(own(), {"train": document({"/train": {"post": operation("A")}}, A={})}, ROUTES)
    responses = merged["paths"]["/train"]["post"]["responses"]
    assert {"401", "403", "413", "502", "503", "504"} <= set(responses)
    assert responses["503"]["content"]["application/problem+json"]["schema"]["$ref"].endswith("/Problem")
    assert "Problem" in merged["components"]["schemas"]


def test_a_service_that_was_never_heard_is_named() -> None:
    merged = merge(own(), {"train": document({})}, ROUTES, unreachable={"auth", "predict"})
    assert "auth, predict" in merged["info"]["description"]


def test_an_error_without_an_example_of_its_own_gets_one_of_another_operation() -> None:
    paths = {"/train": {"post": operation("A")}}
    merged = merge(
        own(), {"train": document(paths, A={}), "auth": document({"/token": {"post": operation("A")}}, A={})}, ROUTES
    )
    add_examples(merged, {"POST /token": {"200": {"a": 1}, "401": {"status": 401}}})
    token, train = (merged["paths"][path]["post"]["responses"] for path in ("/token", "/train"))
    assert token["200"]["content"]["application/json"]["example"] == {"a": 1}
    assert "example" not in train["200"]["content"]["application/json"]
    assert train["401"]["content"]["application/problem+json"]["example"] == {"status": 401}
    assert train["504"]["content"]["application/problem+json"]["example"]["code"] == "upstream_timeout"


def describing(paths: dict[str, Any]) -> Any:
    def describe(conversation: Conversation) -> None:
        while True:
            conversation.read_head()
            conversation.answer(json.dumps(document(paths, A={"type": "object"})).encode())

    return describe


def shown(client: httpx2.Client, path: str) -> bool:
    return path in client.get("/openapi.json").json()["paths"]


def test_the_document_grows_as_services_come_up_and_survives_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rayonnage_gateway.documentation.RETRY_S", 0.05)
    monkeypatch.setattr("rayonnage_gateway.documentation.REFRESH_S", 0.05)
    service = Service(answers_openapi=True)
    service.script = describing({"/train": {"post": operation("A")}})
    with running(train_url=service.url) as gateway, httpx2.Client(base_url=gateway.url, timeout=PATIENCE_S) as client:
        assert eventually(lambda: shown(client, "/train"))
        text = client.get("/openapi.json").json()["info"]["description"]
        assert "predict" in text.partition("Not shown")[2]
        assert "train" not in text.partition("Not shown")[2]
        service.play(describing({"/train/text": {"post": operation("A")}}))
        assert eventually(lambda: shown(client, "/train/text"))
        service.close()
        time.sleep(0.3)
        assert shown(client, "/train/text")


def test_a_document_that_cannot_be_parsed_does_not_end_the_refresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rayonnage_gateway.documentation.RETRY_S", 0.05)
    asked = threading.Event()

    def nest(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.answer(b"[" * 100_000, 200, "Connection: close")
        asked.set()

    service = Service(answers_openapi=True)
    service.play(nest, describing({"/train": {"post": operation("A")}}))
    with running(train_url=service.url) as gateway, httpx2.Client(base_url=gateway.url, timeout=PATIENCE_S) as client:
        assert asked.wait(PATIENCE_S)
        assert eventually(lambda: shown(client, "/train"))
    service.close()


def test_the_pages_load_nothing_from_elsewhere(client: httpx2.Client) -> None:
    for page in ("/docs", "/redoc"):
        text = client.get(page).text
        assert "http://" not in text.replace("http://www.w3.org", "")
        assert "https://" not in text.replace("https://www.w3.org", "")
        policy = client.get(page).headers["content-security-policy"]
        assert "default-src 'self'" in policy and "http" not in policy
    assert client.get("/static-offline-docs/swagger-ui-bundle.js").status_code == 200


def test_the_assets_are_compressed_and_cached_for_ever_under_an_address_with_their_hash(client: httpx2.Client) -> None:
    for page in ("/docs", "/redoc"):
        for address in re.findall(r'(?:src|href)="(static[^"]+)"', client.get(page).text):
            answer = client.get(f"/{address}")
            assert answer.status_code == 200
            assert re.search(r"\?v=[0-9a-f]{12}$", address)
            assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
            if not address.startswith("static-offline-docs/favicon.png"):  # PNG is compressed already
                assert answer.headers["content-encoding"] == "gzip"
                assert int(answer.headers["content-length"]) < len(answer.content) * 0.7
            plain = client.get(f"/{address}", headers={"Accept-Encoding": "identity"})
            assert "content-encoding" not in plain.headers and plain.content == answer.content
    assert client.get("/static-offline-docs/none.js").status_code == 404


def test_the_document_is_compressed_and_checked_for_changes_with_each_use(client: httpx2.Client) -> None:
    answer = client.get("/openapi.json")
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["cache-control"] == "no-cache"
    unchanged = client.get("/openapi.json", headers={"If-None-Match": answer.headers["etag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")


def test_the_groups_of_the_page_are_in_the_order_of_use() -> None:
    auth = document({"/token": {"post": operation("A", tags=["tokens"])}}, A={})
    merged = merge(own(), {"auth": auth}, ROUTES)
    assert merged["paths"]["/token"]["post"]["tags"] == ["tokens"]
    assert [tag["name"] for tag in merged["tags"]][:2] == ["tokens", "predictions"]
