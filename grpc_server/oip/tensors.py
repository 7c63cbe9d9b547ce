"""Reads the data of tensors, and knows neither gRPC nor models.

A tensor comes raw, as bytes, or typed, as a sequence of values. Each function here gives the same
result for both.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from grpc_server.errors import InvalidInstance, Violation
from grpc_server.model.arrays import Mask, Vector
from grpc_server.model.kinds import MAX_INTEGER, quote, shorten

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BYTES, BOOL = "BYTES", "BOOL"
FLOATS = ("FP64", "FP32", "FP16")
INTEGERS = (
    *("INT64", "INT32", "INT16", "INT8"),
    *("UINT64", "UINT32", "UINT16", "UINT8"),
)
# NumPy's little-endian types.
_DTYPES: Mapping[str, str] = {
    **dict(zip(FLOATS, ("<f8", "<f4", "<f2"), strict=True)),
    **dict(
        zip(
            INTEGERS,
            ("<i8", "<i4", "<i2", "i1", "<u8", "<u4", "<u2", "u1"),
            strict=True,
        )
    ),
    BOOL: "u1",
}
_WIDTHS: Mapping[str, int] = {name: int(dtype[-1]) for name, dtype in _DTYPES.items()}
MAX_RANK = 8
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input.

    Parameters
    ----------
    name : str
        Name of the input.
    datatype : str
        Name of the type in the protocol, such as "FP64".
    shape : tuple of int
        Dimensions, as sent.
    raw : bytes or None
        Raw data; None if it is typed.
    values : sequence
        Typed data: numbers, booleans or bytes; empty if it is raw.
    missing_rows : str
        Numbers of the rows without a value, with commas between; empty if none is missing.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: bytes | None = None
    values: Sequence[Any] = ()
    missing_rows: str = ""

    @property
    def path(self) -> str:
        """Path of the input in an error."""
        return f"inputs[{quote(self.name)}]"


def refuse(tensor: Tensor, description: str) -> InvalidInstance:
    """Return the error of one tensor."""
    return InvalidInstance([Violation(tensor.path, description)])


def count_elements(tensor: Tensor) -> int:
    """Return the number of elements that the shape says.

    Parameters
    ----------
    tensor : Tensor
        The tensor.

    Returns
    -------
    int
        Product of the dimensions, 0 or more; Python's integers do not overflow.

    Raises
    ------
    InvalidInstance
        If there are more than `MAX_RANK` dimensions, or one is negative.
    """
    shape = tensor.shape
    if len(shape) > MAX_RANK or min(shape, default=0) < 0:
        shown = ", ".join(map(str, shape[:MAX_RANK]))
        more = ", …" if len(shape) > MAX_RANK else ""
        raise refuse(
            tensor,
            f"the shape [{shown}{more}] is not allowed; 1 to {MAX_RANK} dimensions of 0 or more "
            "are",
        )
    return prod(shape)


def check_size(tensor: Tensor, n_elements: int) -> None:
    """Refuse a tensor whose data are not as many as its shape says.

    Raises
    ------
    InvalidInstance
        If the datatype is unknown, or the data are too short or too long.
    """
    datatype, raw = tensor.datatype, tensor.raw
    if datatype != BYTES and datatype not in _DTYPES:
        known = ", ".join((*_DTYPES, BYTES))
        raise refuse(
            tensor, f"the datatype {quote(datatype)} is not known; known are {known}"
        )
    if raw is None:
        if len(tensor.values) != n_elements:
            raise refuse(
                tensor,
                f"expected {n_elements} elements of contents, as its shape says; got "
                f"{len(tensor.values)}",
            )
    elif datatype != BYTES and len(raw) != n_elements * _WIDTHS[datatype]:
        raise refuse(
            tensor,
            f"unexpected total byte size {len(raw)}, expecting {n_elements * _WIDTHS[datatype]}: "
            f"{n_elements} elements of {datatype}",
        )


def read_numbers(tensor: Tensor) -> tuple[Vector, Mask]:
    """Read numbers as doubles.

    Parameters
    ----------
    tensor : Tensor
        Tensor of a type of `FLOATS` or `INTEGERS` or of BOOL, whose size is checked.

    Returns
    -------
    numbers : ndarray of float64, shape (n_elements,)
        The numbers; it may be read-only.
    wrong : ndarray of bool, shape (n_elements,)
        True where a double cannot hold the integer, or a raw boolean is neither 0 nor 1.
    """
    import numpy as np

    values = as_array(tensor)
    wrong = np.zeros(len(values), np.bool_)
    if tensor.datatype in ("INT64", "UINT64"):
        wrong = values > MAX_INTEGER
        if tensor.datatype == "INT64":
            wrong |= values < -MAX_INTEGER
    elif tensor.datatype == BOOL:
        wrong = values > 1
    with np.errstate(invalid="ignore"):  # a signalling NaN of FP32 is a NaN
        return values.astype(np.float64, copy=False), wrong


def as_array(tensor: Tensor) -> NDArray[Any]:
    """Return numbers or booleans as an array of the datatype, little-endian.

    Parameters
    ----------
    tensor : Tensor
        Tensor of any type but BYTES, whose size is checked.

    Returns
    -------
    ndarray, shape (n_elements,)
        The values, booleans as bytes; it may be read-only.

    Raises
    ------
    InvalidInstance
        If typed values are not all of the datatype.
    """
    import numpy as np

    dtype = np.dtype(_DTYPES[tensor.datatype])
    if tensor.raw is not None:
        return np.frombuffer(tensor.raw, dtype)
    values = np.array(tensor.values)
    if values.size and values.dtype.kind not in _find_kinds(tensor.datatype):
        if tensor.datatype not in INTEGERS or set(map(type, tensor.values)) != {int}:
            raise refuse(tensor, f"its contents are not all {tensor.datatype}")
        # NumPy has no common type of small integers and those of 64 bits or more.
        values = np.array(tensor.values, np.object_)
    if tensor.datatype in INTEGERS and values.size:
        _check_range(tensor, values, np.iinfo(dtype))
    with np.errstate(over="ignore"):  # infinity, which is refused as such
        return values.astype(dtype)


def _find_kinds(datatype: str) -> str:
    """Return NumPy's letters of what typed values may be: lists of JSON hold any mixture."""
    if datatype == BOOL:
        return "b"
    return "iu" if datatype in INTEGERS else "iuf"


def _check_range(tensor: Tensor, values: NDArray[Any], limits: np.iinfo[Any]) -> None:
    """Refuse typed integers that their type cannot hold: several types share a field."""
    low, high = int(values.min()), int(values.max())
    if low < limits.min or high > limits.max:
        wrong = low if low < limits.min else high
        raise refuse(
            tensor,
            f"{shorten(str(wrong))} is no {tensor.datatype}, which is in [{limits.min}, "
            f"{limits.max}]",
        )


def read_texts(tensor: Tensor) -> list[str]:
    """Read texts.

    Parameters
    ----------
    tensor : Tensor
        Tensor of BYTES, whose size is checked.

    Returns
    -------
    list of str, shape (n_elements,)
        The texts.

    Raises
    ------
    InvalidInstance
        If raw lengths do not add up to the data, or an element is not UTF-8.
    """
    if tensor.raw is None:
        elements: Sequence[bytes] = tensor.values
    else:
        elements = _split(tensor, tensor.raw, prod(tensor.shape))
    texts: dict[bytes, str] = {}  # there are few distinct ones
    result = []
    for row, element in enumerate(elements):
        text = texts.get(element)
        if text is None:
            try:
                text = texts[element] = element.decode()
            except UnicodeDecodeError:
                raise refuse(tensor, f"element {row} is not UTF-8") from None
        result.append(text)
    return result


def write_texts(elements: Sequence[bytes]) -> bytes:
    """Return elements of BYTES as raw data, each after its length."""
    return b"".join([_LENGTH.pack(len(element)) + element for element in elements])


def _split(tensor: Tensor, raw: bytes, n_elements: int) -> list[bytes]:
    """Cut raw data into elements, each after its length."""
    elements: list[bytes] = []
    position, end = 0, len(raw)
    while position + _LENGTH.size <= end and len(elements) < n_elements:
        begin = position + _LENGTH.size
        position = begin + _LENGTH.unpack_from(raw, position)[0]
        if position > end:
            raise refuse(
                tensor,
                f"element {len(elements)} has {position - begin} bytes by its length, but only "
                f"{end - begin} follow",
            )
        elements.append(raw[begin:position])
    if position != end or len(elements) != n_elements:
        raise refuse(
            tensor,
            f"expected {n_elements} elements, each after its length of 4 bytes; got "
            f"{len(elements)}, and {end - position} bytes more",
        )
    return elements
