"""Run the gateway: `python -m rayonnage_gateway`."""

from __future__ import annotations

from rayonnage_gateway.app import create_app
from rayonnage_gateway.settings import GatewaySettings
from rayonnage_shared.core.settings import read_settings
from rayonnage_shared.http.server import serve
from rayonnage_shared.observability.logging import set_up_logging
from rayonnage_shared.observability.tracing import set_up_tracing


def main() -> None:
    """Serve until a signal stops the process."""
    settings = read_settings(GatewaySettings)
    set_up_logging("gateway", settings)
    set_up_tracing("gateway", settings, public=True)
    serve(
        create_app(settings),
        host=settings.gateway_host,
        port=settings.gateway_port,
        trusted_proxies=settings.gateway_forwarded_allow_ips,
    )


if __name__ == "__main__":
    main()
