"""What goes to the DVC remote, when, and what is left when that is interrupted."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from rayonnage_shared.core.errors import InvalidSetting
from rayonnage_shared.ml.catalogue.photo_shards import read_index
from rayonnage_shared.sync.base import SyncTargetUnavailable
from rayonnage_shared.sync.dvc.connection import CONFIG, IGNORED, project_folder, remote_address
from rayonnage_shared.sync.dvc.pointers import Pointer, PointerBroken, pointer_path, read_pointer
from rayonnage_shared.sync.dvc.settings import VersioningSettings
from rayonnage_shared.sync.dvc.target import DvcTarget
from rayonnage_shared.sync.runner import sync_targets
from rayonnage_shared.sync.settings import SyncSettings
from tests.unit.shared.sync.dvc.versions import FakeRemote, Killed, Volumes

OLD, NEW = "20260101T000000Z-aaaa", "20260201T000000Z-bbbb"
SHARD_BYTES = 6_000  # two of the tests' photos
PROJECT = Path(__file__).parents[5]


@pytest.fixture
def volumes(tmp_path: Path) -> Volumes:
    return Volumes(tmp_path / "a")


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> FakeRemote:
    made = FakeRemote()
    monkeypatch.setattr("rayonnage_shared.sync.dvc.target.open_remote", made.open)
    return made


def target(volumes: Volumes, address: str = "s3://bucket/one") -> DvcTarget:
    return DvcTarget(volumes.settings(address), max_shard_bytes=SHARD_BYTES)


def sync(volumes: Volumes, address: str = "s3://bucket/one") -> None:
    target(volumes, address).sync(lambda sentence: None)


def test_empty_volumes_leave_nothing_to_do(volumes: Volumes) -> None:
    assert not target(volumes).pending()


def test_what_is_new_is_pending_until_it_was_pushed(volumes: Volumes, remote: FakeRemote) -> None:
    volumes.add_bundle(OLD)
    assert target(volumes).pending()
    sync(volumes)
    assert not target(volumes).pending()

    dataset = volumes.add_dataset(4, photos=3)
    assert target(volumes).pending()
    sync(volumes)

    assert not target(volumes).pending()
    shards = [f"data/shards/{shard}.tar.dvc" for shard in read_index(volumes.store.folder / dataset)]
    assert volumes.pointers() == sorted([f"models/{OLD}.dvc", f"data/datasets/{dataset}.dvc", *shards])
    assert len(shards) > 1


def test_the_champion_and_the_current_dataset_go_first(volumes: Volumes, remote: FakeRemote) -> None:
    volumes.add_bundle(OLD, champion=True)
    volumes.add_bundle(NEW)
    older = volumes.add_dataset(3, photos=0)
    newer = volumes.add_dataset(3, photos=0, start=10)

    sync(volumes)

    assert remote.pushed == [OLD, NEW, newer, older]


def test_files_in_use_are_neither_moved_nor_changed(volumes: Volumes, remote: FakeRemote) -> None:
    volumes.add_bundle(OLD)
    volumes.add_dataset(3, photos=3)
    before = volumes.live_files()

    sync(volumes)

    after = volumes.live_files()
    assert before == {place: after[place] for place in before}
    assert {Path(place).name for place in after if place not in before} == {"photo_shards.json"}


def test_a_second_version_pushes_only_its_new_photos(volumes: Volumes, remote: FakeRemote) -> None:
    first = volumes.add_dataset(4, photos=4)
    sync(volumes)
    remote.pushed.clear()

    second = volumes.add_dataset(2, photos=2, start=10)
    sync(volumes)

    old, new = (read_index(volumes.store.folder / version) for version in (first, second))
    assert remote.pushed == [*(f"{shard}.tar" for shard in new if shard not in old), second]
    assert {shard: photos for shard, photos in new.items() if shard in old} == old
    assert sum(len(photos) for shard, photos in new.items() if shard not in old) == 2


def test_packed_photos_do_not_stay_on_the_disk(volumes: Volumes, remote: FakeRemote) -> None:
    volumes.add_dataset(4, photos=4)

    sync(volumes)

    assert {path.suffix for path in (volumes.folder / "data" / "shards").iterdir()} == {".dvc"}


def test_while_the_remote_is_away_nothing_is_marked_as_done(volumes: Volumes, remote: FakeRemote) -> None:
    volumes.add_bundle(OLD)
    remote.away = True

    with pytest.raises(SyncTargetUnavailable):
        sync(volumes)

    assert target(volumes).pending()
    assert volumes.pointers() == []
    remote.away = False
    sync(volumes)
    assert not target(volumes).pending()


@pytest.mark.parametrize("moment", range(5))
def test_a_push_that_was_killed_goes_on_where_it_was(volumes: Volumes, remote: FakeRemote, moment: int) -> None:
    volumes.add_bundle(OLD)
    version = volumes.add_dataset(6, photos=6)  # with the bundle at least five things to push
    remote.dies_at = moment
    with pytest.raises(Killed):
        sync(volumes)
    assert target(volumes).pending()
    assert len(volumes.pointers()) == moment

    remote.dies_at = None
    sync(volumes)

    assert not target(volumes).pending()
    assert len(remote.pushed) == len(set(remote.pushed))
    assert remote.pushed[0] == OLD
    assert remote.pushed[-1] == version
    other = Volumes(volumes.folder.with_name("undisturbed"))
    shutil.copytree(volumes.store.photos_folder, other.store.photos_folder)
    shutil.copytree(volumes.store.version_folder(version), other.store.folder / version)
    (other.store.folder / version / "photo_shards.json").unlink()
    sync(other)
    assert read_index(other.store.folder / version) == read_index(volumes.store.folder / version)


def test_another_remote_gets_everything_under_the_same_pointers(volumes: Volumes, remote: FakeRemote) -> None:
    volumes.add_bundle(OLD)
    volumes.add_dataset(4, photos=4)
    sync(volumes)
    volumes.add_dataset(3, photos=3, start=10)
    sync(volumes)
    pointers = {place: (volumes.folder / place).read_bytes() for place in volumes.pointers()}
    pushed = set(remote.pushed)
    remote.contents.clear()
    remote.pushed.clear()

    assert target(volumes, "s3://bucket/two").pending()
    sync(volumes, "s3://bucket/two")

    assert set(remote.pushed) == pushed
    assert {place: (volumes.folder / place).read_bytes() for place in volumes.pointers()} == pointers


def test_what_a_remote_lost_is_pushed_again_when_asked_to_check(volumes: Volumes, remote: FakeRemote) -> None:
    volumes.add_bundle(OLD)
    volumes.add_dataset(4, photos=4)
    sync(volumes)
    pointers = {place: (volumes.folder / place).read_bytes() for place in volumes.pointers()}
    contents = dict(remote.contents)
    remote.contents.clear()

    target(volumes).forget()
    sync(volumes)

    assert remote.contents == contents
    assert {place: (volumes.folder / place).read_bytes() for place in volumes.pointers()} == pointers


def test_a_pointer_that_was_lost_is_written_again(volumes: Volumes, remote: FakeRemote) -> None:
    volumes.add_bundle(OLD)
    sync(volumes)
    pointer = pointer_path(volumes.models / OLD)
    content = pointer.read_bytes()
    pointer.unlink()

    assert target(volumes).pending()
    sync(volumes)

    assert pointer.read_bytes() == content


def test_pointers_of_pruned_versions_go_and_the_remote_keeps_them(volumes: Volumes, remote: FakeRemote) -> None:
    volumes.add_bundle(OLD)
    volumes.add_bundle(NEW, champion=True)
    first = volumes.add_dataset(3, photos=3)
    second = volumes.add_dataset(2, photos=2, start=10)
    sync(volumes)
    contents = set(remote.contents)
    needed = read_index(volumes.store.folder / second)
    shutil.rmtree(volumes.models / OLD)
    assert volumes.store.prune(1) == [first]

    assert target(volumes).pending()
    remote.away = True  # nothing of this needs the remote
    sync(volumes)

    assert not target(volumes).pending()
    shards = [f"data/shards/{shard}.tar.dvc" for shard in needed]
    assert volumes.pointers() == sorted([f"models/{NEW}.dvc", f"data/datasets/{second}.dvc", *shards])
    assert set(remote.contents) == contents


def test_pointers_from_git_to_versions_that_were_never_here_stay(volumes: Volumes, remote: FakeRemote) -> None:
    volumes.add_bundle(NEW)
    Pointer("0" * 32 + ".dir", 10, 3).write(volumes.models / OLD)

    sync(volumes)

    assert volumes.pointers() == [f"models/{OLD}.dvc", f"models/{NEW}.dvc"]


def test_the_pointer_of_a_champion_whose_files_were_lost_stays_for_a_pull(volumes: Volumes, remote: FakeRemote) -> None:
    volumes.add_bundle(OLD, champion=True)
    sync(volumes)
    shutil.rmtree(volumes.models / OLD)

    assert not target(volumes).pending()
    assert volumes.pointers() == [f"models/{OLD}.dvc"]


def test_a_version_pruned_in_the_middle_is_passed_over(
    volumes: Volumes, remote: FakeRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    volumes.add_bundle(OLD)
    volumes.add_bundle(NEW)
    real = remote.push

    def prune_then_push(path: Path) -> Pointer:
        if path.name == NEW:
            shutil.rmtree(path)
            raise FileNotFoundError(path)
        return real(path)

    monkeypatch.setattr(remote, "push", prune_then_push)
    sync(volumes)

    assert remote.pushed == [OLD]
    assert not target(volumes).pending()


def test_without_a_remote_there_is_no_sync_target(tmp_path: Path) -> None:
    def names(remote: str) -> list[str]:
        settings = SyncSettings(
            models_path=tmp_path, data_path=tmp_path, dvc_remote_url=remote, mlflow_tracking_uri=None
        )
        return [one.name for one in sync_targets(settings)]

    assert names("") == []
    assert names(str(tmp_path)) == ["dvc"]


def test_a_relative_remote_is_the_same_one_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert remote_address(VersioningSettings(dvc_remote_url="data/dvc-remote")) == str(tmp_path / "data/dvc-remote")
    assert remote_address(VersioningSettings(dvc_remote_url="s3://bucket/x")) == "s3://bucket/x"


def test_an_address_that_dvc_would_not_understand_is_refused_at_the_start() -> None:
    with pytest.raises(
        InvalidSetting, match=r"^`DVC_REMOTE_URL` must be a folder or begin with s3://, https:// or http://"
    ):
        VersioningSettings(dvc_remote_url="ftp://host/folder")


def test_dvc_keeps_its_own_things_above_models_and_data(tmp_path: Path) -> None:
    assert project_folder(Volumes(tmp_path).settings("x")) == tmp_path


def test_volumes_with_nothing_in_common_keep_them_in_the_data_folder(tmp_path: Path) -> None:
    apart = VersioningSettings(models_path=Path("/srv-models"), data_path=tmp_path)

    assert project_folder(apart) == tmp_path


def test_a_pointer_reads_as_it_was_written(tmp_path: Path) -> None:
    for pointer in (Pointer("a" * 32, 7), Pointer("b" * 32 + ".dir", 70, 3)):
        pointer.write(tmp_path / "thing.tar")
        assert read_pointer(tmp_path / "thing.tar.dvc") == pointer


@pytest.mark.parametrize("text", ["", "outs: []", "outs:\n- path: x\n", "outs: [", "<<<<<<< HEAD\nouts:\n"])
def test_a_damaged_pointer_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.dvc").write_text(text)

    with pytest.raises(PointerBroken, match=r"x\.dvc is not a DVC pointer"):
        read_pointer(tmp_path / "x.dvc")


def test_the_repository_has_the_dvc_files_that_other_folders_get() -> None:
    assert (PROJECT / ".dvc" / "config").read_text().startswith(CONFIG)
    assert (PROJECT / ".dvcignore").read_text() == IGNORED


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        (f"models/{OLD}.dvc", True),
        ("models/champion.json", True),
        (f"data/datasets/{OLD}.dvc", True),
        ("data/datasets/current.json", True),
        (f"data/shards/{'a' * 64}.tar.dvc", True),
        (".dvc/config", True),
        ("data/sample/features.csv", True),
        (f"models/{OLD}/manifest.json", False),
        ("models/.synced/dvc/x.json", False),
        ("models/.champion.lock", False),
        (f"data/datasets/{OLD}/products.parquet", False),
        ("data/datasets/.lock", False),
        ("data/photos/ab/x.jpg", False),
        ("data/rayonnage.db", False),
        ("data/dvc-remote/files/md5/ab/cd", False),
        ("data/keys/x.dvc", False),
        (".dvc/config.local", False),
        (".dvc/tmp/lock", False),
    ],
)
def test_git_keeps_pointers_and_nothing_else_of_models_and_data(tmp_path: Path, path: str, kept: bool) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    shutil.copy(PROJECT / ".gitignore", tmp_path)
    (tmp_path / ".dvc").mkdir()
    shutil.copy(PROJECT / ".dvc" / ".gitignore", tmp_path / ".dvc")

    ignored = subprocess.run(["git", "-C", str(tmp_path), "check-ignore", "-q", path], check=False).returncode == 0

    assert ignored != kept


@pytest.mark.parametrize("content", ["{", '{"format": 2}', "[]"])
def test_a_broken_bundle_is_named_and_left_out_and_the_others_are_pushed(
    volumes: Volumes, remote: FakeRemote, content: str
) -> None:
    volumes.add_bundle(OLD)
    volumes.add_bundle(NEW, champion=True)
    dataset = volumes.add_dataset(3, photos=1)
    (volumes.models / NEW / "manifest.json").write_text(content)
    said: list[str] = []

    target(volumes).sync(said.append)

    assert NEW not in remote.pushed and {OLD, dataset} <= set(remote.pushed)
    assert any(f"{NEW} is damaged and was not pushed" in sentence for sentence in said)
    assert not target(volumes).pending()


def test_a_dataset_that_cannot_be_pushed_does_not_stop_the_others(volumes: Volumes, remote: FakeRemote) -> None:
    first, second = volumes.add_dataset(3, photos=1), volumes.add_dataset(3, photos=1, start=10)
    (volumes.store.folder / second / "products.parquet").write_bytes(b"damaged")

    with pytest.raises(ValueError, match=r"products\.parquet|Parquet"):
        sync(volumes)

    assert first in remote.pushed and second not in remote.pushed
    assert target(volumes).pending()


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 5}'])
def test_a_damaged_index_of_photos_stops_no_other_version_and_loses_no_pointer(
    volumes: Volumes, remote: FakeRemote, content: str
) -> None:
    old = volumes.add_dataset(3, photos=2)
    sync(volumes)
    before = set(volumes.pointers())
    (volumes.store.folder / old / "photo_shards.json").write_text(content)
    new = volumes.add_dataset(3, photos=2, start=10)

    sync(volumes)

    assert new in remote.pushed
    shutil.rmtree(volumes.store.folder / new)
    volumes.store.pointer_path.write_text(f'{{"real": "{old}", "demo": null}}')
    sync(volumes)
    assert before <= set(volumes.pointers())


def test_while_the_champion_pointer_is_broken_bundles_are_pushed_and_no_pointer_is_removed(
    volumes: Volumes, remote: FakeRemote
) -> None:
    volumes.add_bundle(OLD, champion=True)
    sync(volumes)
    shutil.rmtree(volumes.models / OLD)
    (volumes.models / "champion.json").write_text("garbage{")
    volumes.add_bundle(NEW)

    sync(volumes)

    assert NEW in remote.pushed
    assert f"models/{OLD}.dvc" in volumes.pointers()


def test_markers_that_cannot_be_read_are_written_again(volumes: Volumes, remote: FakeRemote) -> None:
    volumes.add_bundle(OLD)
    volumes.add_bundle(NEW)
    sync(volumes)
    markers = volumes.models / ".synced" / "dvc"
    (markers / f"{OLD}.json").write_bytes(b"\xff{")
    (markers / f"{NEW}.json").unlink()
    (markers / f"{NEW}.json").mkdir()

    assert target(volumes).pending()
    with pytest.raises(OSError):
        sync(volumes)

    assert remote.pushed.count(OLD) == 2
