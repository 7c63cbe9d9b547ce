"""Converts a batch to a matrix, or reports its invalid fields, even if there are millions."""

from collections.abc import Callable, Sequence
from math import nan

from grpc_server.errors import (
    MAX_VIOLATIONS,
    InvalidInstance,
    Violation,
    Violations,
)
from grpc_server.model.arrays import Mask, Matrix, Vector
from grpc_server.model.kinds import Scalar, quote, show
from grpc_server.model.schema import Feature, InputSchema
from grpc_server.rpc.packed import PackedReader, check_rows, find_unfit
from prediction.v1 import prediction_service_pb2 as pb


def read_batch(
    schema: InputSchema, request: pb.BatchPredictRequest, max_rows: int
) -> Matrix:
    """Check and encode a batch.

    Parameters
    ----------
    schema : InputSchema
        Schema that each row has to fit.
    request : BatchPredictRequest
        Values by position, columns by name, or packed rows.
    max_rows : int
        Most rows of one batch, 1 or more.

    Returns
    -------
    ndarray of float64, shape (n_rows, n_features), C-order
        One row or more, columns in the order of the schema, NaN where missing. Not writable if
        it is a view of the request's bytes.

    Raises
    ------
    InvalidInstance
        If the request is empty, a name, a count or a value does not fit, or values are sent by
        position and a feature is not numeric.
    BatchTooLarge
        If there are more than `max_rows` rows.
    """
    if request.HasField("packed_rows"):
        return _read_packed(schema, request, max_rows)
    if not request.columns:
        return _read_values(schema, request.values, max_rows)
    if request.values:
        raise InvalidInstance(
            [Violation("columns", "cannot be sent with values; send one of the two")]
        )
    return _ColumnReader(schema).read(request.columns, max_rows)


def _read_packed(
    schema: InputSchema, request: pb.BatchPredictRequest, max_rows: int
) -> Matrix:
    if request.values:
        raise InvalidInstance(
            [
                Violation(
                    "packed_rows", "cannot be sent with values; send one of the two"
                )
            ]
        )
    packed = PackedReader(schema, request)
    check_rows(packed.n_rows, max_rows)
    if packed.names != schema.names_in_order or request.columns:
        return _ColumnReader(schema, packed).read(request.columns, max_rows)
    violations = Violations()
    X = packed.read(violations)
    violations.check()
    return X


def _read_values(schema: InputSchema, values: Sequence[float], max_rows: int) -> Matrix:
    import numpy as np

    schema.check_positional("values", "columns")
    n_features = len(schema.features)
    if not values or len(values) % n_features:
        raise InvalidInstance([_wrong_count(schema, len(values))])
    check_rows(len(values) // n_features, max_rows)
    X = np.array(values, np.float64).reshape(-1, n_features)
    if not np.isfinite(X).all():
        _check_values(schema, X)
    return X


def _check_values(schema: InputSchema, X: Matrix) -> None:
    violations = Violations()
    n_features = X.shape[1]
    wrong = find_unfit(schema.features, X)

    def describe(position: int) -> Violation:
        feature = schema.features[position % n_features]
        return _unfit_value(position, n_features, feature, float(X.flat[position]))

    _add_each(violations, wrong.ravel(), describe)
    violations.check()


def _wrong_count(schema: InputSchema, count: int) -> Violation:
    return Violation(
        "values",
        f"{count} values came; one or more rows of {len(schema.features)} values are needed: "
        f"{schema.names}",
    )


def _unfit_value(
    position: int, n_features: int, feature: Feature, value: float
) -> Violation:
    return Violation(
        f"values[{position}]",
        f"{value} is not allowed in row {position // n_features} for {quote(feature.name)}, "
        f"which takes {feature.allowed}",
    )


class _ColumnReader:
    """Reads the columns of one request, beside those that are packed; collects all violations."""

    def __init__(self, schema: InputSchema, packed: PackedReader | None = None) -> None:
        self._schema = schema
        self._packed = packed
        self._packed_names = frozenset(() if packed is None else packed.names)
        self._violations = Violations()

    def read(self, columns: Sequence[pb.Column], max_rows: int) -> Matrix:
        """Return the matrix, shape (n_rows, n_features); see `read_batch`."""
        import numpy as np

        column_by_name = self._match(columns)
        n_rows = self._count_rows(column_by_name)
        check_rows(n_rows, max_rows)
        X = np.empty((n_rows, len(self._schema.features)))
        if self._packed is not None:
            place = {name: p for p, name in enumerate(self._schema.names_in_order)}
            places = [place[name] for name in self._packed.names]
            X[:, places] = self._packed.read(self._violations)
        for position, feature in enumerate(self._schema.features):
            if feature.name in column_by_name:
                column = column_by_name[feature.name]
                X[:, position] = self._read_column(feature, column)
        self._violations.check()
        return X

    def _match(self, columns: Sequence[pb.Column]) -> dict[str, pb.Column]:
        """Return column by name, for the columns of known features with values of their kind."""
        self._check_count(columns)
        feature_by_name = {feature.name: feature for feature in self._schema.features}
        seen: set[str] = set()
        matched: dict[str, pb.Column] = {}
        for column in columns:
            feature = feature_by_name.get(name := column.name)
            if feature is None:
                self._violations.add(_unknown, name, self._schema)
            elif name in seen:
                self._violations.add(_twice, name)
            elif name in self._packed_names:
                self._violations.add(_packed_too, name)
            elif column.WhichOneof("values") != feature.kind.column_field:
                self._violations.add(_wrong_kind, feature, column)
            else:
                matched[name] = column
            seen.add(name)
        seen |= self._packed_names
        for feature in self._schema.features:
            if feature.name not in seen:
                self._violations.add(_absent, feature)
        return matched

    def _check_count(self, columns: Sequence[pb.Column]) -> None:
        """Refuse a batch with far too many columns, without checking each."""
        n_features = len(self._schema.features)
        if len(columns) > 2 * n_features + MAX_VIOLATIONS:
            raise InvalidInstance(
                [
                    Violation(
                        "columns",
                        f"{len(columns)} came, {n_features} are needed: {self._schema.names}",
                    )
                ]
            )

    def _count_rows(self, column_by_name: dict[str, pb.Column]) -> int:
        """Return the number of rows, which all columns share; raise if they differ."""
        counts = {name: len(_values(c)) for name, c in column_by_name.items()}
        if self._packed is not None:
            return self._check_rows(column_by_name, counts, self._packed.n_rows)
        first = next(iter(counts), "")
        for name, count in counts.items():
            if count == 0 or count != counts[first]:
                column = column_by_name[name]
                self._violations.add(_wrong_length, column, count, first, counts[first])
        if not counts or len(set(counts.values())) > 1 or counts[first] == 0:
            self._violations.check()
        return counts[first]

    def _check_rows(
        self, column_by_name: dict[str, pb.Column], counts: dict[str, int], n_rows: int
    ) -> int:
        """Return the number of packed rows; raise if a column has more or fewer."""
        for name, count in counts.items():
            if count != n_rows:
                self._violations.add(
                    _unlike_packed, column_by_name[name], count, n_rows
                )
        if set(counts.values()) - {n_rows}:
            self._violations.check()
        return n_rows

    def _read_column(self, feature: Feature, column: pb.Column) -> Vector:
        values = _values(column)
        numbers, wrong = feature.encode_column(values)
        self._set_missing(feature, column, numbers, wrong)
        _add_each(
            self._violations, wrong, lambda row: _unfit_row(feature, row, values[row])
        )
        return numbers

    def _set_missing(
        self, feature: Feature, column: pb.Column, numbers: Vector, wrong: Mask
    ) -> None:
        import numpy as np

        n_rows, name = len(numbers), column.name
        if len(column.missing_rows) > n_rows:
            self._violations.add(
                _too_many_missing, name, len(column.missing_rows), n_rows
            )
            return
        rows = np.array(column.missing_rows, np.int64)
        is_row = rows < n_rows
        _add_each(
            self._violations,
            ~is_row,
            lambda position: _not_a_row(name, position, int(rows[position]), n_rows),
        )
        if not feature.nullable:
            _add_each(
                self._violations,
                is_row,
                lambda position: _missing_row(feature, int(rows[position])),
            )
        missing = rows[is_row]
        numbers[missing], wrong[missing] = nan, False


def _add_each(
    violations: Violations, wrong: Mask, describe: Callable[[int], Violation]
) -> None:
    """Add a violation per wrong position; those beyond the limit are counted, not described."""
    positions = wrong.nonzero()[0]
    listed = positions[:MAX_VIOLATIONS].tolist()
    for position in listed:
        violations.add(describe, position)
    violations.count(len(positions) - len(listed))


def _values(column: pb.Column) -> Sequence[Scalar]:
    values: Sequence[Scalar] = getattr(column, column.WhichOneof("values") or "").values
    return values


def _unknown(name: str, schema: InputSchema) -> Violation:
    return Violation(
        _path(name), f"is not a feature of the model, which has: {schema.names}"
    )


def _twice(name: str) -> Violation:
    return Violation(_path(name), "occurs more than once")


def _packed_too(name: str) -> Violation:
    return Violation(_path(name), "is in packed_rows, too; send it in one of the two")


def _unlike_packed(column: pb.Column, count: int, n_rows: int) -> Violation:
    return Violation(
        _values_path(column.name, column),
        f"{count} came; {n_rows} are needed, as many as packed_rows has",
    )


def _absent(feature: Feature) -> Violation:
    return Violation(
        _path(feature.name),
        f"is missing; it takes {feature.kind.column_field}, each {feature.allowed}",
    )


def _wrong_kind(feature: Feature, column: pb.Column) -> Violation:
    came = column.WhichOneof("values") or "no values"
    return Violation(
        _path(feature.name),
        f"{came} came; it takes {feature.kind.column_field}, each {feature.allowed}",
    )


def _wrong_length(
    column: pb.Column, count: int, first: str, expected: int
) -> Violation:
    needed = f"{expected} are needed, as many as {_path(first)} has"
    if expected == 0:
        needed = "one or more are needed"
    return Violation(_values_path(column.name, column), f"{count} came; {needed}")


def _unfit_row(feature: Feature, row: int, value: Scalar) -> Violation:
    return Violation(
        _row_path(feature, row),
        f"{show(value)} is not allowed; it takes {feature.allowed}",
    )


def _missing_row(feature: Feature, row: int) -> Violation:
    return Violation(_row_path(feature, row), f"is missing; it takes {feature.allowed}")


def _row_path(feature: Feature, row: int) -> str:
    return f"{_path(feature.name)}.{feature.kind.column_field}.values[{row}]"


def _not_a_row(name: str, position: int, row: int, n_rows: int) -> Violation:
    return Violation(
        f"{_path(name)}.missing_rows[{position}]",
        f"{row} is not a row number; the rows are 0 to {n_rows - 1}",
    )


def _too_many_missing(name: str, count: int, n_rows: int) -> Violation:
    return Violation(
        f"{_path(name)}.missing_rows",
        f"{count} came; at most {n_rows} are allowed, one per row",
    )


def _values_path(name: str, column: pb.Column) -> str:
    return f"{_path(name)}.{column.WhichOneof('values')}.values"


def _path(name: str) -> str:
    return f"columns[{quote(name)}]"
