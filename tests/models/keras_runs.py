"""Small trainings that the tests of the Keras families run, here or in a process of their own that is killed."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from rayonnage_shared.ml.base.model import Fitted, Fitting, Labels, ProductText
from rayonnage_shared.ml.base.progress import Progress, silent
from rayonnage_shared.ml.families.text.lstm import Lstm
from tests.ml.test_text_families import catalogue

EPOCHS, PATIENCE = 30, 3
SMALL_LSTM: dict[str, float | int | str | bool] = {
    "epochs": EPOCHS,
    "patience": PATIENCE,
    "batch_size": 32,
    "learning_rate": 0.02,
    "length": 16,
    "word_vectors": "random",
    "embedding_width": 12,
    "units": 8,
    "dropout": 0.1,
}
RESUMED: dict[str, float | int | str | bool] = {**SMALL_LSTM, "epochs": 4, "patience": 4}
SMALL_PHOTOS: dict[str, float | int | str | bool] = {
    "input_size": 32,
    "epochs": 25,
    "patience": 4,
    "batch_size": 16,
    "learning_rate": 0.003,
    "fine_tune_epochs": 0,
    "features": 16,
    "dropout": 0.0,
}
COLOURS = ((200, 30, 30), (30, 160, 40), (40, 50, 190))


def shelves(n: int = 300) -> tuple[list[ProductText], Labels]:
    """Return products of four shelves, and labels of six classes in five folds."""
    texts, classes = catalogue(n)
    return texts, Labels(classes, np.arange(n) % 5, 6)


def fit_resumable(checkpoints: Path | None, progress: Progress = silent) -> Fitted[Lstm]:
    """Train four epochs."""
    texts, labels = shelves(120)
    return Lstm.fit(texts, labels, Fitting(RESUMED, seed=3, progress=progress, checkpoints=checkpoints))


def draw_colours(folder: Path, n: int) -> list[Path]:
    """Draw pictures whose class, their number modulo 3, is the colour of a box."""
    found = []
    for number in range(n):
        random = np.random.default_rng(number)
        pixels = random.integers(190, 256, (40, 40, 3), dtype=np.uint8)
        x, y = random.integers(2, 14, 2)
        pixels[y : y + 24, x : x + 24] = COLOURS[number % 3] + random.integers(-25, 25, 3)
        found.append(folder / f"{number}.png")
        Image.fromarray(pixels).save(found[-1])
    return found


def main() -> None:
    """Train with checkpoints in the folder that is named, and end like a machine without power in epoch 3."""

    def progress(fraction: float, message: str) -> None:
        if "epoch 3 " in message:
            os.kill(os.getpid(), signal.SIGKILL)

    fit_resumable(Path(sys.argv[1]), progress)


if __name__ == "__main__":
    main()
