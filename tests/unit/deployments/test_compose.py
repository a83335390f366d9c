"""The compose file against what it must agree with: the settings classes, the process list, Prometheus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from rayonnage_shared.core.processes import PROCESSES
from rayonnage_shared.ops.settings_catalogue import all_settings, settings_classes

ROOT = Path(__file__).parents[3]
OURS = {"auth", "gateway", "ingest", "predict", "train"}
ROOT_AT_FIRST = {"postgres", "s3", "cadvisor"}  # public images that need it; each says why

FIXED_IN_THE_IMAGE = {
    *(f"{name.upper()}_{part}" for name in OURS for part in ("HOST", "PORT")),
    *("AUTH_KEYS_PATH", "CAMEMBERT_PYTHON", "DATA_PATH", "LOGS_PATH", "MODELS_PATH", "MLFLOW_ARTIFACTS_PATH"),
    *("GATEWAY_METRICS_PORT", "TRAIN_WORKER_METRICS_PORT"),
}
OF_FILES = {
    "LOG_FILE_COUNT",
    "LOG_FILE_MAX_BYTES",
    "LOG_TO_STDOUT",
    "PREDICT_REPLICA",
}  # containers log to standard output
NOT_IN_PRODUCTION = {"TEST_USER", "TEST_USER_PASSWORD"}
ONLY_IN_A_CHECKOUT = {"TRAIN_INSTALL_FAMILIES", "TRAIN_INSTALL_TIMEOUT_S"}  # the train image has TensorFlow
BY_OVERRIDE = {"CATEGORIES_PATH"}  # needs a mount of the user's own: docs/deploy.md


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return document


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_setting_of_a_service_reaches_its_container(compose: dict[str, Any], name: str) -> None:
    service = compose["services"][name]
    reached = {*service["environment"], *(secret.upper() for secret in service["secrets"])}

    declared = {one.name: one for one in all_settings({name: settings_classes()[name]})}

    missing = (
        declared.keys() - reached - FIXED_IN_THE_IMAGE - OF_FILES - BY_OVERRIDE - NOT_IN_PRODUCTION - ONLY_IN_A_CHECKOUT
    )
    assert not missing
    known = {one.name for one in all_settings()}
    assert not {*service["environment"]} - known
    assert not {one.name for one in declared.values() if one.secret} & {*service["environment"]}


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_service_is_built_from_its_own_stage(compose: dict[str, Any], name: str) -> None:
    build = compose["services"][name]["build"]
    assert (build["context"], build["dockerfile"]) == (".", "services/Dockerfile")
    assert build["args"]["SERVICE"] == name


def test_every_process_runs_and_is_scraped(compose: dict[str, Any]) -> None:
    scraped = yaml.safe_load((ROOT / "deployments" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    jobs = {job["job_name"]: job for job in scraped["scrape_configs"]}

    for process in PROCESSES:
        assert process.name in compose["services"]
        (found,) = jobs[process.name]["dns_sd_configs"]
        port = process.metrics_port or process.port
        assert port is not None
        assert (found["names"], found["port"]) == ([process.name], port.default)


def test_every_container_is_hardened_and_bounded(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"], name
        assert not service.get("privileged"), name
        if "build" not in service and "rayonnage/" not in service["image"] and name not in ROOT_AT_FIRST:
            assert service["user"].replace(":", "").isdecimal(), name


def test_nothing_but_the_door_is_published_beyond_this_machine(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for port in service.get("ports", []):
            assert port.startswith("${BIND_ADDRESS:-127.0.0.1}:" if name == "nginx" else "127.0.0.1:"), name
    assert "ports" not in compose["services"]["gateway"]


def test_each_secret_is_a_file_and_each_is_used(compose: dict[str, Any]) -> None:
    used = {secret for service in compose["services"].values() for secret in service.get("secrets", [])}
    assert used == {*compose["secrets"]}
    for name, secret in compose["secrets"].items():
        folder = ".certs/" if name.startswith("tls_") else ".secrets/"
        assert secret["file"].startswith(folder), name


def test_predict_cannot_write_the_models(compose: dict[str, Any]) -> None:
    assert compose["services"]["predict"]["volumes"] == ["models:/srv/models:ro"]
