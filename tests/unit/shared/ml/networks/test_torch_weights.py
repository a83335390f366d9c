from __future__ import annotations

import collections
import pickle
import struct
from io import BytesIO
from typing import Any

import numpy as np
import pytest

from rayonnage_shared.ml.networks.torch_weights import WeightsNotReadable, read_torch_weights


class _Call:
    """Pickles as a call of a function of a module that need not exist here."""

    def __init__(self, module: str, name: str, *arguments: Any) -> None:
        self.module, self.name, self.arguments = module, name, arguments


class _Pickler(pickle._Pickler):
    """Writes what torch writes, without torch: names of its functions and persistent ids of storages."""

    def persistent_id(self, obj: Any) -> Any:
        return obj.arguments if isinstance(obj, _Call) and obj.name == "storage" else None

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if isinstance(obj, _Call) and obj.name != "storage":
            self.write(f"c{obj.module}\n{obj.name}\n".encode())  # type: ignore[attr-defined]
            if obj.arguments:
                self.save(obj.arguments)
                self.write(pickle.REDUCE)  # type: ignore[attr-defined]
        else:
            super().save(obj, save_persistent_id)  # type: ignore[misc]


def pickled(obj: Any) -> bytes:
    file = BytesIO()
    _Pickler(file, 2).dump(obj)
    return file.getvalue()


def tensor(key: str, values: np.ndarray, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> _Call:
    kind = _Call("torch", "FloatStorage" if values.dtype == np.float32 else "LongStorage")
    storage = _Call("", "storage", "storage", kind, key, "cpu", values.size, None)
    return _Call(
        "torch._utils", "_rebuild_tensor_v2", storage, offset, shape, strides, False, collections.OrderedDict()
    )


def legacy_file(state: dict[str, Any], storages: dict[str, np.ndarray], magic: int = 0x1950A86A20F9469CFC6C) -> bytes:
    head = [magic, 1001, {"little_endian": True}, state, sorted(storages)]
    blocks = [struct.pack("<q", storages[key].size) + storages[key].tobytes() for key in sorted(storages)]
    return b"".join(pickled(one) for one in head) + b"".join(blocks)


VALUES = np.arange(6, dtype=np.float32)


def test_tensors_are_read_by_name() -> None:
    count = np.array([7], dtype=np.int64)
    content = legacy_file(
        {"weight": tensor("a", VALUES, (2, 3), (3, 1)), "count": tensor("b", count, (), ())}, {"a": VALUES, "b": count}
    )

    weights = read_torch_weights(content)

    np.testing.assert_array_equal(weights["weight"], [[0, 1, 2], [3, 4, 5]])
    assert weights["count"].shape == ()
    assert weights["count"] == 7


def test_strides_and_offsets_are_followed() -> None:
    content = legacy_file({"weight": tensor("a", VALUES, (2, 2), (1, 2), 1)}, {"a": VALUES})

    weight = read_torch_weights(content)["weight"]

    np.testing.assert_array_equal(weight, [[1, 3], [2, 4]])
    assert weight.flags.c_contiguous


@pytest.mark.parametrize(
    ("shape", "strides", "offset"), [((7,), (1,), 0), ((2, 3), (4, 1), 0), ((3,), (1,), 4), ((3,), (-1,), 2)]
)
def test_a_tensor_outside_its_storage_is_refused(shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> None:
    content = legacy_file({"weight": tensor("a", VALUES, shape, strides, offset)}, {"a": VALUES})

    with pytest.raises(WeightsNotReadable):
        read_torch_weights(content)


@pytest.mark.parametrize(("module", "name"), [("os", "system"), ("builtins", "eval"), ("torch", "load")])
def test_nothing_but_tensors_is_built(module: str, name: str) -> None:
    content = legacy_file({"weight": _Call(module, name, "exit 1")}, {})

    with pytest.raises(WeightsNotReadable, match="is not allowed"):
        read_torch_weights(content)


def test_a_file_that_ends_too_early_is_refused() -> None:
    content = legacy_file({"weight": tensor("a", VALUES, (6,), (1,))}, {"a": VALUES})

    with pytest.raises(WeightsNotReadable):
        read_torch_weights(content[:-1])


def test_another_format_is_refused() -> None:
    with pytest.raises(WeightsNotReadable):
        read_torch_weights(legacy_file({}, {}, magic=1))
