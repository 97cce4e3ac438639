"""Writes the few messages of the ONNX format that a trunk needs: nodes, constants, one input and one output.

The format is a protocol buffer (onnx/onnx.proto in the ONNX project; the numbers below are its field numbers). Written
here, an export for ONNX Runtime needs ONNX Runtime alone, which Debian, PyPI and every board have, and neither the
package `onnx` nor a version of protobuf that fits it. The tests read the files with the package.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

Attribute = int | float | Sequence[int]

TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7}  # of TensorProto.DataType
_FLOAT, _INT, _INTS = 1, 2, 7  # of AttributeProto.AttributeType


def node(kind: str, inputs: Sequence[str], output: str, attributes: dict[str, Attribute]) -> bytes:
    """A NodeProto; its name is that of its output."""
    return b"".join(
        [
            *(_bytes(1, name.encode()) for name in inputs),
            _bytes(2, output.encode()),
            _bytes(3, output.encode()),
            _bytes(4, kind.encode()),
            *(_bytes(5, _attribute(name, value)) for name, value in attributes.items()),
        ]
    )


def constant(name: str, value: npt.NDArray[Any]) -> bytes:
    """A TensorProto."""
    dims = b"".join(_number(1, size) for size in value.shape)
    data = value.astype(value.dtype.newbyteorder("<")).tobytes()
    return dims + _number(2, TYPES[value.dtype.name]) + _bytes(8, name.encode()) + _bytes(9, data)


def value_info(name: str, dtype: str, shape: Sequence[int | str]) -> bytes:
    """A ValueInfoProto: the name, type and shape of an input or output; a size that is a name may be any."""
    dims = (_number(1, size) if isinstance(size, int) else _bytes(2, size.encode()) for size in shape)
    tensor = _number(1, TYPES[dtype]) + _bytes(2, b"".join(_bytes(1, dim) for dim in dims))
    return _bytes(1, name.encode()) + _bytes(2, _bytes(1, tensor))


def model(
    name: str,
    nodes: Sequence[bytes],
    constants: Sequence[bytes],
    taken: bytes,
    given: bytes,
    *,
    opset: int,
    ir_version: int,
) -> bytes:
    """A ModelProto, which is a file's content. `taken` and `given` are the `value_info` of its input and output."""
    graph = b"".join(
        [
            *(_bytes(1, one) for one in nodes),
            _bytes(2, name.encode()),
            *(_bytes(5, one) for one in constants),
            _bytes(11, taken),
            _bytes(12, given),
        ]
    )
    opsets = _bytes(1, b"") + _number(2, opset)  # the domain "" is ONNX's own
    return _number(1, ir_version) + _bytes(2, b"edge-classifier") + _bytes(7, graph) + _bytes(8, opsets)


def _attribute(name: str, value: Attribute) -> bytes:
    named = _bytes(1, name.encode())
    if isinstance(value, int):
        return named + _number(3, value) + _number(20, _INT)
    if isinstance(value, float):
        return named + _varint(2 << 3 | 5) + struct.pack("<f", value) + _number(20, _FLOAT)
    return named + b"".join(_number(8, one) for one in value) + _number(20, _INTS)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """A number that is not negative, seven bits in a byte, the lowest first."""
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])
