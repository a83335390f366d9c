"""What `make run` says and refuses before anything is started; starting itself is tested end to end."""

from __future__ import annotations

import re
import socket
import sys
from pathlib import Path

import pytest

from rayonnage_shared.core.processes import PROCESSES
from rayonnage_shared.ops.local import (
    CannotRun,
    LocalSettings,
    addresses,
    compiling,
    example_call,
    refuse_used_ports,
    run,
)
from rayonnage_shared.ops.supervision import Supervisor
from tests.ports import free_ports_of_replicas


def free_values() -> dict[str, str]:
    values = {}
    held = []
    for one in PROCESSES:
        for port in one.ports():
            held.append(socket.create_server(("127.0.0.1", 0)))
            values[port.setting] = str(held[-1].getsockname()[1])
    for server in held:
        server.close()
    return values


def test_free_ports_are_fine() -> None:
    refuse_used_ports(free_values())


def test_every_used_port_is_named_with_a_way_out() -> None:
    values = free_values()
    with (
        socket.create_server(("127.0.0.1", int(values["AUTH_PORT"]))),
        socket.create_server(("127.0.0.1", int(values["GATEWAY_METRICS_PORT"]))),
        pytest.raises(CannotRun) as caught,
    ):
        refuse_used_ports(values)
    first, second = str(caught.value).splitlines()
    assert re.match(rf"Port {values['AUTH_PORT']} \(auth\) is in use by process \d+ .*`AUTH_PORT=\d+ make run`", first)
    assert "GATEWAY_METRICS_PORT=" in second


def test_one_port_for_two_processes_is_refused() -> None:
    values = free_values()
    values["TRAIN_PORT"] = values["AUTH_PORT"]
    with pytest.raises(CannotRun, match="TRAIN_PORT and AUTH_PORT are both"):
        refuse_used_ports(values)


def test_the_port_of_a_replica_is_checked_like_the_others() -> None:
    values = free_values() | {"PREDICT_REPLICAS": "2", "PREDICT_PORT": str(free_ports_of_replicas(2))}
    refuse_used_ports(values)
    second = int(values["PREDICT_PORT"]) + 10
    with socket.create_server(("127.0.0.1", second)), pytest.raises(CannotRun) as used:
        refuse_used_ports(values)
    assert re.match(
        rf"Port {second} \(predict-2\) is in use by .*`PREDICT_PORT={int(values['PREDICT_PORT']) + 10_000} make run`",
        str(used.value),
    )
    with pytest.raises(CannotRun, match=rf"PREDICT_PORT \+ 10 and AUTH_PORT are both {second}"):
        refuse_used_ports(values | {"AUTH_PORT": str(second)})


def test_a_wrong_number_of_replicas_is_refused() -> None:
    with pytest.raises(CannotRun, match="PREDICT_REPLICAS=many is not a number of replicas"):
        refuse_used_ports({**free_values(), "PREDICT_REPLICAS": "many"})


def test_a_port_that_is_no_number_is_refused() -> None:
    with pytest.raises(CannotRun, match="AUTH_PORT=many is not a port number"):
        refuse_used_ports({**free_values(), "AUTH_PORT": "many"})


def test_the_addresses_name_each_service_and_the_documentation() -> None:
    text = addresses({"GATEWAY_PORT": "9000"})
    assert "http://127.0.0.1:9000/docs" in text
    assert all(one.name in text for one in PROCESSES if one.port)


def test_the_addresses_name_each_replica() -> None:
    assert re.search(r"predict-2 +http://127.0.0.1:8013\n", addresses({"PREDICT_REPLICAS": "2"}))


def test_the_example_reads_the_password_from_the_file_and_shows_none() -> None:
    call = example_call("http://127.0.0.1:8000")
    assert "ADMIN_PASSWORD" in call
    assert ".env" in call


@pytest.mark.parametrize(("value", "demo"), [("0", False), ("1", True)])
def test_demo_is_switched_off_by_0(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str, demo: bool) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEMO", value)
    assert LocalSettings().demo is demo


def test_a_start_says_once_which_settings_of_older_systems_have_no_effect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("LSTM_MODEL_PATH=models/best_lstm_model.h5\nGATEWAY_PORT=no number\n")
    said: list[str] = []
    with pytest.raises(CannotRun, match="GATEWAY_PORT"):
        run(tmp_path, said.append)
    assert [line for text in said for line in text.splitlines() if "LSTM_MODEL_PATH" in line] == [
        "  LSTM_MODEL_PATH: models are bundles in MODELS_PATH, each with its own tokenizer, weights and categories"
    ]


def test_the_services_are_compiled_once_beside_the_preparation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setattr(sys, "pycache_prefix", str(cache))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(cache))
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)

    with compiling(Supervisor(tmp_path, {})):
        pass
    compiled = {path.relative_to(cache).parts[-2] for path in cache.rglob("app.*.pyc")}
    assert {one.package for one in PROCESSES} <= compiled

    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path / "other"))
    with compiling(Supervisor(tmp_path, {})):
        pass
    assert not (tmp_path / "other").exists()
