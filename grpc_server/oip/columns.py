"""Encodes one tensor for each feature, as the input schema says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import nan

from grpc_server.errors import Violation, Violations
from grpc_server.model.arrays import Mask, Matrix, Vector
from grpc_server.model.kinds import Boolean, Numeric, quote
from grpc_server.model.schema import Feature, InputSchema
from grpc_server.oip.refusals import (
    absent,
    add_each,
    check_rows,
    datatypes,
    read_value,
    show_shape,
    unfit,
    unknown,
    wrong_datatype,
)
from grpc_server.oip.tensors import (
    BYTES,
    Tensor,
    check_size,
    count_elements,
    read_numbers,
    read_texts,
    refuse,
)

_MAX_ROW_DIGITS = 18


class ColumnReader:
    """Reads the columns of one request; collects the violations of all columns.

    Parameters
    ----------
    schema : InputSchema
        Schema that each row has to fit.
    max_rows : int
        Most rows, 1 or more.
    ignores_extra : bool
        Whether inputs that are no features are left out rather than refused.
    """

    def __init__(self, schema: InputSchema, max_rows: int, ignores_extra: bool) -> None:
        self._schema = schema
        self._max_rows = max_rows
        self._ignores_extra = ignores_extra
        self._violations = Violations()

    def read(self, tensors: Sequence[Tensor]) -> tuple[Matrix, Mapping[str, Tensor]]:
        """Return the matrix, shape (n_rows, n_features), and the inputs by feature.

        Raises
        ------
        InvalidInstance, BatchTooLarge
            See `read_rows` of `rows`.
        """
        import numpy as np

        tensor_by_name = self._match(tensors)
        self._violations.check()
        n_rows = self._count_rows(tensor_by_name)
        X = np.empty((n_rows, len(self._schema.features)))
        for position, feature in enumerate(self._schema.features):
            X[:, position] = self._read_column(feature, tensor_by_name[feature.name])
        self._violations.check()
        return X, tensor_by_name

    def _match(self, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        names = {feature.name for feature in self._schema.features}
        matched: dict[str, Tensor] = {}
        for tensor in tensors:
            if tensor.name not in names:
                if not self._ignores_extra:
                    self._violations.add(unknown, tensor, self._schema)
            elif tensor.name in matched:
                self._violations.add(Violation, tensor.path, "occurs more than once")
            else:
                matched[tensor.name] = tensor
        for feature in self._schema.features:
            if feature.name not in matched:
                self._violations.add(absent, feature)
        return matched

    def _count_rows(self, tensor_by_name: Mapping[str, Tensor]) -> int:
        """Return the number of rows, which all columns share."""
        first, *_ = tensor_by_name.values()
        for tensor in tensor_by_name.values():
            shape = tensor.shape
            if not shape or len(shape) > 2 or shape[1:] not in ((), (1,)):
                self._violations.add(
                    Violation,
                    tensor.path,
                    f"unexpected shape {show_shape(shape)}, expecting [-1,1] or [-1]",
                )
            elif first.shape and shape[0] != first.shape[0]:
                self._violations.add(
                    Violation,
                    tensor.path,
                    f"has {shape[0]} rows; {quote(first.name)} has {first.shape[0]}",
                )
        self._violations.check()
        check_rows(first, first.shape[0], self._max_rows)
        return first.shape[0]

    def _read_column(self, feature: Feature, tensor: Tensor) -> Vector:
        allowed = datatypes(feature.kind, feature.nullable)
        if tensor.datatype not in allowed:
            raise wrong_datatype(tensor, allowed)
        check_size(tensor, count_elements(tensor))
        missing = _read_missing(tensor, tensor.shape[0])
        if missing and not feature.nullable:
            self._violations.add(unfit, f"{tensor.path}[{missing[0]}]", feature, None)
        numbers, wrong, value = _encode(feature, tensor)
        numbers[missing], wrong[missing] = nan, False
        add_each(
            self._violations,
            wrong,
            lambda row: unfit(f"{tensor.path}[{row}]", feature, value(row)),
        )
        return numbers


def _encode(
    feature: Feature, tensor: Tensor
) -> tuple[Vector, Mask, Callable[[int], float | str]]:
    """Return the encoded values, which of them are wrong, and what came for a row."""
    import numpy as np

    if tensor.datatype == BYTES:
        texts = read_texts(tensor)
        encoded, wrong = feature.encode_column(texts)
        return encoded, wrong, texts.__getitem__
    numbers, wrong = read_numbers(tensor)
    if isinstance(feature.kind, Boolean):
        is_boolean = (numbers == 0) | (numbers == 1)
        is_gap = np.isnan(numbers) if feature.nullable else np.False_
        wrong = wrong | ~(is_boolean | is_gap)
        encoded = numbers.copy()
    elif isinstance(feature.kind, Numeric):
        encoded = numbers.copy()
        wrong = wrong | feature.find_wrong(encoded)
    else:
        encoded, misfit = feature.encode_column(numbers.tolist())
        wrong = wrong | misfit
    return encoded, wrong, lambda row: read_value(tensor, row)


def _read_missing(tensor: Tensor, n_rows: int) -> list[int]:
    """Return the numbers of the rows without a value.

    Raises
    ------
    InvalidInstance
        If the parameter is no list of row numbers.
    """
    if not tensor.missing_rows:
        return []
    if len(tensor.missing_rows) > n_rows * (_MAX_ROW_DIGITS + 2):
        # Millions of numbers would cost more memory than the message.
        raise refuse(
            tensor,
            f"its missing_rows has {len(tensor.missing_rows)} characters; the rows are 0 to "
            f"{n_rows - 1}",
        )
    rows = list(_split_numbers(tensor))
    if len(rows) > n_rows or max(rows) >= n_rows:
        raise refuse(
            tensor,
            f"its missing_rows has {len(rows)} numbers up to {max(rows)}; the rows are 0 to "
            f"{n_rows - 1}",
        )
    return rows


def _split_numbers(tensor: Tensor) -> Iterator[int]:
    for word in tensor.missing_rows.split(","):
        digits = word.strip()
        if not (digits.isascii() and digits.isdigit()) or len(digits) > _MAX_ROW_DIGITS:
            raise refuse(
                tensor,
                f"its missing_rows has {quote(word)}; it takes row numbers with commas between, "
                "such as 0,17",
            )
        yield int(digits)
