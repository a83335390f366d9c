"""Fine-tune a CamemBERT, in the torch environment: `python -m …networks.camembert.training FOLDER PARENT`.

That environment has NumPy, tokenizers, torch and transformers (deployments/camembert/requirements.txt), and of this
workspace only `rayonnage_shared`, of which this module imports only what needs no other package.

`families.text.camembert` writes `inputs.json` to the folder, starts this module, and reads its output: `network.onnx`,
`tokenizer.json`, `scores.npz` and, last, `outcome.json`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from rayonnage_shared.core.files import write_atomically
from rayonnage_shared.ml.base.model import IntArray, ProductText
from rayonnage_shared.ml.base.progress import Progress, part
from rayonnage_shared.ml.networks.camembert.export import export
from rayonnage_shared.ml.networks.camembert.learning import Examples, Learner, Recipe
from rayonnage_shared.ml.networks.camembert.torch_process import serve_parent
from rayonnage_shared.ml.networks.camembert.weights import Beginning, Small, begin, find_weights

CHECKED_ROWS = 64
"""Rows on which the exported network is compared with the trained one."""

_WEIGHTS_READ, _LEARNED = 0.02, 0.9  # fractions of the time

T = TypeVar("T")


def work(folder: Path, progress: Progress) -> None:
    """Run the training described by `inputs.json`. Raises BadInput, WeightsUnavailable."""
    inputs = json.loads((folder / "inputs.json").read_text(encoding="utf-8"))
    parameters = inputs["parameters"]
    progress(0.0, "looking for weights")
    beginning = find_weights(
        _beginning(inputs["weights"]), parameters["max_tokens"]
    )  # before torch, which takes 6 s to load

    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)

    texts = [ProductText(*pair) for pair in inputs["texts"]]
    train, held_out = (np.array(inputs[name], dtype=np.int64) for name in ("train", "held_out"))

    torch.manual_seed(inputs["seed"])
    progress(0.0, "reading weights")
    start = begin(
        beginning,
        _known(Small, parameters),
        [texts[row] for row in train],
        n_classes=inputs["n_classes"],
        max_tokens=parameters["max_tokens"],
        work=folder,
    )
    ids = [start.subwords.ids(text) for text in texts]
    classes, weights = np.array(inputs["classes"], dtype=np.int64), np.array(inputs["row_weights"], dtype=np.float32)
    learner = Learner(
        start.model,
        _known(Recipe, parameters),
        Examples(_chosen(ids, train), classes[train], weights[train]),
        Examples(_chosen(ids, held_out), classes[held_out], weights[held_out]),
        seed=inputs["seed"],
        checkpoint=folder / "checkpoint.pt",
        origin=str(start.facts.get("sha256", "")),
    )
    best = learner.learn(part(progress, _WEIGHTS_READ, _LEARNED))

    progress(_LEARNED, "exporting")
    checked = (held_out if len(held_out) else train)[:CHECKED_ROWS]
    scores, features = learner.scores(_chosen(ids, checked))
    held_out_scores, _ = learner.scores(_chosen(ids, held_out))
    np.savez(folder / "scores.npz", held_out=held_out_scores, checked=checked, scores=scores, features=features)
    export(learner.model, ids[checked[0]], folder / "network.onnx")
    (folder / "tokenizer.json").write_text(start.subwords.document, encoding="utf-8")
    outcome = {
        "epochs": [asdict(epoch) for epoch in learner.epochs],
        "facts": {
            "weights": start.facts,
            "weight_count": sum(weight.numel() for weight in learner.model.parameters()),
            "epochs": len(learner.epochs),
            "best_epoch": best,
            "resumed_after_epoch": learner.resumed_after,
            "libraries": {"torch": torch.__version__, "transformers": transformers.__version__},
        },
    }
    write_atomically(folder / "outcome.json", json.dumps(outcome).encode())


def _chosen(ids: Sequence[Sequence[int]], rows: IntArray) -> list[Sequence[int]]:
    return [ids[row] for row in rows]


def _beginning(document: Mapping[str, Any]) -> Beginning:
    paths = {name: Path(document[name]) if document[name] else None for name in ("folder", "hub_cache")}
    return Beginning(**{**document, **paths})


def _known(cls: type[T], values: Mapping[str, Any]) -> T:
    """Return a dataclass from those values that are its fields."""
    return cls(**{field.name: values[field.name] for field in fields(cls)})  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(serve_parent(work))
