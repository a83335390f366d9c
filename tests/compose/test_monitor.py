"""The profile `monitor`: drift reports on the volume, by a container that ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.compose.stack import BUILD_S, Stack
from tests.e2e.api import predict_form
from tests.waiting import eventually

pytestmark = [pytest.mark.profiles, pytest.mark.timeout(BUILD_S + 600)]

ANSWERS = 40


def test_answers_become_a_drift_report_on_the_volume(platform: Stack, sample: Path) -> None:
    photo = (sample / "exemple.jpg").read_bytes()
    with platform.client(platform.admin_token()) as client:
        for number in range(ANSWERS):
            sent = photo if number % 2 else None
            answer = predict_form(client, sent, designation=f"Piscine ronde numéro {'x' * number}")
            assert answer.status_code == 200, answer.text
        version = answer.json()["model"]["version"]
    wanted = f"SELECT count(*) AS number FROM predictions WHERE version = '{version}'"
    assert eventually(lambda: platform.rows(wanted)[0]["number"] >= ANSWERS, 5)

    said = platform.compose("run", "--rm", "-T", "monitor", within_s=400)

    assert f"predictions of {version}" in said
    (folder,) = [line.removeprefix("Reports: ") for line in said.splitlines() if line.startswith("Reports: ")]
    assert folder.startswith("/srv/data/drift/2")
    report = json.loads(platform.compose("exec", "-T", "train", "cat", f"{folder}/drift_report.json"))
    assert report["version"] == version
    assert report["current_rows"] >= ANSWERS
    assert report["evidently"]["metrics"]
    page = platform.compose("exec", "-T", "train", "head", "-c", "200", f"{folder}/drift_report.html")
    assert "<html" in page
