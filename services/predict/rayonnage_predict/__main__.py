"""Run the predict service: `python -m rayonnage_predict`."""

from __future__ import annotations

from rayonnage_predict.app import create_app
from rayonnage_predict.settings import PredictSettings
from rayonnage_shared.core.settings import read_settings
from rayonnage_shared.http.server import serve
from rayonnage_shared.observability.logging import set_up_logging
from rayonnage_shared.observability.tracing import set_up_tracing


def main() -> None:
    settings = read_settings(PredictSettings)
    set_up_logging("predict", settings, replica=settings.predict_replica)
    set_up_tracing("predict", settings)
    serve(create_app(settings), host=settings.predict_host, port=settings.predict_port)


if __name__ == "__main__":
    main()
