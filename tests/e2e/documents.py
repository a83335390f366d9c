"""Holds answers against the platform's own documentation."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import httpx2
from jsonschema import Draft202012Validator, FormatChecker

from tests.e2e.deployment import Deployment
from tests.waiting import eventually


@dataclass
class Documented:
    """An OpenAPI 3.1 document, and which of its answers were seen."""

    document: dict[str, Any]
    seen: set[tuple[str, str, str]] = field(default_factory=set)

    def check(self, answer: httpx2.Response) -> None:
        """Assert that the document announces this status, media type and body; unknown paths are left alone."""
        method, path = answer.request.method.lower(), answer.request.url.path
        template = self.template(path)
        operation = self.document["paths"].get(template, {}).get(method)
        if operation is None:
            return
        status = str(answer.status_code)
        where = f"{method.upper()} {template} → {status}"
        assert status in operation["responses"], f"{where} is not documented"
        content = operation["responses"][status].get("content", {})
        media_type = answer.headers.get("content-type", "").partition(";")[0]
        self.seen.add((method.upper(), template, status))
        if not content:
            assert not answer.read(), f"{where} has a body, of which the document knows nothing"
            return
        assert media_type in content, f"{where} is {media_type!r}, documented as {list(content)}"
        if media_type.endswith("json"):
            self.check_schema(answer.read(), answer.json(), content[media_type]["schema"], where)

    def check_schema(self, text: bytes, value: Any, schema: dict[str, Any], where: str) -> None:
        """Assert that a value fits its schema."""
        # References of the document lead to #/components/…, so the components go along.
        whole = {**schema, "components": self.document["components"]}
        errors = list(Draft202012Validator(whole, format_checker=FormatChecker()).iter_errors(value))
        assert not errors, f"{where} does not fit its schema: {errors[0].message} in {text[:500]!r}"

    def template(self, path: str) -> str:
        """Return the path of the document that this path is one of; plain paths win over those with parameters."""
        templates = sorted(self.document["paths"], key=lambda one: one.count("{"))
        return next((one for one in templates if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", one), path)), path)


def documented(platform: Deployment) -> Documented:
    """Return the gateway's document once it tells of every service."""
    with platform.client() as client:
        assert eventually(lambda: "Not shown" not in client.get("/openapi.json").json()["info"]["description"])
        return Documented(client.get("/openapi.json").json())


def validated(client: httpx2.Client, documents: Documented) -> httpx2.Client:
    """Return the client, which from now on holds every answer against the document."""
    client.event_hooks = {"response": [documents.check]}
    return client
