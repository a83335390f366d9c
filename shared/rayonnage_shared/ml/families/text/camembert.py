"""`camembert`: CamemBERT (Martin et al. 2020), fine-tuned in torch's environment and served without torch."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from rayonnage_shared.core.errors import BadInput
from rayonnage_shared.ml.base.model import (
    DEFAULTS,
    Fitted,
    Fitting,
    FloatArray,
    IntArray,
    Labels,
    ModelOutput,
    ProductText,
    Span,
    TextModel,
)
from rayonnage_shared.ml.base.parameters import Bounds, Choice, Parameter, Parameters
from rayonnage_shared.ml.base.progress import part
from rayonnage_shared.ml.calibration.curve import Calibration
from rayonnage_shared.ml.networks.camembert.torch_process import check_torch, run_in_torch
from rayonnage_shared.ml.networks.epochs import EpochMetrics, learning_curves
from rayonnage_shared.ml.networks.held_out_split import Split
from rayonnage_shared.ml.networks.keras.onnx_export import check_export
from rayonnage_shared.ml.networks.quantization import PRECISIONS, choose_network, quantize_recurrences
from rayonnage_shared.ml.networks.scoring_network import Scored, ScoringNetwork
from rayonnage_shared.ml.networks.subwords import Subwords

TRAINING = "rayonnage_shared.ml.networks.camembert.training"
"""The module that the torch environment runs."""
_FORMAT = 1
"""Incremented when the training code changes, so that a job does not resume from older files."""
_FROM_SCRATCH = "none"
# A hub name, with an optional owner, or a folder of pretrained weights; never a path out of that folder.
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_HUB_CACHE = ".hub"
_TRAINING_SHARE = 0.95
_HEAD_WIDTH = 32


class Camembert(TextModel):
    """A network over word pieces. deployments/camembert/README.md explains its parameters.

    With the size of camembert-base one product takes 130 ms in fp32 and 70 ms in int8 at 64 word pieces, 250 and 130 at
    128, on one busy core; its files are 442 and 111 MB.
    """

    name = "camembert"
    parameters: ClassVar[Parameters] = {
        "weights": "camembert-base",
        "max_tokens": 128,
        "epochs": 5,
        "batch": 32,
        "learning_rate": 5e-5,
        "warm_up": 0.1,
        "weight_decay": 0.01,
        "balance": 0.5,
        "patience": 2,
        "precision": "fp32",
        "layers": 3,
        "width": 192,
        "vocabulary": 8000,
    }
    bounds: ClassVar[Mapping[str, Bounds | Choice]] = {
        "max_tokens": Bounds(8, 512),
        "epochs": Bounds(1, 100),
        "batch": Bounds(1, 512),
        "learning_rate": Bounds(1e-7, 0.1),
        "warm_up": Bounds(0, 0.9),
        "weight_decay": Bounds(0, 1),
        "balance": Bounds(0, 2),
        "patience": Bounds(1, 100),
        "precision": Choice(PRECISIONS),
        "layers": Bounds(1, 24),
        "width": Bounds(_HEAD_WIDTH, 1024),
        "vocabulary": Bounds(100, 64_000),
    }
    installed_by = "camembert-env"
    search_space: ClassVar[Mapping[str, Span | Choice]] = {
        "learning_rate": Span(1e-5, 2e-4, logarithmic=True),
        "balance": Span(0.0, 1.0),
    }

    def __init__(self, network: ScoringNetwork, subwords: Subwords, calibration: Calibration) -> None:
        self._network = network
        self._subwords = subwords
        self._calibration = calibration

    @classmethod
    def resolve(cls, parameters: Parameters) -> dict[str, Parameter]:
        """Return the defaults updated with `parameters`. Raises BadInput for an invalid value."""
        resolved = super().resolve(parameters)
        if int(resolved["width"]) % _HEAD_WIDTH:
            raise BadInput(
                f"Parameter 'width' of camembert must be a multiple of {_HEAD_WIDTH}, not {resolved['width']}."
            )
        if not _NAME.fullmatch(str(resolved["weights"])):
            raise BadInput(
                "Parameter 'weights' of camembert must be a name on the hub, such as 'camembert-base', the name of a "
                f"folder of pretrained weights, or {_FROM_SCRATCH!r}; not a path."
            )
        return resolved

    @classmethod
    def check_trainable(cls) -> None:
        """Raise FamilyNotTrainable if the environment with torch is missing or incomplete."""
        from rayonnage_shared.ml.networks.settings import CamembertSettings

        check_torch(CamembertSettings().camembert_python)

    @classmethod
    def fit(cls, texts: Sequence[ProductText], labels: Labels, fitting: Fitting = DEFAULTS) -> Fitted[Self]:
        """Return the model, fitted without the first fold, and held-out probabilities of that fold.

        The same seed, data and machine give the same model. Raises BadInput, FamilyNotTrainable,
        WeightsUnavailable, TorchTrainingFailed, or what `fitting.progress` raises, which ends the training.
        """
        parameters = cls.resolve(fitting.parameters)
        split = Split.of(labels, float(parameters["balance"]))
        inputs = {
            "format": _FORMAT,
            "parameters": parameters,
            "seed": fitting.seed,
            "n_classes": labels.n_classes,
            "weights": _weights(str(parameters["weights"]), fitting.pretrained),
            "texts": texts,
            "classes": labels.classes.tolist(),
            "row_weights": split.weights.tolist(),
            "train": split.train.tolist(),
            "held_out": split.held_out.tolist(),
        }
        trained = _train(inputs, fitting)

        def score(network: bytes) -> FloatArray:
            told = part(fitting.progress, _TRAINING_SHARE, 1)
            return ScoringNetwork(network).run_each(split.held_out.tolist(), read, told).scores

        def read(row: int) -> IntArray:
            return np.array(trained.subwords.ids(texts[row]), dtype=np.int64)

        fitting.progress(_TRAINING_SHARE, "comparing the exported network")
        checked = trained.subwords.padded([texts[row] for row in trained.checked])
        export = check_export(trained.network, checked, trained.expected)
        chosen = choose_network(
            str(parameters["precision"]),
            trained.network,
            trained.held_out_scores,
            split,
            quantize=quantize_recurrences,
            score=score,
        )
        used = chosen.variant
        return Fitted(
            cls(ScoringNetwork(used.network), trained.subwords, used.calibration),
            used.held_out,
            learning_curves(trained.epochs),
            {**trained.facts, "export": export, "precision": chosen.facts},
        )

    def output(self, texts: Sequence[ProductText]) -> ModelOutput:
        """Return calibrated probabilities (n, n_classes); features (n, width) are the classifier's hidden layer.

        Each text runs alone, without padding.
        """
        found = [self._network.run(self._subwords.padded([text])) for text in texts]
        none = self._network.run_padded([])
        scores, features = (np.concatenate(parts) for parts in zip(none, *found, strict=True))
        return ModelOutput(self._calibration.probabilities(scores), features)

    def save(self, folder: Path) -> None:
        """Write network.onnx, tokenizer.json, camembert.json and calibration.npz."""
        self._network.save(folder / "network.onnx")
        (folder / "tokenizer.json").write_text(self._subwords.document, encoding="utf-8")
        document = {"max_tokens": self._subwords.max_tokens}
        (folder / "camembert.json").write_text(json.dumps(document), encoding="utf-8")
        self._calibration.save(folder / "calibration.npz")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load what `save` wrote."""
        document = json.loads((folder / "camembert.json").read_text(encoding="utf-8"))
        tokenizer = (folder / "tokenizer.json").read_text(encoding="utf-8")
        return cls(
            ScoringNetwork(folder / "network.onnx"),
            Subwords(tokenizer, int(document["max_tokens"])),
            Calibration.load(folder / "calibration.npz"),
        )


@dataclass(frozen=True, slots=True)
class _Trained:
    """The result of the torch process: a network, and its outputs for the held-out and the `checked` rows."""

    network: bytes
    subwords: Subwords
    held_out_scores: FloatArray
    checked: IntArray
    expected: Scored
    epochs: list[EpochMetrics]
    facts: dict[str, Any]


def _train(inputs: Mapping[str, Any], fitting: Fitting) -> _Trained:
    """Run the training in the torch environment, unless an earlier attempt finished."""
    from rayonnage_shared.ml.networks.settings import CamembertSettings

    with _work_folder(json.dumps(inputs, ensure_ascii=False).encode(), fitting.checkpoints) as folder:
        if not (folder / "outcome.json").exists():
            python = CamembertSettings().camembert_python
            run_in_torch(python, TRAINING, folder, part(fitting.progress, 0, _TRAINING_SHARE))
        outcome = json.loads((folder / "outcome.json").read_text(encoding="utf-8"))
        tokenizer = (folder / "tokenizer.json").read_text(encoding="utf-8")
        with np.load(folder / "scores.npz", allow_pickle=False) as arrays:
            return _Trained(
                (folder / "network.onnx").read_bytes(),
                Subwords(tokenizer, inputs["parameters"]["max_tokens"]),
                arrays["held_out"],
                arrays["checked"],
                Scored(arrays["scores"], arrays["features"]),
                [EpochMetrics(**epoch) for epoch in outcome["epochs"]],
                outcome["facts"],
            )


def _weights(name: str, pretrained: Path | None) -> dict[str, str | None]:
    """Return the location of weights: an existing folder takes precedence over the hub."""
    if name == _FROM_SCRATCH:
        return {"source": "none", "name": name, "folder": None, "hub_cache": None}
    folder = pretrained / name if pretrained else None
    if folder is not None and folder.is_dir():
        return {"source": "folder", "name": name, "folder": str(folder.absolute()), "hub_cache": None}
    cache = str((pretrained / _HUB_CACHE).absolute()) if pretrained else None
    return {"source": "hub", "name": name, "folder": None, "hub_cache": cache}


@contextmanager
def _work_folder(inputs: bytes, checkpoints: Path | None) -> Iterator[Path]:
    """Yield a folder with `inputs.json` and the files of an earlier run with the same inputs."""
    if checkpoints is None:
        with tempfile.TemporaryDirectory(prefix="camembert-") as name:
            (Path(name) / "inputs.json").write_bytes(inputs)
            yield Path(name)
        return
    folder = checkpoints / f"camembert-{hashlib.sha256(inputs).hexdigest()[:16]}"
    for other in checkpoints.glob("camembert-*"):
        if other != folder:
            shutil.rmtree(other)
    folder.mkdir(exist_ok=True)
    (folder / "inputs.json").write_bytes(inputs)
    yield folder
