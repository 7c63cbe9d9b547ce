"""Makes a matrix of tensors, as the input schema says, or reports those that do not fit.

::

    one tensor [n, k], or [k] for one row ── all features numeric ──> its numbers
    a tensor [n] or [n, 1] for each feature, by name ───────────────> encoded column by column
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grpc_server.errors import (
    MAX_VIOLATIONS,
    InvalidInstance,
    Violation,
    Violations,
)
from grpc_server.model.arrays import Mask, Matrix
from grpc_server.model.kinds import Numeric
from grpc_server.model.schema import InputSchema
from grpc_server.oip.columns import ColumnReader
from grpc_server.oip.refusals import (
    add_each,
    check_rows,
    datatypes,
    read_value,
    show_shape,
    unfit,
    wrong_datatype,
)
from grpc_server.oip.tensors import (
    Tensor,
    check_size,
    count_elements,
    read_numbers,
    refuse,
)


@dataclass(frozen=True, slots=True)
class Rows:
    """What a request asks to score.

    Parameters
    ----------
    X : ndarray of float64, shape (n_rows, n_features), C-order
        The rows, encoded; NaN where missing.
    tensor_by_name : mapping of str to Tensor
        The columns by the name of the feature; empty if one tensor came for all.
    """

    X: Matrix
    tensor_by_name: Mapping[str, Tensor]


def is_numeric(schema: InputSchema) -> bool:
    """Return whether one tensor may hold all features."""
    return all(isinstance(feature.kind, Numeric) for feature in schema.features)


def read_rows(
    schema: InputSchema,
    tensors: Sequence[Tensor],
    max_rows: int,
    *,
    ignores_extra: bool = False,
) -> Rows:
    """Check and encode the inputs of a request.

    Parameters
    ----------
    schema : InputSchema
        Schema that each row has to fit.
    tensors : sequence of Tensor
        The inputs.
    max_rows : int
        Most rows, 1 or more.
    ignores_extra : bool
        Whether inputs of other names than the features' are left out rather than refused.

    Returns
    -------
    Rows
        One row or more.

    Raises
    ------
    InvalidInstance
        If names, shapes, types, sizes or values do not fit.
    BatchTooLarge
        If there are more than `max_rows` rows.
    """
    _check_count(schema, tensors, ignores_extra)
    if is_matrix(schema, tensors):
        return Rows(_read_matrix(schema, tensors[0], max_rows), {})
    return Rows(*ColumnReader(schema, max_rows, ignores_extra).read(tensors))


def _check_count(
    schema: InputSchema, tensors: Sequence[Tensor], ignores_extra: bool
) -> None:
    """Refuse far too many inputs, without checking each."""
    n_features = len(schema.features)
    if not tensors or (
        len(tensors) > 2 * n_features + MAX_VIOLATIONS and not ignores_extra
    ):
        raise InvalidInstance(
            [
                Violation(
                    "inputs",
                    f"{len(tensors)} came, {n_features} are needed: {schema.names}",
                )
            ]
        )


def is_matrix(schema: InputSchema, tensors: Sequence[Tensor]) -> bool:
    """Return whether the only tensor holds all features: names decide, and the shape if it must."""
    if len(tensors) != 1 or not is_numeric(schema):
        return False
    tensor, features = tensors[0], schema.features
    if all(tensor.name != feature.name for feature in features):
        return True
    return len(features) > 1 and tensor.shape[1:] == (len(features),)


def _read_matrix(schema: InputSchema, tensor: Tensor, max_rows: int) -> Matrix:
    import numpy as np

    n_features = len(schema.features)
    n_elements = count_elements(tensor)
    shape = (1, *tensor.shape) if len(tensor.shape) == 1 else tensor.shape
    if len(shape) != 2 or shape[1] != n_features:
        raise refuse(
            tensor,
            f"unexpected shape {show_shape(tensor.shape)}, expecting [-1,{n_features}]: "
            f"{schema.names}",
        )
    check_rows(tensor, shape[0], max_rows)
    allowed = datatypes(Numeric(), nullable=True)
    if tensor.datatype not in allowed:
        raise wrong_datatype(tensor, allowed)
    if tensor.missing_rows:
        raise refuse(
            tensor, "takes no missing_rows, as a column does; NaN is missing here"
        )
    check_size(tensor, n_elements)
    numbers, wrong = read_numbers(tensor)
    X = numbers.reshape(shape)
    if wrong.any() or not np.isfinite(X).all():
        _check_matrix(schema, tensor, X, wrong.reshape(shape))
    return X


def _check_matrix(schema: InputSchema, tensor: Tensor, X: Matrix, wrong: Mask) -> None:
    import numpy as np

    features = schema.features
    misfit = [feature.find_wrong(X[:, p]) for p, feature in enumerate(features)]
    wrong = wrong | np.column_stack(misfit)
    violations = Violations()

    def describe(position: int) -> Violation:
        row, column = divmod(position, len(features))
        path, value = f"{tensor.path}[{row},{column}]", read_value(tensor, position)
        return unfit(path, features[column], value)

    add_each(violations, wrong.ravel(), describe)
    violations.check()
