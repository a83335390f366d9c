"""`camembert` from a tiny pretrained network: trained where torch is, served where it is not."""

from __future__ import annotations

import csv
import hashlib
import json
import pickle
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest

from rayonnage_shared.core.errors import BadInput
from rayonnage_shared.ml.base.model import Fitted, Fitting, Labels, ProductText
from rayonnage_shared.ml.base.progress import silent
from rayonnage_shared.ml.families.text.camembert import TRAINING, Camembert
from rayonnage_shared.ml.features.text import product_text
from rayonnage_shared.ml.networks.camembert.torch_process import WeightsUnavailable
from rayonnage_shared.ml.networks.scoring_network import ScoringNetwork
from rayonnage_shared.ml.networks.subwords import Subwords
from tests.models.hub import REVISION, hub
from tests.models.tiny_camembert import MAX_TOKENS
from tests.processes import killed_at_end
from tests.waiting import PATIENCE_S, eventually

pytestmark = [pytest.mark.models, pytest.mark.timeout(900)]

PROJECT = Path(__file__).parents[2]
SAMPLE = PROJECT / "data" / "sample"
SHELVES = (10, 2583, 2905, 1280)
ROWS_EACH = 50
PARAMETERS: dict[str, float | int | str | bool] = {
    "weights": "tiny",
    "max_tokens": MAX_TOKENS,
    "epochs": 8,
    "batch": 8,
    "learning_rate": 0.003,
    "patience": 8,
}
LOADER = """
import json, sys
from pathlib import Path
from rayonnage_shared.ml.families import text_family
from rayonnage_shared.ml.base.model import ProductText
model = text_family("camembert").load(Path(sys.argv[1]))
texts = [ProductText(*pair) for pair in json.load(sys.stdin)]
print(json.dumps({
    "probabilities": model.predict_proba(texts).tolist(),
    "loaded": [name for name in ("torch", "transformers", "sklearn", "onnx", "tensorflow") if name in sys.modules],
}))
"""
TRAINER = """
import pickle, sys
from rayonnage_shared.ml.families.text.camembert import Camembert
Camembert.fit(*pickle.load(sys.stdin.buffer))
"""


@dataclass(frozen=True)
class Shelf:
    """Products of four shelves, and the pretrained weights below `pretrained`."""

    texts: list[ProductText]
    labels: Labels
    pretrained: Path
    asked: list[ProductText]
    ids: list[list[int]]

    def fitting(self, checkpoints: Path | None = None, **parameters: float | int | str | bool) -> Fitting:
        return Fitting({**PARAMETERS, **parameters}, 3, silent, checkpoints, self.pretrained)


@pytest.fixture(scope="module")
def python() -> Path:
    """The interpreter that has torch; made where it is missing."""
    subprocess.run(["make", "camembert-env"], cwd=PROJECT, check=True, timeout=800)
    return PROJECT / ".venv-camembert" / "bin" / "python"


@pytest.fixture(autouse=True)
def in_project(monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting's default is relative to the project."""
    monkeypatch.chdir(PROJECT)


@pytest.fixture(scope="module")
def shelf(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    folder = tmp_path_factory.mktemp("shelf")
    with (SAMPLE / "features.csv").open(encoding="utf-8") as features, (SAMPLE / "target.csv").open() as target:
        codes = [int(row["prdtypecode"]) for row in csv.DictReader(target)]
        products = [product_text(row["designation"], row["description"]) for row in csv.DictReader(features)]
    rows = [row for shelf in SHELVES for row in np.flatnonzero(np.array(codes) == shelf)[:ROWS_EACH]]
    classes = np.array([SHELVES.index(codes[row]) for row in rows])
    texts = [products[row] for row in rows]
    odd = [("", ""), ("", "Bouée"), ("🎁 мяч", "球" * 300), ("x" * 3000, "Piscine " * 900), ("Œuvre ½ ﬁn", "a\u00a0b")]
    asked = [*texts[:40], *(ProductText(*pair) for pair in odd)]
    (folder / "texts.json").write_text(json.dumps([part for text in products for part in text if part]))
    (folder / "asked.json").write_text(json.dumps(asked))
    program = [python, PROJECT / "tests" / "models" / "tiny_camembert.py", folder / "pretrained"]
    subprocess.run([*program, folder / "texts.json", folder / "asked.json"], check=True, timeout=300)
    # A fifth class that no product has.
    labels = Labels(classes, np.arange(len(rows)) % 5, len(SHELVES) + 1)
    return Shelf(texts, labels, folder / "pretrained", asked, json.loads((folder / "ids.json").read_text()))


@pytest.fixture(scope="module")
def fitted(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Fitted[Camembert]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(PROJECT)
        return Camembert.fit(shelf.texts, shelf.labels, shelf.fitting(tmp_path_factory.mktemp("checkpoints")))


@pytest.fixture(scope="module")
def saved(fitted: Fitted[Camembert], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    fitted.model.save(folder)
    return folder


def test_held_out_products_find_their_shelf(fitted: Fitted[Camembert], shelf: Shelf) -> None:
    known = ~np.isnan(fitted.held_out).any(axis=1)
    np.testing.assert_array_equal(known, shelf.labels.folds == 0)
    found = fitted.held_out[known].argmax(axis=1)
    assert np.mean(found == shelf.labels.classes[known]) > 0.7  # a quarter by chance
    np.testing.assert_allclose(fitted.held_out[known].sum(axis=1), 1, atol=1e-5)
    assert fitted.held_out[known, len(SHELVES) :].max() == 0


def test_curves_and_facts_tell_how_it_learned(fitted: Fitted[Camembert], shelf: Shelf) -> None:
    losses = next(curve for curve in fitted.curves if curve.metric == "loss")
    assert losses.train[-1] < losses.train[0]
    assert fitted.facts["best_epoch"] == 1 + int(np.argmin(losses.held_out))
    weights = shelf.pretrained / "tiny" / "model.safetensors"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert fitted.facts["weights"] == {"source": "folder", "name": "tiny", "file": weights.name, "sha256": digest}
    json.dumps(dict(fitted.facts))


def test_the_exported_network_predicts_what_torch_predicted(fitted: Fitted[Camembert], shelf: Shelf) -> None:
    assert fitted.facts["export"]["max_difference"] <= 1e-4
    rows = np.flatnonzero(shelf.labels.folds == 0)
    served = fitted.model.predict_proba([shelf.texts[row] for row in rows])
    np.testing.assert_allclose(served, fitted.held_out[rows], atol=1e-4)


def test_a_text_alone_and_beside_a_longer_one_gives_the_same(fitted: Fitted[Camembert], saved: Path) -> None:
    short, long = ProductText("Bouée", ""), ProductText("Piscine " * 9, "Roman de poche, " * 20)
    alone, both = fitted.model.output([short]), fitted.model.output([long, short])
    np.testing.assert_allclose(both.probabilities[1], alone.probabilities[0], atol=1e-5)
    np.testing.assert_allclose(both.features[1], alone.features[0], atol=1e-5)
    # The model pads nothing; should a caller of the network do, that changes nothing either.
    subwords = Subwords((saved / "tokenizer.json").read_text(encoding="utf-8"), MAX_TOKENS)
    network = ScoringNetwork((saved / "network.onnx").read_bytes())
    padded = network.run(subwords.padded([long, short]))
    np.testing.assert_allclose(padded.scores[1], network.run(subwords.padded([short])).scores[0], atol=1e-5)
    np.testing.assert_allclose(padded.features[1], alone.features[0], atol=1e-5)


@pytest.mark.parametrize(
    "text", [("", ""), ("", "piscine"), ("🎁", "!!!"), ("мяч 球", ""), ("x" * 20_000, "y " * 9_000)]
)
def test_odd_texts_get_probabilities(fitted: Fitted[Camembert], text: tuple[str, str]) -> None:
    assert fitted.model.predict_proba([ProductText(*text)]).sum() == pytest.approx(1, abs=1e-5)


def test_no_texts_get_no_rows(fitted: Fitted[Camembert]) -> None:
    probabilities, features = fitted.model.output([])
    assert (probabilities.shape, features.shape) == ((0, len(SHELVES) + 1), (0, 32))


def test_a_process_without_torch_answers_as_the_fitted_model(
    fitted: Fitted[Camembert], saved: Path, shelf: Shelf
) -> None:
    run = subprocess.run(
        [sys.executable, "-c", LOADER, saved],
        input=json.dumps(shelf.asked),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    answer = json.loads(run.stdout)
    assert answer["loaded"] == []
    expected = fitted.model.predict_proba(shelf.asked)
    np.testing.assert_array_equal(np.array(answer["probabilities"], dtype=np.float32), expected)


def test_serving_cuts_words_as_transformers_does(saved: Path, shelf: Shelf) -> None:
    subwords = Subwords((saved / "tokenizer.json").read_text(encoding="utf-8"), MAX_TOKENS)
    assert [subwords.ids(text) for text in shelf.asked] == shelf.ids
    assert max(map(len, shelf.ids)) == MAX_TOKENS


def test_a_killed_training_goes_on_to_the_same_end(fitted: Fitted[Camembert], shelf: Shelf, tmp_path: Path) -> None:
    with killed_at_end(subprocess.Popen([sys.executable, "-c", TRAINER], stdin=subprocess.PIPE)) as parent:
        assert parent.stdin is not None
        with parent.stdin:
            pickle.dump((shelf.texts, shelf.labels, shelf.fitting(tmp_path)), parent.stdin)
        assert eventually(lambda: list(tmp_path.glob("*/checkpoint.pt")) != [], 120)
        assert torch_processes(tmp_path)
    assert eventually(lambda: not torch_processes(tmp_path), 120)
    assert not list(tmp_path.glob("*/outcome.json"))

    resumed = Camembert.fit(shelf.texts, shelf.labels, shelf.fitting(tmp_path))

    assert resumed.facts["resumed_after_epoch"] >= 1
    assert resumed.curves == fitted.curves
    np.testing.assert_array_equal(resumed.held_out, fitted.held_out)
    np.testing.assert_array_equal(resumed.model.predict_proba(shelf.asked), fitted.model.predict_proba(shelf.asked))


def test_files_as_they_were_before_and_int8(shelf: Shelf) -> None:
    found = Camembert.fit(shelf.texts, shelf.labels, shelf.fitting(weights="tiny-old", precision="int8", epochs=5))

    assert found.facts["weights"]["file"] == "pytorch_model.bin"
    precision = found.facts["precision"]
    assert precision["int8"]["megabytes"] < 0.7 * precision["fp32"]["megabytes"]
    assert precision["used"] == "int8" or precision["reason"]
    alone = found.model.predict_proba(shelf.asked[:1])
    np.testing.assert_array_equal(found.model.predict_proba(shelf.asked)[:1], alone)


def test_thin_data_without_weights_and_without_a_fold(shelf: Shelf) -> None:
    texts = [ProductText("", ""), *shelf.texts[:2], ProductText("🎁", "")]
    labels = Labels(np.array([0, 1, 1, 3]), np.zeros(4, dtype=np.int64), 4)
    small = shelf.fitting(weights="none", layers=1, width=32, epochs=1)

    found = Camembert.fit(texts, labels, small)

    assert np.isnan(found.held_out).all()
    assert found.curves == ()
    probabilities = found.model.predict_proba(texts)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert probabilities[:, 2].max() == 0


class Cancelled(Exception):
    """What a cancelled job's progress raises."""


def fit_until_learning(shelf: Shelf, checkpoints: Path, **parameters: str) -> None:
    """Begin a training and cancel it in its first epoch, when weights have been found, read and put to use."""

    def cancel(fraction: float, message: str) -> None:
        if message.startswith("epoch 1"):
            assert torch_processes(checkpoints)
            raise Cancelled

    asked = {**PARAMETERS, **parameters}
    with pytest.raises(Cancelled):
        Camembert.fit(shelf.texts, shelf.labels, Fitting(asked, 3, cancel, checkpoints, shelf.pretrained))
    assert eventually(lambda: not torch_processes(checkpoints), 120)


def test_weights_of_a_hub_are_fetched_once_and_a_cancelled_training_leaves_no_process(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub("shop/tiny", shelf.pretrained / "tiny") as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        fit_until_learning(shelf, tmp_path, weights="shop/tiny")
    cache = shelf.pretrained / ".hub"
    assert list(cache.glob(f"*/snapshots/{REVISION}/model.safetensors"))

    fit_until_learning(shelf, tmp_path, weights="shop/tiny")


def test_a_name_that_the_hub_does_not_know_is_bad_input(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub("shop/tiny", shelf.pretrained / "tiny") as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        with pytest.raises(BadInput, match="shop/other"):
            Camembert.fit(shelf.texts, shelf.labels, shelf.fitting(weights="shop/other"))


def test_without_a_hub_the_error_says_what_else_there_is(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(WeightsUnavailable, match=r"\.pretrained"):
        Camembert.fit(shelf.texts, shelf.labels, shelf.fitting(weights="camembert-base"))
    assert time.monotonic() - started < PATIENCE_S


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"sentencepiece.bpe.model": None}, "are incomplete"),
        ({"pytorch_model.bin": None}, "are incomplete"),
        ({"config.json": '{"model_type": "bert"}'}, "'bert'"),
        ({"config.json": '{"model_type": "camembert", "max_position_embeddings": 34}'}, "max_tokens"),
    ],
)
def test_weights_that_do_not_serve_are_refused(
    shelf: Shelf, tmp_path: Path, changed: dict[str, str | None], words: str
) -> None:
    shutil.copytree(shelf.pretrained / "tiny-old", tmp_path / "other")
    for name, content in changed.items():
        (tmp_path / "other" / name).unlink()
        if content is not None:
            (tmp_path / "other" / name).write_text(content)
    with pytest.raises(BadInput, match=words):
        Camembert.fit(shelf.texts, shelf.labels, Fitting({**PARAMETERS, "weights": "other"}, pretrained=tmp_path))


def torch_processes(folder: Path) -> list[int]:
    """Return the processes that train below this folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if TRAINING in words and any(word.startswith(str(folder)) for word in words):
            found.append(process.pid)
    return found
