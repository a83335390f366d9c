"""Runs the predict service: `python -m rayonnage_predict`. With PREDICT_WORKERS it starts itself as often as that."""

from __future__ import annotations

from rayonnage_shared.core import prefork as workers


def main() -> None:
    worker = workers.join()
    # Imported after that, since metrics are made by imports; and the application last: the workers' parent needs none.
    from rayonnage_predict.settings import PredictSettings
    from rayonnage_shared.observability.logging import set_up_logging
    from rayonnage_shared.observability.tracing import set_up_tracing

    settings = PredictSettings()
    set_up_logging("predict", settings, worker=worker.number if worker else None)
    if worker is None and settings.predict_workers > 1:
        host, port = settings.predict_host, settings.predict_port
        workers.run("rayonnage_predict", host=host, port=port, count=settings.predict_workers)
    set_up_tracing("predict", settings)

    from rayonnage_predict.app import create_app
    from rayonnage_shared.http.server import serve

    serve(create_app(settings), host=settings.predict_host, port=settings.predict_port)


if __name__ == "__main__":
    main()
