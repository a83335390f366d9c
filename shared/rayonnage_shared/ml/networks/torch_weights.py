"""Read weights in torch's legacy format (before 1.6) without torch and without running code.

Such a file is a sequence of five pickles (magic number, protocol, machine facts, state dictionary, storage keys),
followed by one raw block per key: the element count as an int64, then the elements, little-endian.
"""

from __future__ import annotations

import collections
import pickle
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_STORAGES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class WeightsNotReadable(ValueError):
    """The file is not a legacy torch file of plain float and long tensors."""


class _TensorReference(NamedTuple):
    storage: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Unpickler(pickle.Unpickler):
    """Unpickles dictionaries of tensor references and refuses every other class or function."""

    def __init__(self, file: BytesIO) -> None:
        super().__init__(file)
        self.dtypes: dict[str, np.dtype[Any]] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _reference
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise WeightsNotReadable(f"{module}.{name} is not allowed in a file of weights")

    def persistent_load(self, pid: Any) -> str:
        kind, dtype, key, _device, _count, view = pid
        if kind != "storage" or view is not None:
            raise WeightsNotReadable("only plain storages are supported")
        self.dtypes[key] = dtype
        return str(key)


def _reference(
    storage: str, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
) -> _TensorReference:
    return _TensorReference(storage, offset, shape, strides)


def read_torch_weights(content: bytes) -> dict[str, NDArray[Any]]:
    """Return the tensors of a legacy torch file by name, each as a contiguous array; raises `WeightsNotReadable`."""
    file = BytesIO(content)
    if _unpickle(file) != _MAGIC_NUMBER or _unpickle(file) != _PROTOCOL:
        raise WeightsNotReadable("it is not in torch's legacy format")
    _unpickle(file)
    unpickler = _Unpickler(file)
    references: dict[str, _TensorReference] = unpickler.load()
    keys: list[str] = _unpickle(file)
    storages = {key: _read_storage(file, unpickler.dtypes[key]) for key in keys}
    return {name: _view(storages[reference.storage], reference) for name, reference in references.items()}


def _unpickle(file: BytesIO) -> Any:
    return _Unpickler(file).load()


def _read_storage(file: BytesIO, dtype: np.dtype[Any]) -> NDArray[Any]:
    count = int.from_bytes(file.read(8), "little")
    content = file.read(count * dtype.itemsize)
    if len(content) != count * dtype.itemsize:
        raise WeightsNotReadable("the file ends inside a tensor")
    return np.frombuffer(content, dtype)


def _view(storage: NDArray[Any], reference: _TensorReference) -> NDArray[Any]:
    # torch keeps strides in elements, and these weights came from TensorFlow with another order of axes.
    last = reference.offset + sum((n - 1) * s for n, s in zip(reference.shape, reference.strides, strict=True))
    if min(reference.strides, default=0) < 0 or reference.offset < 0 or last >= storage.size:
        raise WeightsNotReadable("a tensor reaches outside its storage")
    strides = [stride * storage.itemsize for stride in reference.strides]
    return np.ascontiguousarray(
        np.lib.stride_tricks.as_strided(storage[reference.offset :], reference.shape, strides, writeable=False)
    ).reshape(reference.shape)
