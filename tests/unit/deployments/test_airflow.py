"""Airflow's image against what it must agree with; tests/compose/test_airflow.py runs it."""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from typing import Any

import yaml

from rayonnage_shared.ops.secret_files import secret_contents

ROOT = Path(__file__).parents[3]
AIRFLOW = ROOT / "deployments" / "airflow"
DOCKERFILE = (AIRFLOW / "Dockerfile").read_text(encoding="utf-8")


def service() -> dict[str, Any]:
    document = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    found: dict[str, Any] = document["services"]["airflow"]
    return found


def test_its_packages_are_pinned_each_by_its_hash() -> None:
    assert "uv pip install --quiet --require-hashes --no-build" in DOCKERFILE
    pinned = (AIRFLOW / "requirements.txt").read_text(encoding="utf-8").replace("\\\n", "").splitlines()
    packages = [line for line in pinned if not line.startswith("#")]
    assert all(re.match(r"[\w.-]+==\S+ +(; .*?)?--hash=sha256:[0-9a-f]{64}", line) for line in packages)
    names = {line.partition("==")[0] for line in packages} | {line.partition(" ")[0] for line in packages}
    wanted = (AIRFLOW / "requirements.in").read_text(encoding="utf-8").splitlines()
    assert {line.partition(" ")[0] for line in wanted if not line.startswith("#")} <= names


def test_what_is_copied_is_let_into_the_context_and_runs_without_rights() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = re.findall(r"deployments/\S+", "".join(re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)))
    assert copied and {*copied} <= allowed
    assert "\nUSER 10001:10001\n" in DOCKERFILE
    assert not re.search(r"^# *syntax|<<|--mount|--link|--chmod", DOCKERFILE, re.MULTILINE)


def test_every_secret_that_it_reads_is_mounted_and_made() -> None:
    texts = [path.read_text(encoding="utf-8") for path in AIRFLOW.rglob("*") if path.suffix in {".cfg", ".py"}]
    read = {name for text in texts for name in re.findall(r"/run/secrets/(\w+)", text)}
    assert read == {*service()["secrets"]}
    assert read <= secret_contents({"ADMIN_PASSWORD": "correct-horse-battery", "SECRET_KEY": "k" * 40}, {}).keys()


def test_every_setting_that_the_dag_reads_reaches_it() -> None:
    dag = (AIRFLOW / "dags" / "rayonnage_retrain.py").read_text(encoding="utf-8")
    assert {*re.findall(r"os\.environ\.get\(\"(\w+)\"", dag)} == {*service()["environment"]}


def test_its_parts_find_each_other_and_its_passwords() -> None:
    config = configparser.ConfigParser()
    config.read(AIRFLOW / "airflow.cfg")
    start = (AIRFLOW / "start.py").read_text(encoding="utf-8")
    assert f'"{config["core"]["simple_auth_manager_passwords_file"]}"' in start
    assert config["core"]["execution_api_server_url"].startswith(f"http://127.0.0.1:{config['api']['port']}/")
    assert service()["ports"] == [f"127.0.0.1:${{AIRFLOW_PORT:-8080}}:{config['api']['port']}"]
