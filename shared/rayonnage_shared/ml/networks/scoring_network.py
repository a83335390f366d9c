"""Run an exported network in ONNX Runtime: one input, log-probabilities and features out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from rayonnage_shared.ml.base.model import FloatArray
from rayonnage_shared.ml.base.progress import Progress, silent
from rayonnage_shared.ml.features.photo_features import usable_cores
from rayonnage_shared.ml.networks.word_tokens import padded

SCORES, FEATURES = "scores", "features"
"""Names of a network's outputs, in this order."""

ROW_BY_ROW = "row_by_row"
"""Metadata key of a network whose output for a row depends on the other rows of a batch."""

_STEP = 64
"""Rows between two progress reports, at which a cancelled job stops."""

T = TypeVar("T")


class Scored(NamedTuple):
    """A network's output for n rows: log-probabilities (n, n_classes) and features (n, width), both float32."""

    scores: FloatArray
    features: FloatArray


class ScoringNetwork:
    """A network with one input and outputs `scores` and `features`; threads may share it.

    One call uses one thread: two concurrent calls have a higher throughput than two threads on one row.
    """

    def __init__(self, network: bytes | Path) -> None:
        """Open an exported network, in memory or in a file; a file's content is not kept in memory."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only; converted graphs have initializers that cause warnings
        self._network = network
        opened = network if isinstance(network, bytes) else str(network)
        self._session = onnxruntime.InferenceSession(opened, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self.input_shape = tuple(self._session.get_inputs()[0].shape)
        self._widths = [int(output.shape[1]) for output in self._session.get_outputs()]
        self._row_by_row = ROW_BY_ROW in self._session.get_modelmeta().custom_metadata_map

    def save(self, path: Path) -> None:
        """Write the network to `path`."""
        path.write_bytes(self._network if isinstance(self._network, bytes) else self._network.read_bytes())

    def run(self, inputs: NDArray[Any]) -> Scored:
        """Return the output for `inputs`, whose first axis is the rows."""
        scores, features = self._session.run([SCORES, FEATURES], {self._input: inputs})
        return Scored(np.asarray(scores, dtype=np.float32), np.asarray(features, dtype=np.float32))

    def run_padded(self, rows: Sequence[Sequence[int]]) -> Scored:
        """Return the output for token rows of any lengths, or for none; each row runs alone."""
        step = 1 if self._row_by_row else _STEP
        found = [self.run(padded(rows[start : start + step])) for start in range(0, len(rows), step)]
        none = Scored(*(np.empty((0, width), dtype=np.float32) for width in self._widths))
        return Scored(*(np.concatenate(parts) for parts in zip(none, *found, strict=True)))

    def run_each(self, items: Sequence[T], read: Callable[[T], NDArray[Any]], progress: Progress = silent) -> Scored:
        """Return the output for each of one or more `items`, read as one row each, on all cores.

        One by one: on a CPU batches are not faster per row, and memory stays small.
        """
        found: list[Scored] = []
        with ThreadPoolExecutor(usable_cores(), thread_name_prefix="network") as pool:
            for start in range(0, len(items), _STEP):
                some = items[start : start + _STEP]
                found += pool.map(lambda item: self.run(read(item)[None]), some)
                progress((start + len(some)) / len(items), f"{start + len(some)} of {len(items)} scored")
        return Scored(*(np.concatenate(parts) for parts in zip(*found, strict=True)))
