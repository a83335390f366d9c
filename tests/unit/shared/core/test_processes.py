"""The process list fits the services' own settings."""

from __future__ import annotations

import importlib.util

import pytest

from rayonnage_shared.core.processes import PROCESSES, Port, Process, process, service_addresses
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
    with pytest.raises(ValueError, match="AUTH_PORT"):
        Port("AUTH_PORT", 8011, "AUTH_HOST").number({"AUTH_PORT": text})
