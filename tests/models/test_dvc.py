"""Bundles, datasets and photos through a real DVC to real remotes, and on to a machine that has nothing but git."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from rayonnage_shared.ml.base.model import Pixels, ProductText
from rayonnage_shared.ml.bundles.bundle import Bundle, load_bundle
from rayonnage_shared.ml.bundles.champion import read_champion
from rayonnage_shared.ml.bundles.manifest import list_versions
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.features.photos import PhotoLimits, read_photo
from tests.models.authenticated_store import PASSWORD, USER, http_store
from tests.ports import free_port
from tests.processes import killed_at_end
from tests.sample import write_first_rows
from tests.system.seaweedfs import ACCESS_KEY, REGION, SECRET_KEY, S3Server, s3_server
from tests.waiting import PATIENCE_S

pytestmark = pytest.mark.models

PROJECT = Path(__file__).parents[2]
SAMPLE = PROJECT / "data" / "sample"
ROWS = 200
PROGRAMS = Path(sys.executable).parent
OF_GIT = (".gitignore", ".dvcignore", ".dvc/config", ".dvc/.gitignore")

Environment = dict[str, str]

# Dies without warning when DVC has handed over its nth lot of files.
DEADLY = """
import os, signal, sys
from dvc_data.hashfile.db import HashFileDB

nth, calls, real = int(sys.argv.pop()), 0, HashFileDB.add

def deadly(*args, **kwargs):
    global calls
    done = real(*args, **kwargs)
    calls += 1
    if calls == nth:
        os.kill(os.getpid(), signal.SIGKILL)
    return done

HashFileDB.add = deadly
from rayonnage_shared.cli.main import main
sys.argv[1:] = ["push"]
main()
"""


@dataclass(frozen=True)
class Machine:
    """A checkout of the project, as far as DVC and git are concerned, with models and data."""

    folder: Path

    @property
    def models(self) -> Path:
        return self.folder / "models"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the project's environment here and return how it ended."""
        return subprocess.run(
            [str(PROGRAMS / command[0]), *command[1:]],
            cwd=self.folder,
            env=_clean_environment(self.folder) | environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def rayonnage(self, *command: str, **environment: str) -> str:
        """Run a command that must succeed, and return what it printed."""
        done = self.run("rayonnage", *command, **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def git(self, *command: str) -> str:
        names = ("-c", "user.name=jane", "-c", "user.email=jane@example.org")
        done = subprocess.run(["git", *names, *command], cwd=self.folder, capture_output=True, text=True, check=True)
        return done.stdout

    def commit_pointers(self) -> None:
        self.git("add", "models", "data")
        self.git("commit", "-q", "-m", "models and data of today")

    def champion(self) -> Bundle:
        champion = read_champion(self.models)
        assert champion
        return load_bundle(self.models, champion.version)

    def pointers(self) -> set[str]:
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*.dvc") if path.is_file()}

    def content(self, *below: str) -> dict[str, bytes]:
        """Return the content of all files below these places, by path, without DVC's and the sync targets' own."""
        files = (path for place in below for path in (self.folder / place).rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in files}

    def live_folders(self) -> list[str]:
        """Return bundles, dataset versions and photos: what services load."""
        folders = [path for path in (*self.models.glob("2*"), *(self.data / "datasets").glob("2*")) if path.is_dir()]
        return [str(path.relative_to(self.folder)) for path in (*folders, self.data / "photos")]


def _clean_environment(home: Path) -> Environment:
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "TMPDIR", "PYTHONPATH")}
    return kept | {
        "HOME": str(home.parent),
        "DATABASE_URL": f"sqlite:///{home}/data/rayonnage.db",
        "MLFLOW_TRACKING_URI": "",
        "DVC_REMOTE_URL": "",
        "PYTHONWARNINGS": "error::ResourceWarning",
    }


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the first rows of the sample and their photos."""
    return write_first_rows(tmp_path_factory.mktemp("catalogue"), ROWS)


@pytest.fixture(scope="module")
def trained(catalogue: Path, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """A machine with a dataset with photos and a champion for both modalities; nothing was pushed."""
    machine = Machine(tmp_path_factory.mktemp("trained") / "shop")
    for place in OF_GIT:
        (machine.folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / place, machine.folder / place)
    machine.git("init", "-q")
    machine.git("add", ".")
    machine.git("commit", "-q", "-m", "the project")
    features, target, images = (str(catalogue / name) for name in ("features.csv", "target.csv", "images.zip"))
    machine.rayonnage("ingest", features, target, "--images", images)
    machine.rayonnage("train", "--text", "tfidf-svm", "--image", "efficientnet-lite0")
    return machine


@pytest.fixture
def machine(trained: Machine, tmp_path: Path) -> Machine:
    """A copy of the trained machine, for one test."""
    shutil.copytree(trained.folder, tmp_path / "a" / "shop", symlinks=True)
    return Machine(tmp_path / "a" / "shop")


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


def s3_environment(server: S3Server, prefix: str) -> Environment:
    return {
        "DVC_REMOTE_URL": f"s3://{server.bucket}/{prefix}",
        "DVC_ENDPOINT_URL": server.endpoint,
        "DVC_ACCESS_KEY_ID": ACCESS_KEY,
        "DVC_SECRET_ACCESS_KEY": SECRET_KEY,
        "DVC_REGION": REGION,
    }


@pytest.fixture(params=["folder", "s3", "http"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Environment]:
    """The settings that lead to an empty remote: a folder, a bucket, or an HTTP store with a user and a token."""
    match request.param:
        case "folder":
            yield {"DVC_REMOTE_URL": str(tmp_path / "remote")}
        case "s3":
            yield s3_environment(request.getfixturevalue("s3"), tmp_path.name)
        case _:
            with http_store(tmp_path) as address:
                yield {"DVC_REMOTE_URL": address, "DVC_USER": USER, "DVC_PASSWORD": PASSWORD}


@pytest.fixture
def folder_remote(tmp_path: Path) -> Environment:
    return {"DVC_REMOTE_URL": str(tmp_path / "remote")}


def clone(machine: Machine, folder: Path) -> Machine:
    machine.commit_pointers()
    subprocess.run(["git", "clone", "-q", str(machine.folder), str(folder)], check=True)
    return Machine(folder)


def products(machine: Machine, count: int = 12) -> Iterator[tuple[ProductText | None, Pixels | None]]:
    """Yield products of the current dataset as text, as photo and as both."""
    store = DatasetStore(machine.data)
    version = store.current()
    assert version
    rows = store.load(version)
    model = machine.champion().image_model
    assert model
    with_photo = [i for i, photo in enumerate(rows.photos) if photo][:count]
    for text, sha256 in zip((rows.texts()[i] for i in with_photo), (rows.photos[i] for i in with_photo), strict=True):
        assert sha256
        pixels = read_photo(store.photo_path(sha256).read_bytes(), model.input_size, PhotoLimits())
        yield from ((text, None), (None, pixels), (text, pixels))


def test_a_new_machine_predicts_the_same_bit_for_bit(machine: Machine, remote: Environment, tmp_path: Path) -> None:
    machine.rayonnage("push", **remote)
    before = machine.content("models", *machine.live_folders())
    asked = list(products(machine))
    expected = [machine.champion().predict(*one) for one in asked]
    new = clone(machine, tmp_path / "b" / "shop")
    machine.folder.rename(tmp_path / "a" / "gone")  # nothing of the old machine can help

    new.rayonnage("pull", **remote)

    here = new.content(*new.live_folders())
    assert here == {path: before[path] for path in here}
    assert set(new.live_folders()) == {f"models/{v}" for v in list_versions(new.models)} | {
        "data/photos",
        f"data/datasets/{DatasetStore(new.data).current()}",
    }
    bundle = new.champion()
    again = [bundle.predict(*one) for one in products(new)]
    assert len(again) == len(expected) == 36
    for one, other in zip(expected, again, strict=True):
        assert np.array_equal(one.probabilities, other.probabilities)
        assert one.accepted == other.accepted
    assert new.git("status", "--porcelain") == ""


def test_training_goes_on_on_the_new_machine_and_only_its_own_work_is_pushed(
    machine: Machine, folder_remote: Environment, tmp_path: Path
) -> None:
    machine.rayonnage("push", **folder_remote)
    new = clone(machine, tmp_path / "b" / "shop")
    new.rayonnage("pull", **folder_remote)
    assert "already" in new.rayonnage("push", **folder_remote)
    pulled = new.pointers()

    new.rayonnage("train", "--text", "tfidf-svm", "--image", "none", "--promote", "always")
    new.rayonnage("push", **folder_remote)

    champion = read_champion(new.models)
    assert champion
    assert new.pointers() - pulled == {f"models/{champion.version}.dvc"}


def test_a_fresh_platform_leaves_git_clean_but_for_the_pointers(machine: Machine, folder_remote: Environment) -> None:
    machine.rayonnage("push", **folder_remote)

    seen = machine.git("status", "--porcelain", "--untracked-files=all").splitlines()

    added = {line.removeprefix("?? ") for line in seen}
    assert added == machine.pointers() | {"models/champion.json", "data/datasets/current.json"}


def test_files_in_use_stay_as_they_are_at_every_moment_of_a_push(machine: Machine, folder_remote: Environment) -> None:
    paths = [machine.folder / path for path in machine.content(*machine.live_folders())]
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns, path.stat().st_mode) for path in paths}
    over, odd, rounds = threading.Event(), [], 0

    def watch() -> None:
        nonlocal rounds
        while not over.is_set():
            rounds += 1
            for path in paths:
                try:
                    found = path.stat()
                except FileNotFoundError:
                    odd.append(path)
                    continue
                if (found.st_ino, found.st_mtime_ns, found.st_mode) != before[path]:
                    odd.append(path)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        machine.rayonnage("push", **folder_remote)
    finally:
        over.set()
        watcher.join()

    assert odd == []
    assert rounds > 100


def test_dvc_pull_works_by_itself_in_a_clone(machine: Machine, remote: Environment, tmp_path: Path) -> None:
    machine.rayonnage("push", **remote)
    new = clone(machine, tmp_path / "b" / "shop")
    new.rayonnage("dvc-config", **remote)  # as `make create_environment` and `make run` do
    assert new.git("status", "--porcelain") == ""

    done = new.run("dvc", "pull")

    assert done.returncode == 0, done.stdout + done.stderr
    folders = [place for place in machine.live_folders() if place != "data/photos"]
    assert len(folders) == 2
    assert new.content(*folders) == machine.content(*folders)
    assert "up to date" in new.run("dvc", "status").stdout
    assert "in sync" in new.run("dvc", "status", "--cloud").stdout


def test_wrong_credentials_are_refused_and_nothing_is_marked(machine: Machine, s3: S3Server) -> None:
    for name in ("DVC_ACCESS_KEY_ID", "DVC_SECRET_ACCESS_KEY"):
        wrong = s3_environment(s3, "wrong") | {name: "wrong"}

        done = machine.run("rayonnage", "push", **wrong)

        assert done.returncode == 1
        assert "refuses these credentials" in done.stderr
        assert machine.pointers() == set()


def test_a_wrong_token_is_refused(machine: Machine, tmp_path: Path) -> None:
    with http_store(tmp_path) as address:
        done = machine.run("rayonnage", "push", DVC_REMOTE_URL=address, DVC_USER=USER, DVC_PASSWORD="wrong")

    assert done.returncode == 1
    assert "refuses these credentials" in done.stderr
    assert machine.pointers() == set()


def test_a_bucket_that_is_not_there_is_named(machine: Machine, s3: S3Server) -> None:
    done = machine.run("rayonnage", "push", **s3_environment(s3, "x") | {"DVC_REMOTE_URL": "s3://nowhere/x"})

    assert done.returncode == 1
    assert "The bucket nowhere of" in done.stderr


def test_a_bucket_is_made_with_keys_from_files_and_pushed_to(machine: Machine, s3: S3Server, tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "dvc_access_key_id").write_text(ACCESS_KEY)
    (secrets / "dvc_secret_access_key").write_text(SECRET_KEY)
    own = {
        "DVC_REMOTE_URL": "s3://of-this-test/dvc",
        "DVC_ENDPOINT_URL": s3.endpoint,
        "SECRETS_PATH": str(secrets),
    }

    assert "Created the bucket of-this-test" in machine.rayonnage("make-bucket", **own)
    assert "exists" in machine.rayonnage("make-bucket", **own)
    machine.rayonnage("push", **own)

    (secrets / "dvc_secret_access_key").write_text("wrong")
    done = machine.run("rayonnage", "make-bucket", **own)
    assert done.returncode == 1 and "refuses" in done.stderr


def test_secrets_stand_in_no_file(machine: Machine, s3: S3Server) -> None:
    machine.rayonnage("push", **s3_environment(s3, "secrets"))

    content = machine.content(".")
    assert [path for path, data in content.items() if SECRET_KEY.encode() in data] == []
    assert any(path.startswith(".dvc/tmp/") for path in content)


@pytest.mark.parametrize("kind", ["s3", "http"])
def test_a_server_that_is_down_or_silent_is_given_up_within_seconds(machine: Machine, kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for port in (free_port(), silent.getsockname()[1]):
            address = f"http://127.0.0.1:{port}"
            where = {"DVC_REMOTE_URL": "s3://bucket/x", "DVC_ENDPOINT_URL": address, "DVC_ACCESS_KEY_ID": "x"}
            started = time.monotonic()

            done = machine.run("rayonnage", "push", **(where if kind == "s3" else {"DVC_REMOTE_URL": address}))

            assert done.returncode == 1
            assert "does not answer" in done.stderr
            assert time.monotonic() - started < PATIENCE_S  # five for the answer, the rest to start Python
            assert machine.pointers() == set()


def test_a_server_that_went_away_gets_everything_when_it_is_back(machine: Machine, tmp_path: Path) -> None:
    port = free_port()
    with s3_server(tmp_path, port=port) as server:
        where = s3_environment(server, "x")
        machine.rayonnage("push", **where)
    shutil.copytree(machine.models / list_versions(machine.models)[0], machine.models / "20991231T000000Z-abcd")
    assert machine.run("rayonnage", "push", **where).returncode == 1
    assert "models/20991231T000000Z-abcd.dvc" not in machine.pointers()

    with s3_server(tmp_path, port=port):
        machine.rayonnage("push", **where)

        assert "models/20991231T000000Z-abcd.dvc" in machine.pointers()
        assert "already" in machine.rayonnage("push", **where)


@pytest.mark.parametrize("nth", [1, 4, 7])
def test_a_push_that_was_killed_is_finished_by_the_next(
    machine: Machine, folder_remote: Environment, tmp_path: Path, nth: int
) -> None:
    killed = machine.run("python", "-c", DEADLY, str(nth), **folder_remote)
    assert killed.returncode == -signal.SIGKILL, killed.stderr

    machine.rayonnage("push", **folder_remote)

    new = clone(machine, tmp_path / "b" / "shop")
    new.rayonnage("pull", **folder_remote)
    assert new.content(*new.live_folders()) == machine.content(*new.live_folders())
    assert not list((machine.data / "shards").glob(".*"))


def test_two_at_once_do_not_get_in_each_others_way(
    machine: Machine, folder_remote: Environment, tmp_path: Path
) -> None:
    machine.rayonnage("push", **folder_remote)
    new = clone(machine, tmp_path / "b" / "shop")
    command = [str(PROGRAMS / "rayonnage"), "pull"]
    environment = _clean_environment(new.folder) | folder_remote

    with contextlib.ExitStack() as stack:
        both = [
            stack.enter_context(
                killed_at_end(subprocess.Popen(command, cwd=new.folder, env=environment, stdout=subprocess.DEVNULL))
            )
            for _ in range(2)
        ]
        assert [one.wait(PATIENCE_S) for one in both] == [0, 0]

    assert new.content(*new.live_folders()) == machine.content(*new.live_folders())


def test_a_dvc_command_under_way_is_waited_for(machine: Machine, folder_remote: Environment) -> None:
    import zc.lockfile

    (machine.folder / ".dvc" / "tmp").mkdir()
    held = zc.lockfile.LockFile(str(machine.folder / ".dvc" / "tmp" / "lock"))
    assert "A `dvc` command is running" in machine.run("rayonnage", "push", DVC_LOCK_WAIT_S="1", **folder_remote).stderr
    let_go = threading.Timer(6, held.close)
    let_go.start()

    machine.rayonnage("push", **folder_remote)

    let_go.join()
    assert machine.pointers()


def test_a_lock_that_a_killed_dvc_left_behind_blocks_nobody(machine: Machine, folder_remote: Environment) -> None:
    """DVC notes who writes by process number, and in a container the next process often has the same number."""
    (machine.folder / ".dvc" / "tmp").mkdir()
    place = machine.models / list_versions(machine.models)[0]
    note = f'{{"write": {{"{place}": {{"pid": 1, "cmd": "dvc add"}}}}, "read": {{}}}}'
    (machine.folder / ".dvc" / "tmp" / "rwlock").write_text(note)

    machine.rayonnage("push", **folder_remote)


def test_nothing_to_pull_fails_unless_it_is_a_first_start(tmp_path: Path, folder_remote: Environment) -> None:
    empty = Machine(tmp_path / "volumes")
    empty.folder.mkdir()

    done = empty.run("rayonnage", "pull", **folder_remote)

    assert done.returncode == 1
    assert "There is nothing to pull" in done.stderr
    assert "nothing to pull" in empty.rayonnage("pull", "--allow-empty", **folder_remote)


def test_an_unreachable_remote_fails_a_first_start_too(machine: Machine, tmp_path: Path) -> None:
    machine.rayonnage("push", DVC_REMOTE_URL=str(tmp_path / "remote"))
    new = clone(machine, tmp_path / "b" / "shop")

    done = new.run("rayonnage", "pull", "--allow-empty", DVC_REMOTE_URL=str(tmp_path / "not" / "mounted"))

    assert done.returncode == 1
    assert "does not exist" in done.stderr


def test_volumes_of_a_container_take_their_pointers_from_a_checkout(
    machine: Machine, folder_remote: Environment, tmp_path: Path
) -> None:
    machine.rayonnage("push", **folder_remote)
    checkout = clone(machine, tmp_path / "b" / "shop")
    volumes = Machine(tmp_path / "volumes")
    volumes.folder.mkdir()

    volumes.rayonnage("pull", "--allow-empty", "--pointers", str(checkout.folder), **folder_remote)

    assert volumes.content(*volumes.live_folders()) == machine.content(*volumes.live_folders())
    assert volumes.champion().version == machine.champion().version
    assert not (volumes.folder / ".git").exists()
