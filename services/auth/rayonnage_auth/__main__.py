"""Run the auth service: `python -m rayonnage_auth`."""

from __future__ import annotations

from rayonnage_auth.app import create_app
from rayonnage_auth.settings import AuthSettings
from rayonnage_shared.core.settings import read_settings
from rayonnage_shared.http.server import serve
from rayonnage_shared.observability.logging import set_up_logging
from rayonnage_shared.observability.tracing import set_up_tracing


def main() -> None:
    settings = read_settings(AuthSettings)
    set_up_logging("auth", settings)
    set_up_tracing("auth", settings)
    # Login throttling needs the client address, which the gateway forwards.
    serve(
        create_app(settings),
        host=settings.auth_host,
        port=settings.auth_port,
        trusted_proxies=settings.forwarded_allow_ips,
    )


if __name__ == "__main__":
    main()
