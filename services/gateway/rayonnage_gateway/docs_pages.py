"""Swagger UI and ReDoc, served without internet access; a content security policy allows this origin only.

All addresses are relative, so that the pages also work below a path prefix.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
import mimetypes
from dataclasses import dataclass
from importlib import resources
from string import Template

from fastapi import Request
from fastapi.openapi.docs import get_redoc_html
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

TITLE = "Rayonnage"
STATIC = "static-offline-docs"
_VENDORED = resources.files("fastapi_offline") / "static"
_OWN = resources.files(__package__) / "docs"
_ASSETS = {name: _VENDORED / name for name in ("swagger-ui-bundle.js", "swagger-ui.css", "redoc.standalone.js")} | {
    "favicon.png": _VENDORED / "favicon.png",
    "swagger.js": _OWN / "swagger.js",
}
# The addresses of the assets contain a hash of their content.
_FOREVER = "public, max-age=31536000, immutable"
# The policy also blocks the logo that ReDoc requests from a CDN. Both pages need inline styles, ReDoc an inline script,
# and ReDoc's search runs in a worker created from a blob.
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "worker-src blob:",
        "frame-ancestors 'none'",
    )
)


@dataclass(frozen=True, slots=True)
class Content:
    """A file of the pages, also compressed."""

    plain: bytes
    compressed: bytes
    media_type: str
    etag: str


def docs_routes() -> list[Route]:
    """Return the routes of the pages (`/docs`, `/redoc`), their assets, and `/openapi.json`.

    The endpoints are not coroutines: Starlette runs them in threads, since compressing blocks.
    """
    return [
        Route("/docs", _swagger, include_in_schema=False),
        Route("/redoc", _redoc, include_in_schema=False),
        Route("/openapi.json", _document, include_in_schema=False),
        Route(f"/{STATIC}/{{name}}", _asset, include_in_schema=False),
    ]


def _swagger(_request: Request) -> Response:
    page = Template((_OWN / "swagger.html").read_text(encoding="utf-8"))
    return _with_policy(HTMLResponse(page.substitute(version=_version())))


def _redoc(_request: Request) -> Response:
    return _with_policy(
        get_redoc_html(
            openapi_url="openapi.json",
            title=f"{TITLE} - ReDoc",
            redoc_js_url=f"{STATIC}/redoc.standalone.js?v={_version()}",
            redoc_favicon_url=f"{STATIC}/favicon.png?v={_version()}",
            with_google_fonts=False,
        )
    )


def _document(request: Request) -> Response:
    text = json.dumps(request.app.openapi(), ensure_ascii=False, separators=(",", ":")).encode()
    return _answer(request, _content(text, "application/json"), "no-cache")


def _asset(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in _ASSETS:
        raise HTTPException(404)
    return _answer(request, _read(name), _FOREVER)


@functools.cache
def _read(name: str) -> Content:
    return _content(_ASSETS[name].read_bytes(), mimetypes.guess_type(name)[0] or "application/octet-stream")


@functools.cache
def _version() -> str:
    return hashlib.sha256(b"".join(asset.read_bytes() for asset in _ASSETS.values())).hexdigest()[:12]


def _content(plain: bytes, media_type: str) -> Content:
    return Content(plain, gzip.compress(plain, mtime=0), media_type, f'W/"{hashlib.sha256(plain).hexdigest()[:32]}"')


def _answer(request: Request, content: Content, cache_control: str) -> Response:
    headers = {"ETag": content.etag, "Cache-Control": cache_control, "Vary": "Accept-Encoding"}
    if content.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if "gzip" not in request.headers.get("accept-encoding", "") or len(content.compressed) >= len(content.plain):
        return Response(content.plain, media_type=content.media_type, headers=headers)
    headers["Content-Encoding"] = "gzip"
    return Response(content.compressed, media_type=content.media_type, headers=headers)


def _with_policy(page: HTMLResponse) -> HTMLResponse:
    page.headers["Content-Security-Policy"] = POLICY
    return page
