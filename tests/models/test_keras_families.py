"""The families that Keras trains: small trainings, whole."""

from __future__ import annotations

import importlib
import inspect
import signal
import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from rayonnage_shared.core.errors import BadInput
from rayonnage_shared.ml.base.model import (
    Fitted,
    Fitting,
    FloatArray,
    ImageModel,
    IntArray,
    Labels,
    ProductText,
    TextModel,
)
from rayonnage_shared.ml.base.progress import Progress
from rayonnage_shared.ml.families.image.resnet50 import ResNet50
from rayonnage_shared.ml.families.image.vgg16 import Vgg16
from rayonnage_shared.ml.families.text.lstm import Lstm
from rayonnage_shared.ml.features.photo_features import read_photo_file
from rayonnage_shared.ml.networks.keras.pretrained_weights import HubFile, HubUnreachable
from rayonnage_shared.ml.networks.keras.runtime import start_tensorflow
from tests.ml import test_text_families as text_behaviour

# What every text family must do, here with the small LSTM's `fitted` below.
from tests.ml.test_text_families import (  # noqa: F401  collected by pytest under these names
    test_a_class_without_training_products_gets_nothing,
    test_a_loaded_model_answers_as_the_fitted_one,
    test_a_shuffled_batch_gives_the_same_rows,
    test_an_uncleaned_title_gives_what_the_clean_one_gives,
    test_confidence_on_held_out_products_is_earned,
    test_held_out_products_find_their_shelf,
    test_no_texts_get_no_rows,
    test_odd_texts_get_probabilities,
)
from tests.models.keras_runs import (
    EPOCHS,
    PATIENCE,
    RESUMED,
    SMALL_LSTM,
    SMALL_PHOTOS,
    draw_colours,
    fit_resumable,
    shelves,
)

pytestmark = pytest.mark.models

N_PHOTOS = 60
WITH_FINE_TUNING = {**SMALL_PHOTOS, "weights": "vgg.weights.h5", "fine_tune_epochs": 1}
# Loads a saved model where TensorFlow cannot be imported, and writes what it says.
SERVING = """
import sys
sys.modules["tensorflow"] = sys.modules["keras"] = None
import numpy as np
from pathlib import Path
from rayonnage_shared.ml.families import {kind}_family
from rayonnage_shared.ml.base.model import ProductText
model = {kind}_family("{name}").load(Path(sys.argv[1]))
with np.load(sys.argv[2]) as given:
    inputs = [ProductText(*row) for row in given["inputs"].tolist()] if "{kind}" == "text" else given["inputs"]
probabilities, features = model.output(inputs)
np.savez(sys.argv[3], probabilities=probabilities, features=features)
"""


def say_elsewhere(
    model: TextModel | ImageModel, kind: str, inputs: np.ndarray, folder: Path
) -> Mapping[str, FloatArray]:
    """Return what the saved model says in a process without TensorFlow."""
    saved = folder / "saved"
    saved.mkdir()
    model.save(saved)
    np.savez(folder / "inputs.npz", inputs=inputs)
    program = SERVING.format(kind=kind, name=model.name)
    paths = [str(path) for path in (saved, folder / "inputs.npz", folder / "said.npz")]
    subprocess.run([sys.executable, "-c", program, *paths], check=True, timeout=120)
    with np.load(folder / "said.npz") as said:
        return dict(said)


def held_out_accuracy(found: Fitted[ImageModel], labels: Labels) -> float:
    rows = labels.folds == 0
    return float(np.mean(found.held_out[rows].argmax(axis=1) == labels.classes[rows]))


# ---- lstm


@pytest.fixture(scope="module")
def trained() -> Fitted[Lstm]:
    texts, labels = shelves()
    return Lstm.fit(texts, labels, Fitting(SMALL_LSTM))


@pytest.fixture(scope="module")
def fitted(trained: Fitted[Lstm]) -> tuple[Lstm, FloatArray, IntArray]:
    """The model, and its probabilities and the truth for the rows that were held out."""
    _, labels = shelves()
    rows = labels.folds == 0
    return trained.model, trained.held_out[rows], labels.classes[rows]


def test_lstm_holds_out_the_first_fold_alone(trained: Fitted[Lstm]) -> None:
    _, labels = shelves()
    np.testing.assert_array_equal(np.isfinite(trained.held_out).all(axis=1), labels.folds == 0)


def test_lstm_stops_early_and_shows_how_it_learned(trained: Fitted[Lstm]) -> None:
    facts = trained.facts["training"]["lstm"]
    loss, accuracy, _ = trained.curves

    assert facts["epochs"] == len(loss.x) < EPOCHS
    assert facts["best_epoch"] == facts["epochs"] - PATIENCE
    assert min(loss.train) < loss.train[0] / 2
    assert max(accuracy.held_out) > 0.9


def test_lstm_says_how_near_its_export_is(trained: Fitted[Lstm]) -> None:
    assert trained.facts["export"]["max_difference"] <= 1e-4
    assert trained.facts["export"]["rows"] == 64


def test_lstm_is_served_without_tensorflow(trained: Fitted[Lstm], tmp_path: Path) -> None:
    texts, _ = shelves(40)

    said = say_elsewhere(trained.model, "text", np.array(texts), tmp_path)

    output = trained.model.output(texts)
    np.testing.assert_allclose(said["probabilities"], output.probabilities, atol=1e-6)
    np.testing.assert_allclose(said["features"], output.features, atol=1e-6)
    assert output.features.shape == (40, 128)


def test_lstm_killed_in_an_epoch_goes_on_after_the_last_whole_one_and_ends_equal(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-m", "tests.models.keras_runs", str(tmp_path)], check=False, timeout=200)
    assert killed.returncode == -signal.SIGKILL
    messages: list[str] = []

    resumed = fit_resumable(tmp_path, lambda fraction, message: messages.append(message))

    whole = fit_resumable(None)
    assert resumed.facts["training"]["lstm"] == {**whole.facts["training"]["lstm"], "resumed_after_epoch": 2}
    assert [message for message in messages if "done" in message] == [
        f"lstm: epoch {epoch} of at most {RESUMED['epochs']} done" for epoch in (3, 4)
    ]
    texts, _ = shelves(40)
    np.testing.assert_allclose(resumed.model.predict_proba(texts), whole.model.predict_proba(texts), atol=1e-5)
    np.testing.assert_allclose(resumed.held_out, whole.held_out, atol=1e-5)
    assert [curve.x for curve in resumed.curves] == [curve.x for curve in whole.curves]
    np.testing.assert_allclose(resumed.curves[0].train, whole.curves[0].train, atol=1e-5)


def test_lstm_begins_with_what_words_mean() -> None:
    texts, labels = shelves(60)
    options = {**SMALL_LSTM, "epochs": 1, "learning_rate": 1e-7, "word_vectors": "sentence"}

    model = Lstm.fit(texts, labels, Fitting(options)).model

    features = model.output([ProductText(word, "") for word in ("livre", "roman", "coussin")]).features
    to_novel, to_cushion = np.linalg.norm(features[0] - features[1:], axis=1)
    assert to_novel < to_cushion


@pytest.mark.parametrize(("classes", "folds"), text_behaviour.THIN)
def test_lstm_can_be_fitted_to_thin_data(classes: list[int], folds: list[int]) -> None:
    text_behaviour.check_thin_data(Lstm, classes, folds, Fitting({**SMALL_LSTM, "epochs": 2}))


# ---- vgg16 and resnet50


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return draw_colours(tmp_path_factory.mktemp("photos"), N_PHOTOS)


@pytest.fixture(scope="module")
def labels() -> Labels:
    return Labels(np.arange(N_PHOTOS) % 3, np.arange(N_PHOTOS) // 3 % 5, 4)


@pytest.fixture(scope="module")
def pixels(photos: list[Path]) -> np.ndarray:
    return np.stack([read_photo_file(photo, 32) for photo in photos[:8]])


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with weights of both networks, as an operator would put them there."""
    folder = tmp_path_factory.mktemp("pretrained")
    keras = start_tensorflow(5).keras
    for application, name in (("VGG16", "vgg.weights.h5"), ("ResNet50", "resnet.weights.h5")):
        shape = (32, 32, 3)
        network = getattr(keras.applications, application)(include_top=False, weights=None, input_shape=shape)
        with warnings.catch_warnings():
            # Keras 3.15 hands TensorFlow's variables to NumPy 2 in the old way; only saving its own files does so.
            warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
            network.save_weights(folder / name)
    (folder / "broken.weights.h5").write_bytes(b"no weights")
    return folder


@pytest.fixture(scope="module")
def vgg16(photos: list[Path], labels: Labels, pretrained: Path) -> Fitted[Vgg16]:
    return Vgg16.fit(photos, labels, Fitting(WITH_FINE_TUNING, pretrained=pretrained))


@pytest.fixture(scope="module")
def resnet50(photos: list[Path], labels: Labels, pretrained: Path) -> Fitted[ResNet50]:
    options = {**SMALL_PHOTOS, "weights": "resnet.weights.h5"}
    return ResNet50.fit(photos, labels, Fitting(options, pretrained=pretrained))


@pytest.mark.parametrize("name", ["vgg16", "resnet50"])
def test_photo_networks_learn_from_a_file_of_weights_and_say_which(
    name: str, request: pytest.FixtureRequest, labels: Labels, pixels: np.ndarray, tmp_path: Path
) -> None:
    found: Fitted[ImageModel] = request.getfixturevalue(name)

    assert held_out_accuracy(found, labels) > 0.8
    np.testing.assert_array_equal(np.isfinite(found.held_out).all(axis=1), labels.folds == 0)
    assert found.model.input_size == 32
    assert found.facts["input_size"] == 32
    assert found.facts["export"]["max_difference"] <= 1e-4
    weights = found.facts["weights"]
    assert (weights["source"], weights["file"]) == ("file", f"{name.rstrip('0156')}.weights.h5")
    assert len(weights["sha256"]) == 64
    said = say_elsewhere(found.model, "image", pixels, tmp_path)
    np.testing.assert_allclose(said["probabilities"], found.model.predict_proba(pixels), atol=1e-6)
    assert said["features"].shape == (8, 16)
    assert not said["probabilities"][:, 3].any()


def test_photo_networks_have_curves_over_both_phases(vgg16: Fitted[Vgg16]) -> None:
    facts = vgg16.facts["training"]

    assert facts["last block"]["epochs"] == 1
    assert len(vgg16.curves[0].x) == facts["head"]["epochs"] + 1


def test_a_photo_network_from_nothing_trains_everything(photos: list[Path], labels: Labels) -> None:
    options = {**SMALL_PHOTOS, "weights": "none", "epochs": 2, "learning_rate": 0.0005}

    found = Vgg16.fit(photos, labels, Fitting(options))

    assert found.facts["weights"] == {"source": "none"}
    assert found.facts["training"]["network"]["epochs"] == 2
    loss = found.curves[0]
    assert loss.train[1] < loss.train[0]


def test_a_photo_network_that_is_cancelled_goes_on_in_the_phase_it_was_in(
    photos: list[Path], labels: Labels, pretrained: Path, vgg16: Fitted[Vgg16], tmp_path: Path
) -> None:
    class Cancelled(Exception):
        pass

    def fit(progress: Progress) -> Fitted[Vgg16]:
        fitting = Fitting(WITH_FINE_TUNING, progress=progress, checkpoints=tmp_path, pretrained=pretrained)
        return Vgg16.fit(photos, labels, fitting)

    def cancel(fraction: float, message: str) -> None:
        if message.startswith("last block"):
            raise Cancelled

    with pytest.raises(Cancelled):
        fit(cancel)
    messages: list[tuple[float, str]] = []

    def tell(fraction: float, message: str) -> None:
        messages.append((fraction, message))

    resumed = fit(tell)

    assert not [message for _, message in messages if "read" in message or message.startswith("head")]
    fractions = [fraction for fraction, _ in messages]
    assert fractions == sorted(fractions)
    facts = resumed.facts["training"]
    assert facts["head"]["resumed_after_epoch"] == facts["head"]["epochs"]
    assert facts["head"]["best_epoch"] == vgg16.facts["training"]["head"]["best_epoch"]
    np.testing.assert_allclose(resumed.held_out, vgg16.held_out, atol=1e-4)


@pytest.mark.parametrize("weights", ["resnet.weights.h5", "broken.weights.h5"])
def test_weights_of_something_else_are_refused(
    weights: str, photos: list[Path], labels: Labels, pretrained: Path
) -> None:
    with pytest.raises(BadInput, match="does not contain weights of VGG16"):
        Vgg16.fit(photos, labels, Fitting({**SMALL_PHOTOS, "weights": weights}, pretrained=pretrained))


def test_without_the_hub_imagenet_weights_are_refused_at_once(
    photos: list[Path], labels: Labels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = HubFile("http://127.0.0.1:9/weights.h5", "0" * 32)
    monkeypatch.setattr(Vgg16, "backbone", type(Vgg16.backbone)("VGG16", away, "block5_"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    with pytest.raises(HubUnreachable, match="cannot be downloaded"):
        Vgg16.fit(photos, labels, Fitting(pretrained=tmp_path))


def test_keras_still_names_the_same_files_on_its_hub() -> None:
    vgg16, resnet = (importlib.import_module(f"keras.src.applications.{name}") for name in ("vgg16", "resnet"))

    assert Vgg16.backbone.hub.address == vgg16.WEIGHTS_PATH_NO_TOP
    assert Vgg16.backbone.hub.md5 in inspect.getsource(vgg16)
    file = "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
    assert ResNet50.backbone.hub.address == resnet.BASE_WEIGHTS_PATH + file
    assert ResNet50.backbone.hub.md5 == resnet.WEIGHTS_HASHES["resnet50"][1]
