"""`make backup` and `make restore`: what was lost or spoiled comes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.compose.stack import CommandFailed, Stack, run
from tests.compose.test_crashes import state
from tests.e2e.api import add_user, finished_job, start_training
from tests.waiting import eventually

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]


def count_experiments(platform: Stack) -> int:
    (found,) = platform.rows("SELECT count(*) AS number FROM experiments", "mlflow")
    return int(found["number"])


def test_a_backup_brings_databases_and_volumes_back(platform: Stack, sample: Path, tmp_path: Path) -> None:
    before, promotions = state(platform, sample), platform.promotions()
    experiments = count_experiments(platform)
    backup = tmp_path / "backup"
    run(["make", "backup", f"TO={backup}"], cwd=platform.folder, within_s=300)
    assert {path.name for path in backup.iterdir()} == {"rayonnage.dump", "mlflow.dump", "volumes.tar", "SHA256SUMS"}
    assert backup.stat().st_mode & 0o077 == 0

    with platform.client(platform.admin_token()) as client:
        add_user(client, "added-after", "a password of later 1")
        champion = client.get("/models").json()["champion"]
        finished_job(client, start_training(client, "/train/text", text="tfidf-svm", promote="always"))
        assert client.get("/models").json()["champion"] != champion
    platform.compose("exec", "-T", "train", "sh", "-c", "rm -rf /srv/models/* /srv/data/datasets")
    spoil = "TRUNCATE experiments CASCADE"
    platform.compose("exec", "-T", "postgres", "psql", "-q", "-U", "rayonnage", "-d", "mlflow", "-c", spoil)

    run(["make", "restore", f"FROM={backup}"], cwd=platform.folder, within_s=600)

    assert eventually(lambda: state(platform, sample) == before, 60), (before, state(platform, sample))
    assert platform.promotions() == promotions
    assert count_experiments(platform) >= experiments  # the target may have added one before the backup


def test_a_spoiled_backup_is_refused_before_anything_is_touched(platform: Stack, sample: Path, tmp_path: Path) -> None:
    before = state(platform, sample)
    backup = tmp_path / "backup"
    run(["make", "backup", f"TO={backup}"], cwd=platform.folder, within_s=300)
    with (backup / "volumes.tar").open("r+b") as file:
        file.seek(100_000)
        file.write(b"spoiled")

    with pytest.raises(CommandFailed, match=r"volumes\.tar"):
        run(["make", "restore", f"FROM={backup}"], cwd=platform.folder, within_s=300)

    assert state(platform, sample) == before


def test_a_backup_never_overwrites_another(platform: Stack, tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="already exists"):
        run(["make", "backup", f"TO={tmp_path}"], cwd=platform.folder, within_s=60)
