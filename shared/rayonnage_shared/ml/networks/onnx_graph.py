"""ONNX graphs that are written node by node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx


class OnnxGraph:
    """An ONNX graph under construction; each method returns the name of what it added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add a node."""
        from onnx import helper

        name = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, name: str, values: Any) -> str:
        """Add an array or a scalar."""
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values).reshape(np.shape(values)), name))
        return name

    def serialize(
        self,
        name: str,
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[onnx.ValueInfoProto],
        *,
        opset: int,
        ir_version: int,
    ) -> bytes:
        """Return the checked model; the same graph gives the same bytes."""
        from onnx import checker, helper

        model = helper.make_model(
            helper.make_graph(self.nodes, name, list(inputs), list(outputs), self.constants),
            opset_imports=[helper.make_opsetid("", opset)],
            ir_version=ir_version,
            producer_name="rayonnage",
        )
        checker.check_model(model)
        return bytes(model.SerializeToString(deterministic=True))
