"""The process list fits the services' own settings."""

from __future__ import annotations

import importlib.util

import pytest

from rayonnage_shared.core.errors import InvalidSetting
from rayonnage_shared.core.processes import (
    MAX_REPLICAS,
    PROCESSES,
    Port,
    Process,
    address_settings,
    process,
    service_addresses,
    with_replicas,
)
from rayonnage_shared.ops.local import LocalSettings
from rayonnage_shared.ops.settings_catalogue import settings_classes


@pytest.mark.parametrize("one", PROCESSES, ids=lambda one: str(one.name))
def test_each_process_is_a_module_that_runs(one: Process) -> None:
    package = importlib.util.find_spec(one.module)
    assert package is not None
    if package.submodule_search_locations:
        assert importlib.util.find_spec(f"{one.module}.__main__") is not None


@pytest.mark.parametrize(
    ("one", "port"),
    [(one, port) for one in PROCESSES for port in one.ports()],
    ids=lambda value: getattr(value, "setting", ""),
)
def test_ports_and_hosts_are_settings_of_the_service_with_the_same_defaults(one: Process, port: Port) -> None:
    fields = settings_classes()[one.package.removeprefix("rayonnage_")].model_fields
    assert fields[port.setting.lower()].default == port.default
    assert fields[port.host_setting.lower()].default == port.host({})


def test_each_address_setting_is_read_by_some_service_with_the_same_default() -> None:
    fields = {
        name.upper(): field for settings in settings_classes().values() for name, field in settings.model_fields.items()
    }
    for name, address in service_addresses({}).items():
        assert fields[name].default == address


def test_addresses_follow_the_ports() -> None:
    assert service_addresses({"AUTH_PORT": "9011"})["AUTH_URL"] == "http://127.0.0.1:9011"


def test_an_address_that_the_user_set_is_left_alone() -> None:
    assert "PREDICT_URL" not in service_addresses({"PREDICT_URL": "http://elsewhere:1"})


def test_a_process_that_listens_everywhere_is_asked_on_this_machine() -> None:
    gateway = process("gateway")
    assert gateway.probe_url({"GATEWAY_HOST": "0.0.0.0"}) == "http://127.0.0.1:8000/health/ready"


def test_the_gateway_serves_its_metrics_on_a_port_of_their_own() -> None:
    assert process("gateway").metrics_url({}) == "http://127.0.0.1:8010/metrics"
    assert process("predict").metrics_url({}) == "http://127.0.0.1:8003/metrics"


@pytest.mark.parametrize("text", ["eight", "0", "70000", "-1", "80 80"])
def test_what_is_no_port_number_is_refused_with_the_name_of_its_setting(text: str) -> None:
    with pytest.raises(InvalidSetting, match="AUTH_PORT"):
        Port("AUTH_PORT", 8011, "AUTH_HOST").number({"AUTH_PORT": text})


def test_each_replica_is_a_process_with_its_own_name_port_and_number() -> None:
    values = {"PREDICT_REPLICAS": "3", "PREDICT_PORT": "9003"}
    predicts = [one for one in with_replicas(values) if one.service == "predict"]
    assert [one.name for one in predicts] == ["predict", "predict-2", "predict-3"]
    assert [one.metrics_url(values) for one in predicts] == [
        f"http://127.0.0.1:{port}/metrics" for port in (9003, 9013, 9023)
    ]
    assert [dict(one.environment) for one in predicts] == [
        {},
        {"PREDICT_PORT": "9013", "PREDICT_REPLICA": "2"},
        {"PREDICT_PORT": "9023", "PREDICT_REPLICA": "3"},
    ]
    assert len(with_replicas(values)) == len(PROCESSES) + 2


def test_one_replica_is_the_process_of_the_list() -> None:
    assert with_replicas({}) == with_replicas({"PREDICT_REPLICAS": ""}) == PROCESSES


def test_the_gateway_is_given_the_address_of_each_replica() -> None:
    assert service_addresses({"PREDICT_REPLICAS": "2"})["PREDICT_URL"] == "http://127.0.0.1:8003,http://127.0.0.1:8013"


def test_no_replica_takes_the_default_port_of_another_process() -> None:
    values = {"PREDICT_REPLICAS": str(MAX_REPLICAS)}
    numbers = [port.number(values) for one in with_replicas(values) for port in one.ports()]
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize("text", ["0", "17", "-1", "two"])
def test_a_number_of_replicas_out_of_range_is_refused_with_the_name_of_its_setting(text: str) -> None:
    with pytest.raises(InvalidSetting, match=f"PREDICT_REPLICAS={text} is not a number of replicas \\(1 to 16\\)"):
        with_replicas({"PREDICT_REPLICAS": text})


def test_a_port_that_leaves_none_for_the_replicas_is_refused() -> None:
    with pytest.raises(InvalidSetting, match=r"PREDICT_PORT=65530 is not a port number \(1 to 65525\)"):
        with_replicas({"PREDICT_REPLICAS": "2", "PREDICT_PORT": "65530"})


def test_the_settings_of_replicas_have_the_bounds_and_defaults_of_the_list() -> None:
    assert LocalSettings(_env_file=None).predict_replicas == 1
    assert LocalSettings(_env_file=None, predict_replicas=MAX_REPLICAS).predict_replicas == MAX_REPLICAS
    with pytest.raises(InvalidSetting, match="PREDICT_REPLICAS"):
        LocalSettings(_env_file=None, predict_replicas=MAX_REPLICAS + 1)
    (replica,) = (one for one in with_replicas({"PREDICT_REPLICAS": "2"}) if one.replica == 2)
    for setting in replica.environment:
        assert setting.lower() in settings_classes()["predict"].model_fields


def test_address_settings_are_the_ports_hosts_and_replicas() -> None:
    found = list(address_settings())
    assert {"PREDICT_REPLICAS", "PREDICT_PORT", "PREDICT_HOST", "GATEWAY_METRICS_PORT"} <= set(found)
    assert len(found) == len(set(found))
