"""A fine-tuned CamemBERT as an ONNX file for serving. Runs in torch's environment."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SCORES, FEATURES = "scores", "features"
"""Names of the outputs, as in `scoring_network`, which the torch environment cannot import."""


def scores_and_features(model: Any, input_ids: Any) -> tuple[Any, Any]:
    """Return log-probabilities (n, n_classes) and the last layer's inputs (n, width), without dropout.

    Padding is recognised by its token id. These are the layers of transformers' CamembertClassificationHead, which
    returns only the last one's output.
    """
    import torch

    hidden = model.roberta(input_ids, attention_mask=(input_ids != model.config.pad_token_id).long())[0]
    features = torch.tanh(model.classifier.dense(hidden[:, 0, :]))
    return torch.log_softmax(model.classifier.out_proj(features), dim=1), features


def export(model: Any, example: Sequence[int], path: Path) -> None:
    """Write `model` with the input `input_ids` (n, length) int64 and the outputs `scores` and `features`.

    It accepts any number of rows, padded or not, up to the network's maximum length; `example` is a real row.
    """
    import torch

    class Serving(torch.nn.Module):  # type: ignore[misc]  # torch is not there for mypy
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any) -> tuple[Any, Any]:
            return scores_and_features(self.model, input_ids)

    model.cpu().eval()
    # Two rows: the exporter treats a size of 1 as a constant.
    input_ids = torch.tensor([list(example), list(example)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own deprecation warnings do not belong into the job's log
        program = torch.onnx.export(
            Serving().eval(),
            (input_ids,),
            input_names=["input_ids"],
            output_names=[SCORES, FEATURES],
            dynamic_shapes={"input_ids": {0: "rows", 1: "length"}},
            dynamo=True,
            verbose=False,
        )
    path.write_bytes(_bare(program.model_proto))


def _bare(network: Any) -> bytes:
    """Return the network without parts that serving does not read.

    These are metadata, which contain paths of this machine, and inferred shapes, some of them of weights before they
    were transposed, on which quantization fails.
    """
    graph = network.graph
    del graph.value_info[:]
    for part in (network, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        del part.metadata_props[:]
    return bytes(network.SerializeToString(deterministic=True))
