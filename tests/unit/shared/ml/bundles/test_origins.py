"""Which bundles have a part of the demo catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rayonnage_shared.ml.bundles.origins import has_demo_part, is_demo_model
from tests.unit.shared.ml.bundles.manifests import VERSION, a_manifest, write_bundle

BASE = "20261120T081500Z-0001"
DEMO: dict[str, Any] = {"dataset": {"version": "20261119T081500Z-dddd", "sha256": "ab" * 32, "demo": True}}
BOTH: dict[str, Any] = {"families": {"text": "tfidf-svm", "image": "vgg16", "fusion": "weighted"}}
TEXT, PHOTO = {"text/a": "ab" * 32}, {"image/a": "cd" * 32}


def test_a_bundle_is_of_the_line_of_its_dataset(tmp_path: Path) -> None:
    assert has_demo_part(tmp_path, a_manifest(**DEMO))
    assert not has_demo_part(tmp_path, a_manifest())


def test_a_model_that_was_kept_is_known_by_its_files(tmp_path: Path) -> None:
    write_bundle(tmp_path, BASE, **DEMO, **BOTH, files=TEXT | PHOTO)
    kept = a_manifest(VERSION, **BOTH, base_version=BASE, files={"text/a": "ef" * 32} | PHOTO)

    assert is_demo_model(tmp_path, kept, "image") is True
    assert is_demo_model(tmp_path, kept, "text") is False
    assert has_demo_part(tmp_path, kept)


@pytest.mark.parametrize("demo", [True, False])
def test_what_the_training_recorded_counts(tmp_path: Path, demo: bool) -> None:
    models = {"text": {"family": "tfidf-svm", "demo": demo}}
    assert is_demo_model(tmp_path, a_manifest(models=models, base_version=BASE), "text") is demo


def test_a_model_whose_first_bundle_is_gone_is_of_unknown_origin(tmp_path: Path) -> None:
    manifest = a_manifest(base_version=BASE)
    assert is_demo_model(tmp_path, manifest, "text") is None
    assert not has_demo_part(tmp_path, manifest)
