"""docs/new-model.md builds a family; what it says works."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

import rayonnage_shared.ml.families.text
from rayonnage_shared.ml.base.categories import load_categories
from rayonnage_shared.ml.base.model import ProductText
from rayonnage_shared.ml.base.progress import silent
from rayonnage_shared.ml.bundles.bundle import load_folder
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.catalogue.ingestion.ingest import ingest
from rayonnage_shared.ml.training.requests import TrainRequest
from rayonnage_shared.ml.training.run import Training
from rayonnage_shared.ml.training.validation import validate_request

PAGE = Path(__file__).parents[2] / "docs" / "new-model.md"
WORDS = "bleu grand neuf lot enfant bois rond carton série plage hiver été jardin rouge petit vert fort clair"
SHELVES = {10: "piscine gonflable", 40: "console de jeu", 50: "roman policier"}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The page's two files, by the names that it gives them."""
    family, test = re.findall(
        r"^`([\w/.]+\.py)`:\n\n```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.S | re.M
    )
    for name, code in (family, test):
        (tmp_path / "page" / Path(name).parent.name).mkdir(parents=True)
        (tmp_path / "page" / Path(name).parent.name / Path(name).name).write_text(code, encoding="utf-8")
    return tmp_path / "page"


@pytest.fixture
def with_family(files: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The family's file among the others."""
    package = rayonnage_shared.ml.families.text
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(files / "text")])
    yield
    sys.modules.pop("rayonnage_shared.ml.families.text.nearest_shelf", None)


def test_the_test_on_the_page_passes(files: Path) -> None:
    (files / "conftest.py").write_text(
        f"import rayonnage_shared.ml.families.text as families\nfamilies.__path__.append({str(files / 'text')!r})\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(files), str(files)]

    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=files)

    assert result.returncode == 0, result.stdout + result.stderr
    assert "3 passed" in result.stdout


@pytest.mark.usefixtures("with_family")
def test_the_family_is_trained_and_served_by_its_name_alone(tmp_path: Path) -> None:
    store = DatasetStore(tmp_path / "data")
    random = np.random.default_rng(0)
    rows = [
        f"{name} {' '.join(random.choice(WORDS.split(), 6))},{code}"
        for _ in range(60)
        for code, name in SHELVES.items()
    ]
    features = tmp_path / "features.csv"
    features.write_text("\n".join(["designation,prdtypecode", *rows]), encoding="utf-8")
    categories = load_categories(None)
    ingest(store, features, None, None, allow_new_codes=False, demo=False, categories=categories)
    training = Training(
        request=validate_request(TrainRequest(text="nearest-shelf", image=None), store),
        models_path=tmp_path / "models",
        store=store,
        categories=categories,
        work=tmp_path / "models" / ".work" / "job",
        submitted_by="jane",
        stage=lambda name: None,
        progress=silent,
        promised_precision=0.95,
    )

    version = training.run()

    outcome = load_folder(tmp_path / "models" / version).predict(ProductText("Piscine gonflable pour enfant", ""), None)
    assert outcome.probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert np.argmax(outcome.probabilities) == training.categories.codes.index(10)


def test_without_its_file_there_is_no_such_family() -> None:
    with pytest.raises(ValidationError, match="tfidf-svm"):
        TrainRequest(text="nearest-shelf")
