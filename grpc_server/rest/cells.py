"""Values of JSON as raw tensors of the Open Inference Protocol, and back."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from types import NoneType
from typing import Any

from grpc_server.model.kinds import show
from grpc_server.oip.tensors import (
    BOOL,
    BYTES,
    FLOATS,
    Tensor,
    as_array,
    check_size,
    count_elements,
    read_numbers,
    read_texts,
    write_texts,
)
from grpc_server.rest.refusals import Refusal

_WORDS: Mapping[str, str] = {BOOL: "true or false", BYTES: "a text"}
_TYPES: Mapping[str, Collection[type]] = {BOOL: (bool,), BYTES: (str,)}
_NUMBER_TYPES: Collection[type] = (int, float)
# What stands for a gap that `missing_rows` names.
_FILLERS: Mapping[str, Any] = {BOOL: False, BYTES: ""}


@dataclass(frozen=True, slots=True)
class RawTensor:
    """Values as the protocol has them.

    Parameters
    ----------
    datatype : str
        Name of their type.
    data : bytes
        The values.
    gaps : sequence of int
        Positions of the values that are missing and not NaN.
    """

    datatype: str
    data: bytes
    gaps: Sequence[int] = ()


def to_raw(tensor: Tensor, is_matrix: bool) -> RawTensor:
    """Write values of JSON as raw data.

    Parameters
    ----------
    tensor : Tensor
        A tensor whose values are those of a list of JSON.
    is_matrix : bool
        Whether it holds rows: integers with a gap become doubles there, as NaN is the only gap.

    Returns
    -------
    RawTensor
        The values.

    Raises
    ------
    InvalidInstance
        If they are not as many as the shape says, or a number is beyond its datatype.
    Refusal
        If JSON has a value of another type than the datatype.
    """
    check_size(tensor, count_elements(tensor))
    types = set(map(type, tensor.values))
    allowed = _TYPES.get(tensor.datatype, _NUMBER_TYPES)
    if not types <= {*allowed, NoneType}:
        words = _WORDS.get(tensor.datatype, "a number")
        _refuse(tensor, lambda cell: type(cell) in (*allowed, NoneType), words)
    if tensor.datatype in FLOATS:
        return _write_floats(tensor, types)
    gaps = _find_gaps(tensor) if NoneType in types else []
    filler = _FILLERS.get(tensor.datatype, 0)
    full = _replace(tensor, [filler if v is None else v for v in tensor.values])
    if tensor.datatype == BYTES:
        return RawTensor(BYTES, write_texts(list(_encode(full))), gaps)
    if float in types:
        full = _to_whole(full)
    if gaps and is_matrix:
        numbers, is_wrong = read_numbers(full)
        if not is_wrong.any():  # otherwise the service refuses the integer
            numbers[gaps] = nan
            return RawTensor("FP64", numbers.astype("<f8").tobytes())
    return RawTensor(tensor.datatype, as_array(full).tobytes(), gaps)


def to_list(tensor: Tensor) -> list[Any]:
    """Return the values of a raw tensor of the service as JSON has them."""
    if tensor.datatype == BYTES:
        return read_texts(tensor)
    values: list[Any] = as_array(tensor).tolist()
    return values


def _write_floats(tensor: Tensor, types: Collection[type]) -> RawTensor:
    values = tensor.values
    if NoneType in types:
        values = [nan if value is None else value for value in values]
    if int in types:
        try:
            values = list(map(float, values))
        except OverflowError:
            _refuse(tensor, _is_double, "a number of double precision")
            raise
    return RawTensor(tensor.datatype, as_array(_replace(tensor, values)).tobytes())


def _to_whole(tensor: Tensor) -> Tensor:
    """Return a tensor of integers: 3.0 is one."""
    fits = lambda value: type(value) is int or value.is_integer()  # noqa: E731
    _refuse(tensor, fits, "an integer")
    return _replace(tensor, list(map(int, tensor.values)))


def _replace(tensor: Tensor, values: Sequence[Any]) -> Tensor:
    return Tensor(tensor.name, tensor.datatype, tensor.shape, None, values)


def _find_gaps(tensor: Tensor) -> list[int]:
    return [position for position, cell in enumerate(tensor.values) if cell is None]


def _encode(tensor: Tensor) -> Iterator[bytes]:
    texts: dict[str, bytes] = {}  # there are few distinct ones
    for text in tensor.values:
        if text not in texts:
            if not is_unicode(text):
                _refuse(tensor, is_unicode, "a text in Unicode")
            texts[text] = text.encode()
        yield texts[text]


def _is_double(cell: Any) -> bool:
    try:
        float(cell or 0)
    except OverflowError:
        return False
    return True


def is_unicode(text: str) -> bool:
    """Tell whether a text can be sent: JSON can name half of a pair of surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse(tensor: Tensor, fits: Callable[[Any], bool], allowed: str) -> None:
    """Refuse the first value that does not fit, if there is one."""
    for position, cell in enumerate(tensor.values):
        if not fits(cell):
            raise Refusal(
                f"{tensor.path}.data[{position}]: {_show(cell)} is not allowed for "
                f"{tensor.datatype}, which takes {allowed} or null"
            )


def _show(cell: Any) -> str:
    if isinstance(cell, dict | list):
        return "an object" if isinstance(cell, dict) else "a list"
    if type(cell) is int and abs(cell) >= 2**63:
        return "an integer beyond 64 bits"
    return show(cell)
