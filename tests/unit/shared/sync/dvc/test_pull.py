"""What comes back from the DVC remote: whole or not at all, and only what is missing."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from rayonnage_shared.core.errors import BadInput
from rayonnage_shared.ml.base.progress import silent
from rayonnage_shared.ml.bundles.champion import read_champion
from rayonnage_shared.ml.bundles.manifest import BundleBroken, list_versions
from rayonnage_shared.ml.catalogue.datasets import DatasetBroken
from rayonnage_shared.ml.catalogue.photo_shards import ShardBroken, photos_of
from rayonnage_shared.ops.demo import prepare
from rayonnage_shared.ops.local import LocalSettings
from rayonnage_shared.sync.base import SyncTargetUnavailable
from rayonnage_shared.sync.dvc.pointers import PointerBroken, pointer_path
from rayonnage_shared.sync.dvc.pull import NothingToPull, pull
from rayonnage_shared.sync.dvc.remote import NotOnRemote
from rayonnage_shared.sync.dvc.target import DvcTarget
from tests.unit.shared.sync.dvc.versions import FakeRemote, Killed, Volumes

OLD, NEW = "20260101T000000Z-aaaa", "20260201T000000Z-bbbb"
ADDRESS = "s3://bucket/one"


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Volumes, FakeRemote]:
    """A machine with two bundles and two dataset versions, and the remote that has all of them."""
    volumes, remote = Volumes(tmp_path_factory.mktemp("pushed")), FakeRemote()
    volumes.add_bundle(OLD, b"old weights")
    volumes.add_bundle(NEW, b"new weights", champion=True)
    volumes.add_dataset(3, photos=3)
    volumes.add_dataset(3, photos=2, start=10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rayonnage_shared.sync.dvc.target.open_remote", remote.open)
        DvcTarget(volumes.settings(ADDRESS), max_shard_bytes=6_000).sync(lambda sentence: None)
    return volumes, remote


@pytest.fixture
def remote(pushed: tuple[Volumes, FakeRemote], monkeypatch: pytest.MonkeyPatch) -> FakeRemote:
    made = FakeRemote({md5: dict(files) for md5, files in pushed[1].contents.items()})
    monkeypatch.setattr("rayonnage_shared.sync.dvc.target.open_remote", made.open)
    monkeypatch.setattr("rayonnage_shared.sync.dvc.pull.open_remote", made.open)
    return made


@pytest.fixture
def here(pushed: tuple[Volumes, FakeRemote]) -> Volumes:
    """The machine that pushed; only to be looked at."""
    return pushed[0]


@pytest.fixture
def there(here: Volumes, remote: FakeRemote, tmp_path: Path) -> Volumes:
    """Another machine, with nothing but what git brings."""
    volumes = Volumes(tmp_path / "there")
    for place in (*here.pointers(), "models/champion.json", "data/datasets/current.json"):
        (volumes.folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(here.folder / place, volumes.folder / place)
    return volumes


def bring(
    volumes: Volumes, *, bundles: bool = True, datasets: bool = True, everything: bool = False
) -> tuple[int, list[str]]:
    said: list[str] = []
    settings = volumes.settings(ADDRESS)
    return pull(settings, said.append, bundles=bundles, datasets=datasets, everything=everything), said


def contents(volumes: Volumes) -> dict[str, bytes]:
    return {place: content for place, (_, _, content) in volumes.live_files().items()}


def test_the_champion_and_the_current_dataset_come_with_their_photos(here: Volumes, there: Volumes) -> None:
    current = here.store.current()
    assert current

    count, _ = bring(there)

    assert count == 2
    assert list_versions(there.models) == [NEW]
    assert there.store.versions() == [current]
    copies = contents(there)
    assert copies.items() <= contents(here).items()
    assert sum(place.startswith("data/photos") for place in copies) == 5


def test_everything_comes_when_asked_for(here: Volumes, there: Volumes) -> None:
    bring(there, everything=True)

    assert contents(there) == contents(here)


@pytest.mark.parametrize(("choice", "folders"), [({"datasets": False}, {"models"}), ({"bundles": False}, {"data"})])
def test_one_kind_alone_comes_when_asked_for(there: Volumes, choice: dict[str, bool], folders: set[str]) -> None:
    bring(there, **choice)

    assert {place.partition("/")[0] for place in contents(there)} == folders


def test_a_second_pull_fetches_and_changes_nothing(there: Volumes, remote: FakeRemote) -> None:
    bring(there)
    before, fetched = there.live_files(), len(remote.fetched)
    remote.away = True  # it is not even asked

    count, said = bring(there)

    assert count == 0
    assert all(sentence.endswith("is here already.") for sentence in said)
    assert there.live_files() == before
    assert len(remote.fetched) == fetched


def test_what_was_pulled_is_not_pushed_again(there: Volumes, remote: FakeRemote) -> None:
    bring(there, everything=True)

    assert not DvcTarget(there.settings(ADDRESS)).pending()


def test_a_later_version_made_on_the_other_machine_pushes_only_its_own_photos(
    there: Volumes, remote: FakeRemote
) -> None:
    bring(there)
    remote.pushed.clear()

    version = there.add_dataset(2, photos=2, start=20)
    DvcTarget(there.settings(ADDRESS)).sync(lambda sentence: None)

    (shard, folder) = remote.pushed
    assert folder == version
    assert shard.endswith(".tar")


def test_only_photos_that_are_missing_are_unpacked(there: Volumes, remote: FakeRemote) -> None:
    bring(there)
    version = there.store.current()
    assert version
    lost = photos_of(there.store.folder / version / "products.parquet")[0]
    there.store.photo_path(lost).unlink()
    before = there.live_files()
    remote.fetched.clear()

    bring(there)

    assert there.store.photo_path(lost).is_file()
    assert {place: value for place, value in there.live_files().items() if lost not in place} == before
    assert len(remote.fetched) == 1


@pytest.mark.parametrize("moment", range(3))
def test_a_bundle_is_never_seen_in_part(there: Volumes, remote: FakeRemote, moment: int) -> None:
    remote.dies_at = moment
    with pytest.raises(Killed):
        bring(there)
    assert list_versions(there.models) == []

    remote.dies_at = None
    bring(there)

    assert list_versions(there.models) == [NEW]
    assert not list(there.models.glob(".pulled-*"))


def test_a_pull_killed_among_the_photos_goes_on_and_leaves_nothing_lying(there: Volumes, remote: FakeRemote) -> None:
    remote.dies_at = 7  # after the bundle's three files, the dataset's three, and one shard
    with pytest.raises(Killed):
        bring(there)
    assert there.store.versions() == []

    remote.dies_at = None
    bring(there)

    assert len(there.store.versions()) == 1
    assert not list((there.folder / "data").rglob(".pulled-*"))


def test_a_damaged_bundle_is_replaced(there: Volumes) -> None:
    bring(there)
    (there.models / NEW / "text" / "linear.npz").write_bytes(b"damaged")

    bring(there)

    assert (there.models / NEW / "text" / "linear.npz").read_bytes() == b"new weights"
    assert not list(there.models.glob(".replaced-*"))


def test_a_bundle_that_is_not_what_its_manifest_says_does_not_appear(there: Volumes, remote: FakeRemote) -> None:
    for content in remote.contents.values():
        if "text/linear.npz" in content:
            content["text/linear.npz"] = b"forged"

    with pytest.raises(BundleBroken, match=r"text/linear\.npz"):
        bring(there)

    assert list_versions(there.models) == []


def test_products_that_are_not_what_their_manifest_says_do_not_appear(there: Volumes, remote: FakeRemote) -> None:
    for content in remote.contents.values():
        if "products.parquet" in content:
            content["products.parquet"] += b"forged"

    with pytest.raises(DatasetBroken, match="do not match its manifest"):
        bring(there, bundles=False)

    assert there.store.versions() == []


def test_photos_that_are_not_what_their_names_say_do_not_appear(there: Volumes, remote: FakeRemote) -> None:
    for content in remote.contents.values():
        for name, data in content.items():
            if name.endswith(".tar"):
                content[name] = data.replace(b"\xff\xd8", b"\xff\xd9")

    with pytest.raises(ShardBroken):
        bring(there, bundles=False)

    assert there.store.versions() == []
    assert not list(there.store.photos_folder.rglob("*.jpg"))


def test_without_any_pointer_there_is_nothing_to_pull(tmp_path: Path, remote: FakeRemote) -> None:
    with pytest.raises(NothingToPull, match="commit the pointers on the machine that pushed"):
        bring(Volumes(tmp_path))


def test_a_remote_that_has_none_of_it_is_as_good_as_empty(there: Volumes, remote: FakeRemote) -> None:
    remote.contents.clear()

    with pytest.raises(NothingToPull, match=f"{ADDRESS} has none of {NEW}, "):
        bring(there)


def test_a_remote_that_lacks_a_part_is_named_before_anything_is_fetched(there: Volumes, remote: FakeRemote) -> None:
    remote.contents = {md5: one for md5, one in remote.contents.items() if "products.parquet" not in one}

    with pytest.raises(NotOnRemote, match=f"lacks {there.store.current()}"):
        bring(there)

    assert remote.fetched == []


def test_an_unreachable_remote_is_not_mistaken_for_an_empty_one(there: Volumes, remote: FakeRemote) -> None:
    remote.away = True

    with pytest.raises(SyncTargetUnavailable):
        bring(there)


def test_a_champion_without_a_pointer_is_named(there: Volumes) -> None:
    pointer_path(there.models / NEW).unlink()

    with pytest.raises(PointerBroken, match=f"{NEW}.dvc"):
        bring(there)


def test_with_no_remote_set_there_is_nowhere_to_pull_from(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="DVC_REMOTE_URL is empty"):
        pull(Volumes(tmp_path).settings(""), lambda sentence: None)


def test_volumes_that_start_empty_take_the_pointers_of_a_checkout(here: Volumes, there: Volumes) -> None:
    empty = replace(there, folder=there.folder.with_name("volumes"))

    pull(empty.settings(ADDRESS), lambda sentence: None, checkout=there.folder)

    champion = read_champion(empty.models)
    assert champion
    assert list_versions(empty.models) == [champion.version]
    assert empty.store.versions() == [empty.store.current()]
    assert empty.pointers() == there.pointers()


def test_volumes_with_a_champion_of_their_own_keep_it(there: Volumes) -> None:
    own = replace(there, folder=there.folder.with_name("volumes"))
    own.add_bundle(OLD, b"old weights", champion=True)

    pull(own.settings(ADDRESS), lambda sentence: None, checkout=there.folder)

    champion = read_champion(own.models)
    assert champion
    assert champion.version == OLD
    assert list_versions(own.models) == [NEW, OLD]


def test_make_run_in_a_checkout_fetches_what_its_pointers_name(there: Volumes, remote: FakeRemote) -> None:
    settings = LocalSettings(
        models_path=there.models,
        data_path=there.folder / "data",
        database_url=f"sqlite:///{there.folder}/rayonnage.db",
        dvc_remote_url=ADDRESS,
    )
    stages: list[str] = []
    remote.away = True
    with pytest.raises(SyncTargetUnavailable):
        prepare(settings, there.folder / "sample", stage=stages.append, progress=silent)
    remote.away = False

    prepare(settings, there.folder / "sample", stage=stages.append, progress=silent)
    prepare(settings, there.folder / "sample", stage=stages.append, progress=silent)

    assert stages == ["database", "pull", "database", "pull", "database"]
    assert list_versions(there.models) == [NEW]


def test_a_version_that_is_damaged_on_the_remote_does_not_stop_the_others(there: Volumes, remote: FakeRemote) -> None:
    for content in remote.contents.values():
        if content.get("text/linear.npz") == b"new weights":
            content["manifest.json"] = b'{"format": 2}'

    with pytest.raises(BundleBroken, match="format 2"):
        bring(there, everything=True)

    assert list_versions(there.models) == [OLD]
    assert len(there.store.versions()) == 2


def test_a_damaged_pointer_does_not_stop_the_others(there: Volumes) -> None:
    pointer_path(there.models / NEW).write_text("outs: 5")

    with pytest.raises(PointerBroken, match=NEW):
        bring(there, everything=True)

    assert list_versions(there.models) == [OLD]
    assert len(there.store.versions()) == 2


def test_a_dataset_whose_index_is_damaged_is_replaced(there: Volumes) -> None:
    bring(there)
    (version,) = there.store.versions()
    (there.store.folder / version / "photo_shards.json").write_text("{")

    came, _ = bring(there)

    assert came == 1
    assert bring(there)[0] == 0
