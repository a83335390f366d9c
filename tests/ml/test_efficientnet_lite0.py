from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from rayonnage_shared.core.errors import BadInput
from rayonnage_shared.ml.base.model import Fitting, FloatArray, Labels, Pixels
from rayonnage_shared.ml.families.image.efficientnet_lite0 import EfficientNetLite0
from rayonnage_shared.ml.features.photos import NotAnImage, PhotoLimits, read_photo

N = 45


def draw(folder: Path, number: int) -> Path:
    """Draw a disc, a square or a set of stripes of some colour and place; the shape is the class."""
    random = np.random.default_rng(number)
    image = Image.new("RGB", (260, 200), tuple(random.integers(180, 256, 3).tolist()))
    pencil, colour = ImageDraw.Draw(image), tuple(random.integers(0, 140, 3).tolist())
    x, y, side = (int(one) for one in random.integers((20, 20, 70), (90, 70, 110)))
    if number % 3 == 0:
        pencil.ellipse((x, y, x + side, y + side), colour)
    elif number % 3 == 1:
        pencil.rectangle((x, y, x + side, y + side), colour)
    else:
        for row in range(y, y + side, 14):
            pencil.line((x, row, x + side, row), colour, 5)
    path = folder / f"{number}.jpg"
    image.save(path, quality=90)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    return [draw(folder, number) for number in range(N)]


@pytest.fixture(scope="module")
def labels() -> Labels:
    return Labels(np.arange(N) % 3, np.arange(N) // 3 % 5, 5)


@pytest.fixture(scope="module")
def fitted(photos: list[Path], labels: Labels) -> tuple[EfficientNetLite0, FloatArray]:
    found = EfficientNetLite0.fit(photos, labels)
    return found.model, found.held_out


@pytest.fixture(scope="module")
def pixels(photos: list[Path]) -> Pixels:
    return np.stack([read_photo(one.read_bytes(), 224, PhotoLimits()) for one in photos[:9]])


def test_shapes_are_distinguished_on_photos_that_were_held_out(
    fitted: tuple[EfficientNetLite0, FloatArray], labels: Labels
) -> None:
    _, held_out = fitted

    assert held_out.shape == (N, 5)
    assert (held_out.argmax(axis=1) == labels.classes).mean() > 0.8


def test_rows_sum_to_1_and_classes_without_photos_get_0(
    fitted: tuple[EfficientNetLite0, FloatArray], pixels: Pixels
) -> None:
    model, held_out = fitted

    for table in (model.predict_proba(pixels), held_out):
        assert table.dtype == np.float32
        np.testing.assert_allclose(table.sum(axis=1), 1, rtol=1e-5)
        assert not table[:, 3:].any()


def test_a_saved_model_answers_the_same(
    fitted: tuple[EfficientNetLite0, FloatArray], pixels: Pixels, tmp_path: Path
) -> None:
    model, _ = fitted
    model.save(tmp_path)

    loaded = EfficientNetLite0.load(tmp_path)

    np.testing.assert_array_equal(loaded.predict_proba(pixels), model.predict_proba(pixels))


def test_a_shuffled_batch_gives_the_same_rows(fitted: tuple[EfficientNetLite0, FloatArray], pixels: Pixels) -> None:
    model, _ = fitted
    order = np.random.default_rng(0).permutation(len(pixels))

    np.testing.assert_allclose(model.predict_proba(pixels)[order], model.predict_proba(pixels[order]), atol=1e-5)


def test_threads_may_share_a_model(fitted: tuple[EfficientNetLite0, FloatArray], pixels: Pixels) -> None:
    model, _ = fitted
    alone = [model.predict_proba(one[None]) for one in pixels]

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda one: model.predict_proba(one[None]), pixels))

    np.testing.assert_array_equal(np.concatenate(together), np.concatenate(alone))


def test_progress_is_reported_and_may_stop_the_work(photos: list[Path], labels: Labels) -> None:
    class Stopped(Exception):
        pass

    told: list[float] = []

    def progress(fraction: float, message: str) -> None:
        told.append(fraction)
        if message.startswith("head"):
            raise Stopped

    with pytest.raises(Stopped):
        EfficientNetLite0.fit(photos, labels, Fitting(progress=progress))

    assert told == sorted(told)
    assert told[0] > 0


def test_a_bad_photo_is_named(photos: list[Path], labels: Labels, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no photo")

    with pytest.raises(NotAnImage, match=r"bad\.jpg"):
        EfficientNetLite0.fit([bad], Labels(labels.classes[:1], labels.folds[:1], 5))


def test_with_one_fold_nothing_is_held_out(photos: list[Path]) -> None:
    labels = Labels(np.arange(6) % 3, np.zeros(6, dtype=np.int64), 3)

    found = EfficientNetLite0.fit(photos[:6], labels)

    assert np.isnan(found.held_out).all()
    assert np.isfinite(found.model.predict_proba(np.zeros((1, 224, 224, 3), dtype=np.uint8))).all()


@pytest.mark.parametrize("parameters", [{"penalty": 0}, {"penalty": -1.0}, {"penalti": 1.0}])
def test_wrong_parameters_are_refused(photos: list[Path], labels: Labels, parameters: dict[str, float]) -> None:
    with pytest.raises(BadInput):
        EfficientNetLite0.fit(photos, labels, Fitting(parameters))
