"""One OpenAPI document for the whole platform, merged from the documents of the services."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import resources
from typing import Any

import structlog

from rayonnage_gateway.connection import BadUpstreamResponse, UpstreamTimeout
from rayonnage_gateway.forwarding import BadRequestHead, RequestTimeout
from rayonnage_gateway.routes import PublicRoute
from rayonnage_gateway.upstream import Upstream
from rayonnage_shared.core.disk import storage_full
from rayonnage_shared.core.errors import PROBLEM_MEDIA_TYPE, RayonnageError, problem_document
from rayonnage_shared.http.schemas import Problem

log = structlog.get_logger()

RETRY_S = 1.0  # while a service has not answered
REFRESH_S = 30.0  # afterwards: a service may restart with another version
FETCH_TIMEOUT_S = 5.0
SCHEME = "OAuth2PasswordBearer"
_REF = "#/components/schemas/"

Document = dict[str, Any]
Examples = dict[str, dict[str, Any]]
"""Response bodies by operation (`GET /info`) and status."""

# In the order of the page: log in, predict, then the rest.
TAGS = {
    "tokens": "Log in and out.",
    "predictions": "Predict categories, and say which were wrong.",
    "models": "Model versions, promotion and rollback.",
    "ingest": "Upload of labelled products, and dataset versions.",
    "train": "Training jobs and drift reports.",
    "users": "Your account, and those of others.",
    "for services": "Keys that verify tokens.",
    "platform": "State of the platform.",
    "health": "Health checks for probes.",
}
_HOW_TO_LOG_IN = (
    "Enter your username and password. After `make run`, those of the first administrator are "
    "`ADMIN_USERNAME` and `ADMIN_PASSWORD` in `.env`."
)
# Answers of a running platform, recorded by `make docs-examples`: by operation and status, shortened.
EXAMPLES = resources.files(__package__) / "docs" / "examples.json"
_NOT_RECORDED: tuple[RayonnageError, ...] = (  # what a platform in good order does not answer
    BadRequestHead("Content-Length is not a number of bytes."),
    RequestTimeout("No more of the request body arrived for 60 s."),
    BadUpstreamResponse("The service `train` sent an invalid response: no status line.", service="train"),
    UpstreamTimeout("The service `train` did not answer in time.", service="train"),
    storage_full(),
)
_ADDED_PROBLEMS = {
    "400": "The request cannot be read",
    "401": "A valid bearer token is needed",
    "403": "Your role does not allow this",
    "408": "The request body did not arrive in time",
    "413": "The request body is too large",
    "429": "Too many requests",
    "502": "A part of the platform sent an invalid response",
    "503": "A part of the platform is unavailable or at capacity",
    "504": "A part of the platform took too long",
    "507": "The disk is full",
}


class Documentation:
    """Keeps the merged document up to date. `document` returns the last one at once."""

    def __init__(
        self, own: Callable[[], Document], upstreams: Mapping[str, Upstream], routes: Iterable[PublicRoute]
    ) -> None:
        self._own = own
        self._upstreams = upstreams
        self._routes = tuple(routes)
        self._texts: dict[str, bytes] = {}
        self._unreachable: set[str] = set(upstreams)
        self._merged: Document | None = None
        self._examples: Examples = json.loads(EXAMPLES.read_text(encoding="utf-8"))

    def document(self) -> Document:
        """Return the merged document; its description names each service that has not answered yet."""
        if self._merged is None:
            documents = {service: json.loads(text) for service, text in self._texts.items()}
            self._merged = merge(self._own(), documents, self._routes, self._unreachable)
            add_examples(self._merged, self._examples)
        return self._merged

    async def keep_fresh(self) -> None:
        """Fetch the documents of all services for ever, more often while one is unreachable."""
        while True:
            await asyncio.gather(*(self._fetch(service) for service in self._upstreams))
            await asyncio.sleep(RETRY_S if self._unreachable else REFRESH_S)

    async def _fetch(self, service: str) -> None:
        try:
            status, text = await self._upstreams[service].fetch("/openapi.json", timeout_s=FETCH_TIMEOUT_S)
            if status != 200 or not isinstance(json.loads(text).get("paths"), dict):
                raise ValueError(f"{service} answers {status} at /openapi.json without an OpenAPI document")
        except Exception as error:  # noqa: BLE001 - one service must not stop the refresh of all
            if service not in self._unreachable:
                log.info("gateway.documentation.fetch_failed", upstream=service, error=str(error))
                self._unreachable.add(service)
                self._merged = None
            return
        if service in self._unreachable or self._texts.get(service) != text:
            self._unreachable.discard(service)
            self._texts[service] = text
            self._merged = None


def merge(
    own: Document, services: Mapping[str, Document], routes: Iterable[PublicRoute], unreachable: Iterable[str] = ()
) -> Document:
    """Return `own` with the public operations of `services`; different schemas of one name are renamed.

    The security of each operation comes from the gateway's table, and the gateway's own error responses are added.
    """
    merged = copy.deepcopy(own)
    schemas: dict[str, Any] = merged.setdefault("components", {}).setdefault("schemas", {})
    schemas.setdefault("Problem", _problem_schema(schemas))
    renamed = {service: _adopt(service, document, schemas) for service, document in services.items()}
    operation_ids = {operation.get("operationId") for operation in _operations(merged)}
    needs_token = False
    for route in routes:
        found = services.get(route.service, {}).get("paths", {}).get(route.path, {}).get(route.method.lower())
        if found is None:
            continue
        operation = _with_names(found, renamed[route.service])
        operation.setdefault("tags", [route.service])
        name = operation.get("operationId", f"{route.method.lower()}_{route.path}")
        operation["operationId"] = name if name not in operation_ids else f"{route.service}_{name}"
        operation_ids.add(operation["operationId"])
        operation.pop("security", None)
        if route.access != "public":
            operation["security"] = [{SCHEME: []}]
            needs_token = True
        _add_problems(operation, route)
        merged["paths"].setdefault(route.path, {})[route.method.lower()] = operation
    if needs_token:
        flow = {"tokenUrl": "token", "refreshUrl": "token/refresh", "scopes": {}}
        merged["components"]["securitySchemes"] = {
            SCHEME: {"type": "oauth2", "description": _HOW_TO_LOG_IN, "flows": {"password": flow}}
        }
    merged["tags"] = [{"name": name, "description": text} for name, text in TAGS.items()]
    _keep_reachable(merged)
    missing = sorted(set(unreachable) - services.keys())
    if missing:
        merged["info"]["description"] += f"\n\n**Not shown, because not reached yet: {', '.join(missing)}.**"
    return merged


def add_examples(document: Document, examples: Examples) -> None:
    """Add an example to each response that has none: its own, or for an error one of another operation."""
    by_status = {str(error.status): _as_problem(error) for error in _NOT_RECORDED}
    for answers in examples.values():
        for status, body in answers.items():
            if status >= "400":
                by_status.setdefault(status, body)
    for path, item in document["paths"].items():
        for method, operation in item.items():
            own = examples.get(f"{method.upper()} {path}", {})
            for status, response in operation["responses"].items():
                body = own.get(status, by_status.get(status))
                for media_type, content in response.get("content", {}).items():
                    if body is not None and media_type.endswith("json"):
                        content.setdefault("example", body)


def _as_problem(error: RayonnageError) -> Document:
    return problem_document(
        status=error.status,
        code=error.code,
        title=error.title,
        detail=error.detail,
        request_id="01KA9VGXJ5M8Q3T7R2W4Y6Z8B0",
        **error.extra,
    )


def _adopt(service: str, document: Document, schemas: dict[str, Any]) -> dict[str, str]:
    """Add a service's schemas to `schemas`, and return the new name of each by its own name."""
    theirs: dict[str, Any] = document.get("components", {}).get("schemas", {})
    changed = {name for name, schema in theirs.items() if name in schemas and schemas[name] != schema}
    while True:
        # A schema that refers to a renamed schema differs too.
        more = {name for name, schema in theirs.items() if name not in changed and changed & set(_names_in(schema))}
        more = {name for name in more if name in schemas}
        if not more:
            break
        changed |= more
    names = {name: f"{service.capitalize()}{name}" if name in changed else name for name in theirs}
    for name, schema in theirs.items():
        schemas.setdefault(names[name], _with_names(schema, names))
    return names


def _add_problems(operation: Document, route: PublicRoute) -> None:
    responses = operation.setdefault("responses", {})
    for status, text in _ADDED_PROBLEMS.items():
        if status in ("401", "403") and route.access == "public":
            continue
        if status == "403" and route.access != "admin":
            continue
        if status == "429" and route.route_class != "prediction":
            continue
        if status == "507" and (route.method == "GET" or route.service == "predict"):
            continue
        responses.setdefault(
            status, {"description": text, "content": {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": f"{_REF}Problem"}}}}
        )
    operation["responses"] = dict(sorted(responses.items()))


def _problem_schema(schemas: dict[str, Any]) -> Document:
    schema = Problem.model_json_schema(ref_template=f"{_REF}{{model}}")
    for name, definition in schema.pop("$defs", {}).items():
        schemas.setdefault(name, definition)
    return schema


def _operations(document: Document) -> Iterator[Document]:
    for path in document.get("paths", {}).values():
        yield from path.values()


def _with_names(value: Any, names: Mapping[str, str]) -> Any:
    """Return a copy of `value` whose references have the given names."""
    if isinstance(value, dict):
        return {
            key: f"{_REF}{names.get(item[len(_REF) :], item[len(_REF) :])}"
            if _is_reference(key, item)
            else _with_names(item, names)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_with_names(item, names) for item in value]
    return value


def _names_in(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if _is_reference(key, item):
                yield item[len(_REF) :]
            else:
                yield from _names_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from _names_in(item)


def _is_reference(key: str, item: Any) -> bool:
    return key == "$ref" and isinstance(item, str) and item.startswith(_REF)


def _keep_reachable(document: Document) -> None:
    schemas = document["components"]["schemas"]
    reachable: set[str] = set()
    found = set(_names_in(document["paths"]))
    while found:
        reachable |= found
        found = {name for known in found for name in _names_in(schemas.get(known, {}))} - reachable
    document["components"]["schemas"] = {name: schemas[name] for name in sorted(reachable) if name in schemas}
