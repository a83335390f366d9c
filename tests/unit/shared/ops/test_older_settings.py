"""Settings of system C: each is a setting of this platform or is named with its successor."""

from __future__ import annotations

from rayonnage_shared.ops.older_settings import OLDER_SETTINGS, without_effect
from rayonnage_shared.ops.settings_catalogue import all_settings

OF_SYSTEM_C = {
    "TOKENIZER_CONFIG_PATH",
    "LSTM_MODEL_PATH",
    "VGG16_MODEL_PATH",
    "BEST_WEIGHTS_PATH",
    "BEST_WEIGHTS_PATH_PKL",
    "MAPPER_PATH",
    "MAPPER_PATH_PKL",
    "DATASET_PATH",
    "DATA_PATH",
    "IMAGES_PATH",
    "PREDICTIONS_PATH",
    "CONCATENATED_MODEL_PATH",
    "SERVING_LOGGER_PATH",
    "SECRET_KEY",
    "ALGORITHM",
    "ACCESS_TOKEN_EXPIRE_MINUTES",
    "TEST_MODEL_LOGGER_PATH",
    "TRAIN_MODEL_LOGGER_PATH",
    "IMPORT_DATA_LOGGER_PATH",
    "AUTH_SERVICE_LOGGER_PATH",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_EXPERIMENT_NAME",
    "DAGSHUB_USERNAME",
    "DAGSHUB_TOKEN",
    "AIRFLOW_UID",
    "PROJECT_HOST_PATH",
    "TEST_USER",
    "TEST_USER_FULLNAME",
    "TEST_USER_PASSWORD",
}


def test_each_setting_of_system_c_is_honoured_or_named_with_its_successor() -> None:
    honoured = {one.name for one in all_settings()}
    assert not honoured & OLDER_SETTINGS.keys()
    assert (honoured & OF_SYSTEM_C) | OLDER_SETTINGS.keys() == OF_SYSTEM_C


def test_what_is_set_is_named_once_with_its_successor() -> None:
    said = without_effect({"MAPPER_PATH": "models/mapper.json", "AIRFLOW_UID": "0", "DATA_PATH": "data"})
    assert said is not None
    first, *rest = said.splitlines()
    assert "docs/migrate.md" in first
    assert [line.split(":")[0].strip() for line in rest] == ["MAPPER_PATH", "AIRFLOW_UID"]
    assert "models/mapper.json" not in said


def test_without_them_there_is_no_message() -> None:
    assert without_effect({"DATA_PATH": "data", "MAPPER_PATH": ""}) is None
