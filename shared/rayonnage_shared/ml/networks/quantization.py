"""Quantize networks to int8, and use the result only where held-out rows show that it is as good as fp32.

Activations are unsigned 8-bit integers, weights signed 7-bit integers (-64 to 64) with a scale for each channel.
x86 processors without VNNI multiply with `vpmaddubsw`, which saturates the sum of two u8·s8 products at 16 bits. With
7-bit weights this sum is at most 2 · 255 · 64 = 32,640, so every processor gives the same answer. With 8-bit weights it
reaches 64,770: log-probabilities of a small LSTM were off by 0.33 on Haswell and by 0.01 with VNNI.

For EfficientNet-Lite0 on 1,000 real photos (fp32: weighted F1 0.547, macro 0.412), 8-bit weights with VNNI gave 0.552
and 0.418, 7-bit weights 0.543 and 0.395. Unsigned 8-bit weights never saturate, but are ten times slower.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from rayonnage_shared.ml.base.model import FloatArray, IntArray
from rayonnage_shared.ml.calibration.curve import Calibration
from rayonnage_shared.ml.metrics.classification import evaluate
from rayonnage_shared.ml.networks.held_out_split import Split
from rayonnage_shared.ml.networks.scoring_network import ROW_BY_ROW

PRECISIONS = ("fp32", "int8")

MAX_F1_LOSS = 0.005
"""Half a point of weighted or macro F1: the difference between two seeds, and far below that between families."""
MAX_ECE_RISE = 0.01
"""A third of the allowed calibration error (0.03), on which the promised precision of `decision` depends."""

CALIBRATION_INPUTS = 128
"""Real inputs for the activation ranges; ONNX Runtime's examples use about 100."""

_CONVOLUTION_NODES = ("Conv", "Add", "Relu", "Clip", "MaxPool")  # the rest is cheap, and the head is sensitive
_RECURRENT_NODES = ("LSTM", "Gather", "MatMul")


@dataclass(frozen=True, slots=True)
class PrecisionMetrics:
    """Held-out metrics of one precision, and the size of its network."""

    f1_macro: float
    f1_weighted: float
    ece: float
    megabytes: float


@dataclass(frozen=True)
class Variant:
    """A network in one precision, its calibration, and held-out probabilities (n, n_classes), NaN without."""

    network: bytes
    calibration: Calibration
    held_out: FloatArray


V = TypeVar("V", bound=Variant)


@dataclass(frozen=True)
class Chosen(Generic[V]):
    """The chosen variant, and the facts for the manifest."""

    variant: V
    facts: Mapping[str, Any]


def choose(asked: str, fp32: V, classes: IntArray, make_int8: Callable[[], V]) -> Chosen[V]:
    """Return the int8 variant if requested and within the allowed losses, else the fp32 one."""
    known = np.isfinite(fp32.held_out).all(axis=1)
    if asked == "fp32":
        return Chosen(fp32, {"asked": asked, "used": "fp32"})
    if not known.any():
        reason = "there are no held-out rows to compare on"
        return Chosen(fp32, {"asked": asked, "used": "fp32", "reason": reason})
    int8 = make_int8()
    before, after = (_metrics(one, classes, known) for one in (fp32, int8))
    reason = _objection(before, after)
    facts = {
        "asked": asked,
        "used": "fp32" if reason else "int8",
        "fp32": asdict(before),
        "int8": asdict(after),
        "reason": reason or "int8 is as good as fp32 on the held-out rows",
        "rows": int(known.sum()),
    }
    return Chosen(fp32 if reason else int8, facts)


def choose_network(
    asked: str,
    network: bytes,
    scores: FloatArray,
    split: Split,
    *,
    quantize: Callable[[bytes], bytes],
    score: Callable[[bytes], FloatArray],
) -> Chosen[Variant]:
    """Return the choice for a network with one held-out fold, whose fp32 `scores` are known.

    `score` returns a network's log-probabilities for the held-out rows; int8 has its own calibration curve.
    """

    def variant(made: bytes, scores: FloatArray) -> Variant:
        calibration = split.calibration(scores)
        return Variant(made, calibration, split.held_out_table(scores, calibration))

    def make_int8() -> Variant:
        made = quantize(network)
        return variant(made, score(made))

    return choose(asked, variant(network, scores), split.labels.classes, make_int8)


def quantize_convolutions(network: bytes, input_name: str, inputs: Sequence[NDArray[Any]]) -> bytes:
    """Return a convolutional network whose convolutions are int8, with fixed activation ranges from `inputs` (1, …)."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._rest = iter(inputs)

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            following = next(self._rest, None)
            return None if following is None else {input_name: following}

    with _files(network) as (source, target):
        prepared = source.with_name("prepared.onnx")
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            target,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_CONVOLUTION_NODES),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=True,
        )
        return target.read_bytes()


def quantize_recurrences(network: bytes) -> bytes:
    """Return a recurrent network with int8 weights; activation ranges are computed for each input.

    They would depend on the whole batch, so the network is marked to run row by row.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _files(network) as (source, target):
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=list(_RECURRENT_NODES),
            per_channel=True,
            weight_type=QuantType.QInt8,
            reduce_range=True,
        )
        model = onnx.load(target)
    onnx.helper.set_model_props(model, {ROW_BY_ROW: "true"})
    return bytes(model.SerializeToString(deterministic=True))


def spread(rows: IntArray, count: int = CALIBRATION_INPUTS) -> IntArray:
    """Return up to `count` of `rows`, evenly spread."""
    return rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(np.int64)]


def _metrics(variant: Variant, classes: IntArray, known: Any) -> PrecisionMetrics:
    table = variant.held_out[known]
    found = evaluate(table, classes[known], tuple(range(table.shape[1])))
    return PrecisionMetrics(found.f1_macro, found.f1_weighted, found.ece, len(variant.network) / 1e6)


def _objection(fp32: PrecisionMetrics, int8: PrecisionMetrics) -> str:
    for name in ("f1_macro", "f1_weighted"):
        loss = getattr(fp32, name) - getattr(int8, name)
        if loss > MAX_F1_LOSS:
            return f"int8 loses {loss:.4f} of {name}; {MAX_F1_LOSS:g} is allowed"
    if int8.ece - fp32.ece > MAX_ECE_RISE:
        return f"int8 raises the calibration error by {int8.ece - fp32.ece:.4f}; {MAX_ECE_RISE:g} is allowed"
    return ""


@contextmanager
def _files(network: bytes) -> Iterator[tuple[Path, Path]]:
    """Yield the network as a file and a path for the result; silence the library's log."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with tempfile.TemporaryDirectory(prefix="quantize-") as folder:
            source = Path(folder, "fp32.onnx")
            source.write_bytes(network)
            yield source, Path(folder, "int8.onnx")
    finally:
        root.setLevel(level)
