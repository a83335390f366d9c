"""Run the train service: `python -m rayonnage_train`."""

from __future__ import annotations

from rayonnage_shared.core.settings import read_settings
from rayonnage_shared.http.server import serve
from rayonnage_shared.observability.logging import set_up_logging
from rayonnage_shared.observability.tracing import set_up_tracing
from rayonnage_train.app import create_app
from rayonnage_train.settings import TrainSettings


def main() -> None:
    settings = read_settings(TrainSettings)
    set_up_logging("train", settings)
    set_up_tracing("train", settings)
    serve(create_app(settings), host=settings.train_host, port=settings.train_port)


if __name__ == "__main__":
    main()
