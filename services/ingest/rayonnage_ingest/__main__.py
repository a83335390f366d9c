"""Run the ingest service: `python -m rayonnage_ingest`."""

from __future__ import annotations

from rayonnage_ingest.app import create_app
from rayonnage_ingest.settings import IngestSettings
from rayonnage_shared.core.settings import read_settings
from rayonnage_shared.http.server import serve
from rayonnage_shared.observability.logging import set_up_logging
from rayonnage_shared.observability.tracing import set_up_tracing


def main() -> None:
    settings = read_settings(IngestSettings)
    set_up_logging("ingest", settings)
    set_up_tracing("ingest", settings)
    serve(create_app(settings), host=settings.ingest_host, port=settings.ingest_port)


if __name__ == "__main__":
    main()
