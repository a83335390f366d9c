"""`.dvc/config.local` names the remote of DVC_REMOTE_URL, and `dvc pull` by itself brings what the pointers name."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from rayonnage_shared.ml.base.progress import silent
from rayonnage_shared.ops.demo import prepare
from rayonnage_shared.ops.local import LocalSettings
from rayonnage_shared.sync.dvc.local_config import write_local_config
from rayonnage_shared.sync.dvc.settings import VersioningSettings
from rayonnage_shared.sync.dvc.target import DvcTarget
from tests.unit.shared.sync.dvc.versions import Volumes
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parents[5]
OF_GIT = (".gitignore", ".dvcignore", ".dvc/config", ".dvc/.gitignore")
S3 = {"dvc_remote_url": "s3://bucket/shop", "dvc_endpoint_url": "http://127.0.0.1:9", "dvc_access_key_id": "key"}


def checkout(folder: Path) -> Path:
    for place in OF_GIT:
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / place, folder / place)
    for name in ("models", "data"):
        (folder / name).mkdir(exist_ok=True)
    return folder


def settings(folder: Path, **values: Any) -> VersioningSettings:
    return VersioningSettings(_env_file=None, models_path=folder / "models", data_path=folder / "data", **values)


def of_dvc(folder: Path, name: str) -> str:
    """Return an option of the default remote as the `dvc` command reads it."""
    code = (
        "import sys; from dvc.config import Config; config = Config('.dvc');"
        "print(config['remote'][config['core']['remote']][sys.argv[1]])"
    )
    return subprocess.run(
        [sys.executable, "-c", code, name], cwd=folder, check=True, capture_output=True, text=True, timeout=PATIENCE_S
    ).stdout.strip()


def test_the_remote_and_its_keys_are_what_dvc_reads_and_only_the_owner_can(tmp_path: Path) -> None:
    folder = checkout(tmp_path)
    wanted = settings(folder, **S3, dvc_secret_access_key=SecretStr("s#e,c'ret"))

    assert write_local_config(wanted)
    assert not write_local_config(wanted)

    path = folder / ".dvc" / "config.local"
    assert path.stat().st_mode & 0o777 == 0o600
    assert of_dvc(folder, "url") == "s3://bucket/shop"
    assert of_dvc(folder, "endpointurl") == "http://127.0.0.1:9"
    assert of_dvc(folder, "secret_access_key") == "s#e,c'ret"


def test_other_sections_are_kept_and_ours_goes_with_the_remote(tmp_path: Path) -> None:
    folder = checkout(tmp_path)
    path = folder / ".dvc" / "config.local"
    path.write_text("[core]\n    remote = own\n['remote \"own\"']\n    url = /srv/own\n[cache]\n    type = copy\n")

    write_local_config(settings(folder, **S3))
    assert of_dvc(folder, "url") == "s3://bucket/shop"
    assert "/srv/own" in path.read_text() and "type = copy" in path.read_text()

    assert write_local_config(settings(folder, dvc_remote_url=""))
    assert "bucket" not in path.read_text()
    assert "/srv/own" in path.read_text()


def test_a_file_that_cannot_be_parsed_is_left_alone(tmp_path: Path) -> None:
    path = checkout(tmp_path) / ".dvc" / "config.local"
    path.write_text("no section\n")
    assert not write_local_config(settings(tmp_path, **S3))
    assert path.read_text() == "no section\n"


def test_nothing_is_written_outside_a_checkout(tmp_path: Path) -> None:
    for name in ("models", "data"):
        (tmp_path / name).mkdir()
    assert not write_local_config(settings(tmp_path, **S3))
    assert not (tmp_path / ".dvc").exists()


def test_dvc_pull_by_itself_brings_models_and_products_and_the_next_start_unpacks_the_photos(tmp_path: Path) -> None:
    remote = tmp_path / "remote"
    remote.mkdir()
    here = Volumes(checkout(tmp_path / "here"))
    here.add_bundle("20260101T000000Z-aaaa", b"weights", champion=True)
    here.add_dataset(4, photos=2)
    DvcTarget(settings(here.folder, dvc_remote_url=str(remote))).sync(lambda _sentence: None)
    there = checkout(tmp_path / "there")
    for place in (*here.pointers(), "models/champion.json", "data/datasets/current.json"):
        (there / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(here.folder / place, there / place)
    subprocess.run(["git", "init", "--quiet"], cwd=there, check=True)

    assert write_local_config(settings(there, dvc_remote_url=str(remote)))
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "pull"], cwd=there, check=False, capture_output=True, text=True, timeout=300
    )

    assert done.returncode == 0, done.stdout + done.stderr
    brought = {place: content for place, (_, _, content) in Volumes(there).live_files().items()}
    expected = {place: content for place, (_, _, content) in here.live_files().items()}
    assert brought == {place: content for place, content in expected.items() if not place.startswith("data/photos")}

    prepare(
        LocalSettings(
            _env_file=None,
            models_path=there / "models",
            data_path=there / "data",
            database_url=f"sqlite:///{there}/data/rayonnage.db",
            dvc_remote_url=str(remote),
            demo=False,
        ),
        there / "sample",
        stage=lambda _name: None,
        progress=silent,
    )

    assert {place: content for place, (_, _, content) in Volumes(there).live_files().items()} == expected
    assert not list((there / "data" / "shards").glob("*.tar"))
