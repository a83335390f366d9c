"""`rayonnage models`."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from rayonnage_shared.cli import models
from rayonnage_shared.database.engine import migrate, open_database
from rayonnage_shared.ml.bundles.champion import Champion, write_champion
from rayonnage_shared.ml.families import family_names
from rayonnage_shared.registry.promotion import promote
from tests.unit.shared.ml.bundles.manifests import write_bundle, write_loadable_bundle

OLD, NEW = "20261120T081500Z-0001", "20261121T081500Z-0002"


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two bundles, the older one being the champion."""
    monkeypatch.setenv("MODELS_PATH", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    for version in (OLD, NEW):
        write_bundle(tmp_path, version)
    write_champion(tmp_path, Champion.promoted(OLD, "jane", "first"))
    return tmp_path


def listed() -> Result:
    app = typer.Typer()
    models.register(app)
    return CliRunner().invoke(app, ["models"], catch_exceptions=False)


def test_versions_are_listed_newest_first_with_the_champion_marked(volume: Path) -> None:
    lines = [line.split() for line in listed().stdout.splitlines() if "T081500Z" in line]
    assert [[cell for cell in line if cell != "│"][:2] for line in lines] == [[NEW, "tfidf-svm"], ["★", OLD]]


def test_the_table_fits_80_columns_with_the_longest_names(volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    families = {"text": max(family_names("text"), key=len), "image": max(family_names("image"), key=len)}
    write_bundle(volume, "20261122T081500Z-0003", families={**families, "fusion": "concatenate"})
    lines = listed().stdout.splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 80
    assert any("20261122T081500Z-0003" in line and all(name in line for name in families.values()) for line in lines)
    assert len(lines) == 2 + 3


def test_a_broken_bundle_and_a_broken_pointer_are_named_beside_the_rest(volume: Path) -> None:
    (volume / NEW / "manifest.json").write_text('{"format": 2}')
    (volume / "champion.json").write_text("garbage{")

    result = listed()

    assert result.exit_code == 0
    assert OLD in result.stdout
    assert any(NEW in line and "broken" in line for line in result.stdout.splitlines())
    assert "champion.json is not valid" in result.stderr
    assert f"Bundle {NEW} has a manifest of format 2" in result.stderr.replace("\n", " ")


def test_promotions_are_listed_newest_first_with_who_and_why(volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{volume}/rayonnage.db")
    for version in (OLD, NEW):
        write_loadable_bundle(volume, version)
    engine = open_database(f"sqlite:///{volume}/rayonnage.db")
    migrate(engine)
    promote(volume, engine, NEW, "claire", "better on photos")
    engine.dispose()
    app = typer.Typer()
    models.register(app)

    result = CliRunner().invoke(app, ["promotions"], catch_exceptions=False)

    lines = [line for line in result.stdout.splitlines() if "T081500Z" in line]
    assert [version in line for version, line in zip((NEW, OLD), lines, strict=True)] == [True, True]
    assert "claire" in lines[0] and "better on photos" in lines[0]
    assert "jane" in lines[1]
