"""The two pages that show the OpenAPI document; a policy keeps what they load to this origin."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from starlette.responses import HTMLResponse

STATIC = "/static-offline-docs"  # where FastAPIOffline mounts the pages' scripts
TITLE = "Rayonnage"
# ReDoc would fetch a logo from its maker's CDN: browsers refuse that here, and ReDoc then leaves the logo out.
# Both pages style and start themselves with inline code, and ReDoc searches in a worker made from a blob.
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


def docs_router() -> APIRouter:
    """Return `/docs` (Swagger UI) and `/redoc`, which need no internet."""
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    async def swagger(request: Request) -> HTMLResponse:
        root = request.scope.get("root_path", "")
        return _kept_here(
            get_swagger_ui_html(
                openapi_url=f"{root}/openapi.json",
                title=f"{TITLE} - Swagger UI",
                swagger_js_url=f"{root}{STATIC}/swagger-ui-bundle.js",
                swagger_css_url=f"{root}{STATIC}/swagger-ui.css",
                swagger_favicon_url=f"{root}{STATIC}/favicon.png",
            )
        )

    @router.get("/redoc")
    async def redoc(request: Request) -> HTMLResponse:
        root = request.scope.get("root_path", "")
        return _kept_here(
            get_redoc_html(
                openapi_url=f"{root}/openapi.json",
                title=f"{TITLE} - ReDoc",
                redoc_js_url=f"{root}{STATIC}/redoc.standalone.js",
                redoc_favicon_url=f"{root}{STATIC}/favicon.png",
                with_google_fonts=False,
            )
        )

    return router


def _kept_here(page: HTMLResponse) -> HTMLResponse:
    page.headers["Content-Security-Policy"] = POLICY
    return page
