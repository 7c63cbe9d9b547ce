"""Reads packed rows: from bytes to the columns of a matrix, without a loop over the values."""

from collections.abc import Iterator, Sequence

from grpc_server.doubles import BYTES_PER_DOUBLE, list_packed
from grpc_server.errors import (
    MAX_VIOLATIONS,
    BatchTooLarge,
    InvalidInstance,
    Violation,
    Violations,
)
from grpc_server.model.arrays import Mask, Matrix
from grpc_server.model.kinds import Numeric, list_names, quote
from grpc_server.model.schema import Feature, InputSchema
from prediction.v1 import prediction_service_pb2 as pb

VALUES = "packed_rows.values"
_NAMES = "packed_rows.names"


class PackedReader:
    """The packed rows of one request, whose columns are those of a schema.

    Parameters
    ----------
    schema : InputSchema
        Features of the model.
    request : BatchPredictRequest
        With packed rows.

    Raises
    ------
    InvalidInstance
        If a name is unknown, occurs twice or belongs to texts, or the bytes are no whole rows.
    """

    def __init__(self, schema: InputSchema, request: pb.BatchPredictRequest) -> None:
        self._features = _find_features(schema, request)
        self.names = tuple(feature.name for feature in self._features)
        self._values = request.packed_rows.values
        width = len(self._features) * BYTES_PER_DOUBLE
        if not self._values or len(self._values) % width:
            raise InvalidInstance([_wrong_length(self._features, len(self._values))])
        self.n_rows = len(self._values) // width

    def read(self, violations: Violations) -> Matrix:
        """Return the encoded values.

        Parameters
        ----------
        violations : Violations
            Receives a violation for each value that is not allowed.

        Returns
        -------
        ndarray of float64, shape (n_rows, n_columns), C-order, aligned
            Columns in the order of `names`. Not writable if it is a view of the bytes.
        """
        import numpy as np

        sent = np.frombuffer(self._values, "<f8").reshape(self.n_rows, -1)
        # A view, unless the machine has another order of bytes or the bytes begin at an odd place.
        X: Matrix = np.require(sent, np.float64, ["C_CONTIGUOUS", "ALIGNED"])
        if all(isinstance(feature.kind, Numeric) for feature in self._features):
            if not np.isfinite(X).all():
                self._describe(find_unfit(self._features, X), X, violations)
            return X
        columns = [f.encode_numbers(X[:, p]) for p, f in enumerate(self._features)]
        self._describe(np.column_stack([wrong for _, wrong in columns]), X, violations)
        return np.column_stack([numbers for numbers, _ in columns])

    def _describe(self, wrong: Mask, X: Matrix, violations: Violations) -> None:
        """Add a violation per wrong value; those beyond the limit are counted, not described."""
        n_columns = len(self._features)
        positions = wrong.ravel().nonzero()[0]
        listed = positions[:MAX_VIOLATIONS].tolist()
        for position in listed:
            feature = self._features[position % n_columns]
            row, value = position // n_columns, float(X.flat[position])
            violations.add(_unfit, position, row, feature, value)
        violations.count(len(positions) - len(listed))


def find_unfit(features: Sequence[Feature], X: Matrix) -> Mask:
    """Find the values that numeric features do not allow, in all columns at once.

    Parameters
    ----------
    features : sequence of Feature, n_columns
        Numeric features.
    X : ndarray of float64, shape (n_rows, n_columns)
        Their values.

    Returns
    -------
    ndarray of bool, shape (n_rows, n_columns)
        True where a value is infinite, or missing and its feature is not nullable.
    """
    import numpy as np

    is_required = np.array([not feature.nullable for feature in features])
    wrong: Mask = np.isinf(X) | np.isnan(X) & is_required
    return wrong


def find_place(request: pb.BatchPredictRequest, n_rows: int, row: int) -> str:
    """Return the path of a row's first packed value, as errors name it."""
    n_columns = len(request.packed_rows.values) // BYTES_PER_DOUBLE // n_rows
    return f"{VALUES}[{row * n_columns}]"


def _find_features(
    schema: InputSchema, request: pb.BatchPredictRequest
) -> Sequence[Feature]:
    """Return the features of the packed columns, in the order of the values."""
    names = list_packed(request, schema.names_in_order)
    if schema.is_numeric and names == schema.names_in_order:
        return schema.features
    _check_count(names, schema)
    features = {feature.name: feature for feature in schema.features}
    violations = list(_misfits(names, features, schema))
    if violations:
        raise InvalidInstance(violations)
    return [features[name] for name in names]


def _check_count(names: Sequence[str], schema: InputSchema) -> None:
    if not names:
        raise InvalidInstance(
            [Violation("packed_rows", "has no column: `columns` holds all features")]
        )
    if len(names) > len(schema.features) + MAX_VIOLATIONS:
        raise InvalidInstance(
            [
                Violation(
                    _NAMES,
                    f"{len(names)} came; the model has {len(schema.features)}: {schema.names}",
                )
            ]
        )


def _misfits(
    names: Sequence[str], features: dict[str, Feature], schema: InputSchema
) -> Iterator[Violation]:
    seen: set[str] = set()
    for position, name in enumerate(names):
        feature = features.get(name)
        path = f"{_NAMES}[{position}]"
        if feature is None:
            yield Violation(
                path,
                f"{quote(name)} is not a feature of the model, which has: {schema.names}",
            )
        elif name in seen:
            yield Violation(path, f"{quote(name)} occurs more than once")
        elif feature.has_texts:
            yield Violation(
                path,
                f"{quote(name)} has texts, which cannot be packed; send it in columns",
            )
        seen.add(name)


def _wrong_length(features: Sequence[Feature], n_bytes: int) -> Violation:
    names = list_names(feature.name for feature in features)
    return Violation(
        VALUES,
        f"{n_bytes} bytes came; one or more rows of {len(features)} doubles of "
        f"{BYTES_PER_DOUBLE} bytes are needed: {names}",
    )


def _unfit(position: int, row: int, feature: Feature, value: float) -> Violation:
    return Violation(
        f"{VALUES}[{position}]",
        f"{value} is not allowed in row {row} for {quote(feature.name)}, which takes "
        f"{feature.allowed_number}",
    )


def check_rows(n_rows: int, max_rows: int) -> None:
    """Refuse a batch of too many rows.

    Raises
    ------
    BatchTooLarge
        If there are more than `max_rows` rows.
    """
    if n_rows > max_rows:
        raise BatchTooLarge(f"{n_rows} rows", max_rows, n_rows=n_rows)
