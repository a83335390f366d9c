"""Reading and writing a bundle's manifest."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from rayonnage_shared.ml.bundles.manifest import (
    BundleBroken,
    BundleNotFound,
    Manifest,
    ThresholdChoice,
    list_versions,
    read_manifest,
    write_manifest,
)
from tests.unit.shared.ml.bundles.manifests import VERSION, a_manifest, write_bundle

WRITTEN_BY_1_0 = """{
 "format": 1,
 "version": "20261121T081500Z-3f2a",
 "created_at": "2026-11-21T08:15:00+00:00",
 "families": {
  "text": "tfidf-svm",
  "image": null,
  "fusion": null
 },
 "categories": {
  "codes": [
   10,
   40
  ],
  "labels": {
   "10": "Livres d’occasion",
   "40": "Jeux vidéo"
  }
 },
 "dataset": {
  "version": "20261120T081500Z-aaaa",
  "sha256": "abab",
  "demo": true
 },
 "base_version": null,
 "code_version": "fcf8055",
 "parameters": {
  "text.penalty": 2,
  "text.balance": 0.5,
  "text.variant": "word"
 },
 "seed": 0,
 "promised_precision": 0.95,
 "submitted_by": "make run",
 "metrics": {
  "rows": 206,
  "accuracy": 0.9
 },
 "libraries": {
  "numpy": "2.4.6"
 },
 "models": {
  "text": {
   "family": "tfidf-svm",
   "parameters": {
    "penalty": 2.0,
    "cased": false
   },
   "seconds": 1.25,
   "facts": {
    "folds": [
     1,
     2
    ]
   }
  }
 },
 "files": {
  "decisions.json": "00ff"
 }
}"""


def without(name: str) -> str:
    document: dict[str, Any] = json.loads(WRITTEN_BY_1_0)
    *path, last = name.split(".")
    section = document
    for key in path:
        section = section[key]
    del section[last]
    return json.dumps(document)


def broken(models: Path, content: str) -> str:
    """Return the message for a bundle whose manifest has this content."""
    (write_bundle(models) / "manifest.json").write_text(content, encoding="utf-8")
    with pytest.raises(BundleBroken) as caught:
        read_manifest(models, VERSION)
    return caught.value.detail


def test_an_existing_manifest_is_read_and_written_byte_for_byte(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path)
    (folder / "manifest.json").write_text(WRITTEN_BY_1_0, encoding="utf-8")

    manifest = read_manifest(tmp_path, VERSION)
    write_manifest(folder, manifest)

    assert manifest.created_at == datetime(2026, 11, 21, 8, 15, tzinfo=UTC)
    assert manifest.categories.labels == {10: "Livres d’occasion", 40: "Jeux vidéo"}
    assert (manifest.families.text, manifest.dataset.demo, manifest.metrics["accuracy"]) == ("tfidf-svm", True, 0.9)
    assert (folder / "manifest.json").read_text(encoding="utf-8") == WRITTEN_BY_1_0


def test_a_manifest_from_before_models_were_described_is_read(tmp_path: Path) -> None:
    (write_bundle(tmp_path) / "manifest.json").write_text(without("models"))
    assert read_manifest(tmp_path, VERSION).models == {}


def test_how_thresholds_were_chosen_is_unknown_for_an_older_manifest(tmp_path: Path) -> None:
    older, newer = json.loads(WRITTEN_BY_1_0), json.loads(WRITTEN_BY_1_0)
    newer["thresholds"] = {"method": "learn-then-test", "confidence": 0.9}
    path = write_bundle(tmp_path) / "manifest.json"
    found = []
    for document in (older, newer):
        path.write_text(json.dumps(document))
        found.append(read_manifest(tmp_path, VERSION).thresholds)

    assert found == [None, ThresholdChoice(method="learn-then-test", confidence=0.9)]


def test_unknown_keys_are_kept(tmp_path: Path) -> None:
    document = json.loads(WRITTEN_BY_1_0)
    document["signed_by"] = "jane"
    document["dataset"]["rows"] = 206
    folder = write_bundle(tmp_path)
    (folder / "manifest.json").write_text(json.dumps(document))

    write_manifest(folder, read_manifest(tmp_path, VERSION))

    assert json.loads((folder / "manifest.json").read_text()) == document


@pytest.mark.parametrize("name", [name for name, field in Manifest.model_fields.items() if field.is_required()])
def test_a_missing_field_is_named(tmp_path: Path, name: str) -> None:
    assert f"`{name}` is required" in broken(tmp_path, without(name))


@pytest.mark.parametrize("name", ["dataset.sha256", "dataset.demo", "families.image", "categories.labels"])
def test_a_missing_field_of_a_section_is_named(tmp_path: Path, name: str) -> None:
    assert f"`{name}`" in broken(tmp_path, without(name))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("created_at", "2026-11-21T08:15:00"),  # no time zone
        ("created_at", 5),
        ("dataset", []),
        ("metrics", {"accuracy": "0.9"}),
        ("categories", {"codes": ["ten"], "labels": {}}),
        ("files", None),
        ("seed", True),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, field: str, value: object) -> None:
    assert f"`{field}" in broken(tmp_path, json.dumps(json.loads(WRITTEN_BY_1_0) | {field: value}))


def test_another_format_is_named_and_nothing_else(tmp_path: Path) -> None:
    detail = broken(tmp_path, '{"format": 2, "model": {}}')
    assert detail == f"Bundle {VERSION} has a manifest of format 2; this code reads format 1."


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "[" * 5000, '{"format": 1, "version": '])
def test_what_is_no_manifest_is_broken(tmp_path: Path, content: str) -> None:
    assert broken(tmp_path, content).startswith(f"Bundle {VERSION} has no valid manifest: ")


def test_a_manifest_that_cannot_be_opened_is_broken(tmp_path: Path) -> None:
    (tmp_path / VERSION / "manifest.json").mkdir(parents=True)
    with pytest.raises(BundleBroken, match="cannot be read: Is a directory"):
        read_manifest(tmp_path, VERSION)


@pytest.mark.parametrize("version", ["20261121T081500Z-0000", "../../etc", "latest", ""])
def test_a_version_without_a_manifest_is_not_found(tmp_path: Path, version: str) -> None:
    write_bundle(tmp_path)
    with pytest.raises(BundleNotFound):
        read_manifest(tmp_path, version)


def test_families_that_are_present_are_listed_by_model() -> None:
    assert a_manifest().families.present() == {"text": "tfidf-svm"}


def test_versions_are_listed_newest_first_broken_ones_too(tmp_path: Path) -> None:
    old, new = "20261101T081500Z-0001", "20261102T081500Z-0002"
    for version in (old, new):
        write_bundle(tmp_path, version)
    (tmp_path / new / "manifest.json").write_text("{")
    (tmp_path / ".work" / "job").mkdir(parents=True)
    assert list_versions(tmp_path) == [new, old]
