"""Loading a bundle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rayonnage_shared.ml.bundles.bundle import DECISIONS_NAME, Bundle, ModalityMissing, load_bundle, load_folder
from rayonnage_shared.ml.bundles.manifest import BundleBroken, BundleNotFound, Families, hash_files
from tests.unit.shared.ml.bundles.manifests import VERSION, a_manifest, write_bundle, write_loadable_bundle


def test_a_bundle_is_loaded_with_what_its_manifest_says(tmp_path: Path) -> None:
    write_loadable_bundle(tmp_path)

    bundle = load_bundle(tmp_path, VERSION)
    bundle.warm_up()

    assert (bundle.version, bundle.codes, bundle.decisions.promised_precision) == (VERSION, (10, 40), 0.95)
    assert (bundle.text_model, bundle.image_model, bundle.fusion) == (None, None, None)


def test_a_folder_of_any_name_can_be_loaded(tmp_path: Path) -> None:
    folder = write_loadable_bundle(tmp_path).rename(tmp_path / "elsewhere")
    assert load_folder(folder).version == VERSION
    with pytest.raises(BundleNotFound):
        load_folder(tmp_path / "nowhere")


@pytest.mark.parametrize("name", [DECISIONS_NAME, "added.bin"])
def test_a_file_that_is_changed_or_added_is_named(tmp_path: Path, name: str) -> None:
    (write_loadable_bundle(tmp_path) / name).write_text("changed")
    with pytest.raises(BundleBroken, match=f"{name} differ"):
        load_bundle(tmp_path, VERSION)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    (write_loadable_bundle(tmp_path) / DECISIONS_NAME).unlink()
    with pytest.raises(BundleBroken, match=f"{DECISIONS_NAME} differ"):
        load_bundle(tmp_path, VERSION)


def test_a_family_that_does_not_exist_is_named(tmp_path: Path) -> None:
    folder = write_loadable_bundle(tmp_path)
    families = {"text": "gpt", "image": None, "fusion": None}
    write_bundle(tmp_path, families=families, files=hash_files(folder))
    with pytest.raises(BundleBroken, match="gpt"):
        load_bundle(tmp_path, VERSION)


def test_thresholds_that_cannot_be_read_break_the_bundle(tmp_path: Path) -> None:
    folder = write_loadable_bundle(tmp_path)
    (folder / DECISIONS_NAME).write_text(json.dumps({"thresholds": {}}))
    write_bundle(tmp_path, families=dict.fromkeys(("text", "image", "fusion")), files=hash_files(folder))
    with pytest.raises(BundleBroken, match="promised_precision"):
        load_bundle(tmp_path, VERSION)


@pytest.mark.parametrize(
    ("families", "family"),
    [
        (Families(text="lstm", image=None, fusion=None), "lstm"),
        (Families(text=None, image="vgg16", fusion=None), "vgg16"),
        (Families(text="lstm", image="vgg16", fusion="weighted"), "fusion"),
    ],
)
def test_predictions_are_attributed_to_the_fusion_or_the_only_model(
    tmp_path: Path, families: Families, family: str
) -> None:
    decisions = load_folder(write_loadable_bundle(tmp_path)).decisions
    manifest = a_manifest(families=families.model_dump())
    assert Bundle(manifest, text_model=None, image_model=None, fusion=None, decisions=decisions).family == family


def test_a_product_without_a_usable_modality_is_refused(tmp_path: Path) -> None:
    bundle = load_folder(write_loadable_bundle(tmp_path))
    with pytest.raises(ModalityMissing):
        bundle.predict(None, None)
    with pytest.raises(ValueError, match="neither text nor image"):
        bundle.combine(None, None)
