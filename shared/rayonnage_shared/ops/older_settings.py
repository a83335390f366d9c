"""Settings of the older systems that have no effect here, and what took their place."""

from __future__ import annotations

from collections.abc import Mapping

from rayonnage_shared.core.processes import EnvironmentValues

_BUNDLES = "models are bundles in MODELS_PATH, each with its own tokenizer, weights and categories"
_WEIGHTS = "the fusion's weights are part of the bundle in MODELS_PATH, and fitted by each training"
_CATEGORIES = "categories are part of the bundle; CATEGORIES_PATH names a JSON file with other labels"
_LOGS = "each service writes <service>.log to LOGS_PATH"
_PRODUCTS = "products and photos are in DATA_PATH, written by `rayonnage ingest`"

OLDER_SETTINGS: Mapping[str, str] = {
    "TOKENIZER_CONFIG_PATH": _BUNDLES,
    "LSTM_MODEL_PATH": _BUNDLES,
    "VGG16_MODEL_PATH": _BUNDLES,
    "CONCATENATED_MODEL_PATH": _BUNDLES,
    "BEST_WEIGHTS_PATH": _WEIGHTS,
    "BEST_WEIGHTS_PATH_PKL": _WEIGHTS,
    "MAPPER_PATH": _CATEGORIES,
    "MAPPER_PATH_PKL": _CATEGORIES,
    "DATASET_PATH": _PRODUCTS,
    "IMAGES_PATH": _PRODUCTS,
    "PREDICTIONS_PATH": "saved predictions are in the folder predictions of DATA_PATH",
    "SERVING_LOGGER_PATH": _LOGS,
    "TEST_MODEL_LOGGER_PATH": _LOGS,
    "TRAIN_MODEL_LOGGER_PATH": _LOGS,
    "IMPORT_DATA_LOGGER_PATH": _LOGS,
    "AUTH_SERVICE_LOGGER_PATH": _LOGS,
    "AIRFLOW_UID": "Airflow's container runs as user 10001",
    "PROJECT_HOST_PATH": "Airflow's DAG uses the HTTP API and mounts no folder of the host",
    "TEST_USER_FULLNAME": "a user has a name and a role; TEST_USER and TEST_USER_PASSWORD are used",
}


def without_effect(values: EnvironmentValues) -> str | None:
    """Return a message that names each setting of an older system among `values`, or None if there is none."""
    found = [f"  {name}: {successor}" for name, successor in OLDER_SETTINGS.items() if values.get(name)]
    if not found:
        return None
    return "\n".join(["Settings of an older system that have no effect (docs/migrate.md):", *found])
