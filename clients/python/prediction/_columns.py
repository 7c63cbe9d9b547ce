"""From a frame to requests: checks its columns against the schema, and cuts them to size.

Knows no DataFrame library. Each cell is a Python value, or None if it is missing.
"""

from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Protocol, TypeAlias, cast

from prediction._errors import FieldViolation
from prediction._kinds import Scalar, allowed, problem, wire_form
from prediction._models import Feature, FeatureKind, Model
from prediction._scalars import is_missing
from prediction._violations import invalid, raise_for, show_all, show_name
from prediction.v1 import prediction_service_pb2 as pb

MAX_CHUNK_BYTES = 2 * 1024 * 1024
"""Largest message of several rows: half of what gRPC accepts by default."""

_MAX_SHOWN_ROWS = 10


class Table(Protocol):
    """The part of a frame that this module uses."""

    @property
    def names(self) -> Sequence[object]:
        """Names of the columns, of any type."""
        ...

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        ...

    def cells(self, position: int) -> list[object]:
        """Return the cells of a column, None or NaN for a missing one."""
        ...

    def doubles(self, position: int) -> "array[float] | None":
        """Return the cells of a column whose type is double precision, None for other types."""
        ...


@dataclass(frozen=True, slots=True)
class TypedColumn:
    """The values of one feature, as the client sends them.

    Attributes
    ----------
    name : str
        Name of the feature.
    field : str
        Field of the message Column that holds the values.
    values : sequence of float, str or bool, n_rows
        One value per row. A missing value has a filler that can be sent.
    missing_rows : sequence of int
        Rows whose value is missing, ascending.
    """

    name: str
    field: str
    values: Sequence[Scalar]
    missing_rows: Sequence[int]

    def to_message(self, start: int, stop: int) -> pb.Column:
        """Return the rows of [start, stop) as a message, whose row 0 is `start`."""
        column = pb.Column(name=self.name)
        getattr(column, self.field).values.extend(self.values[start:stop])
        column.missing_rows.extend(self.missing_of(start, stop))
        return column

    def missing_of(self, start: int, stop: int) -> Iterator[int]:
        """Return the missing rows in [start, stop), counted from `start`."""
        first = bisect_left(self.missing_rows, start)
        last = bisect_left(self.missing_rows, stop)
        return (row - start for row in self.missing_rows[first:last])


Write: TypeAlias = Callable[[Sequence[TypedColumn], int, int], pb.BatchPredictRequest]


def encode(table: Table, model: Model, *, ignore_extra: bool) -> list[TypedColumn]:
    """Check a frame against the schema of a model, and convert its columns.

    Parameters
    ----------
    table : Table
        The frame.
    model : Model
        The model that will answer.
    ignore_extra : bool
        Whether to leave out columns that the model does not have.

    Returns
    -------
    list of TypedColumn, n_features
        The columns in the order of `Model.features`.

    Raises
    ------
    InvalidInstanceError
        If a column is missing, occurs twice or is not one of the model's, or if a cell is not
        allowed. There is one violation for each column with such cells.
    """
    position_by_name = _match(table.names, model.features, ignore_extra)
    columns: list[TypedColumn] = []
    violations: list[FieldViolation] = []
    for feature in model.features:
        try:
            columns.append(_encode(feature, table, position_by_name[feature.name]))
        except _UnfitColumn as error:
            violations.append(error.violation)
    raise_for(violations)
    return columns


def to_request(
    columns: Sequence[TypedColumn], start: int, stop: int
) -> pb.BatchPredictRequest:
    """Return the rows of [start, stop) by name, as every server takes them."""
    return pb.BatchPredictRequest(
        columns=[column.to_message(start, stop) for column in columns]
    )


def to_requests(
    columns: Sequence[TypedColumn], n_rows: int, max_rows: int, write: Write
) -> Iterator[tuple[int, pb.BatchPredictRequest]]:
    """Cut the rows into requests.

    Parameters
    ----------
    columns : sequence of TypedColumn
        The columns, each of `n_rows` values.
    n_rows : int
        Number of rows, 0 or more.
    max_rows : int
        Most rows of a request, 1 or more. A request has fewer where it would exceed
        `MAX_CHUNK_BYTES`.
    write : callable
        Makes a request of the rows from a first to before a last one.

    Yields
    ------
    tuple of (int, BatchPredictRequest)
        The first row of a request, and the request.
    """
    for start in range(0, n_rows, max_rows):
        yield from _split(columns, start, min(start + max_rows, n_rows), write)


def _split(
    columns: Sequence[TypedColumn], start: int, stop: int, write: Write
) -> Iterator[tuple[int, pb.BatchPredictRequest]]:
    request = write(columns, start, stop)
    if stop - start == 1 or request.ByteSize() <= MAX_CHUNK_BYTES:
        yield start, request
        return
    middle = (start + stop) // 2
    yield from _split(columns, start, middle, write)
    yield from _split(columns, middle, stop, write)


def _match(
    names: Sequence[object], features: Sequence[Feature], ignore_extra: bool
) -> Mapping[str, int]:
    """Return the position of each feature's column."""
    expected = {feature.name for feature in features}
    positions: dict[str, int] = {}
    extra: list[object] = []
    twice: list[object] = []
    for position, name in enumerate(names):
        if not isinstance(name, str) or name not in expected:
            extra.append(name)
        elif name in positions:
            twice.append(name)
        else:
            positions[name] = position
    missing = [feature.name for feature in features if feature.name not in positions]
    _raise_for_names(missing, twice, [] if ignore_extra else extra)
    return positions


def _raise_for_names(
    missing: Collection[object], twice: Collection[object], extra: Collection[object]
) -> None:
    violations = [
        FieldViolation(f"columns {show_all(names, len(names))}", problem)
        for names, problem in (
            (missing, "missing in the frame; the model needs them"),
            (twice, "in the frame more than once"),
            (extra, "not features of the model; ignore_extra=True leaves them out"),
        )
        if names
    ]
    if violations:
        raise invalid("; ".join(map(str, violations)), violations)


class _UnfitColumn(Exception):
    """A column with a cell that is not allowed."""

    def __init__(self, violation: FieldViolation) -> None:
        super().__init__(violation)
        self.violation = violation


def _encode(feature: Feature, table: Table, position: int) -> TypedColumn:
    if feature.kind is FeatureKind.NUMERIC:
        doubles = table.doubles(position)
        if doubles is not None and isfinite(sum(doubles)):
            return TypedColumn(feature.name, "doubles", doubles, ())
    cells = table.cells(position)
    if feature.kind is FeatureKind.NUMERIC and set(map(type, cells)) == {float}:
        # Many times faster than cell by cell. The sum is finite only if all cells are.
        numbers = array("d", cast(list[float], cells))
        if isfinite(sum(numbers)):
            return TypedColumn(feature.name, "doubles", numbers, ())
    return _encode_cells(feature, cells)


def _encode_cells(feature: Feature, cells: list[object]) -> TypedColumn:
    form = wire_form(feature)
    if form is None:
        raise _UnfitColumn(_unknown_kind(feature))
    values: list[Scalar] = []
    missing_rows = array("Q")
    unfit_rows: list[int] = []
    for row, cell in enumerate(cells):
        value = None if is_missing(cell) else form.convert(cell)
        if value is not None:
            values.append(value)
            continue
        values.append(form.filler)
        fits = is_missing(cell) and feature.nullable
        (missing_rows if fits else unfit_rows).append(row)
    if unfit_rows:
        raise _UnfitColumn(_violation(feature, cells, unfit_rows))
    if form.field == "doubles":
        # An array takes a third of the memory of a list.
        numbers = array("d", cast(list[float], values))
        return TypedColumn(feature.name, form.field, numbers, missing_rows)
    return TypedColumn(feature.name, form.field, values, missing_rows)


def _unknown_kind(feature: Feature) -> FieldViolation:
    return FieldViolation(
        _column(feature),
        "is of a kind that this client does not know; upgrade prediction-client",
    )


def _violation(
    feature: Feature, cells: Sequence[object], rows: Sequence[int]
) -> FieldViolation:
    """Return the violation of the first unfit row, which names the others too."""
    description = f"{problem(feature, cells[rows[0]])}; it takes {allowed(feature)}"
    if len(rows) > 1:
        others = show_all(rows[1:], _MAX_SHOWN_ROWS)
        description += f"; {len(rows)} rows do not fit, also {others}"
    return FieldViolation(f"{_column(feature)}, row {rows[0]}", description)


def _column(feature: Feature) -> str:
    return f"column {show_name(feature.name)}"
