"""Runs the gateway: `python -m rayonnage_gateway`."""

from __future__ import annotations

import uvicorn

from rayonnage_gateway.app import create_app
from rayonnage_gateway.settings import GatewaySettings
from rayonnage_shared.telemetry import set_up_logging


def main() -> None:
    """Serve until told to stop."""
    settings = GatewaySettings()
    set_up_logging("gateway", settings)
    uvicorn.run(
        create_app(settings),
        host=settings.gateway_host,
        port=settings.gateway_port,
        loop="uvloop",
        http="httptools",
        ws="none",
        access_log=False,
        log_config=None,
        proxy_headers=bool(settings.gateway_forwarded_allow_ips),
        forwarded_allow_ips=settings.gateway_forwarded_allow_ips,
        server_header=False,
        timeout_graceful_shutdown=10,
    )


if __name__ == "__main__":
    main()
