"""What a frame sends: its columns checked against the schema, in requests of a bounded size.

Knows no library of frames: a cell is one of Python's own values, None if it is missing.
"""

from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Protocol, TypeAlias, cast

from prediction._errors import FieldViolation
from prediction._models import Feature, FeatureKind, Model
from prediction._scalars import (
    is_missing,
    is_unicode,
    keeps_digits,
    to_double,
    to_plain,
)
from prediction._violations import invalid, raise_for, shorten, show
from prediction.v1 import prediction_service_pb2 as pb

MAX_CHUNK_BYTES = 2 * 1024 * 1024
"""Size up to which rows go into one message: half of what gRPC takes by default."""

_MAX_SHOWN = 10

_Value: TypeAlias = float | str | bool
# Returns what is sent for a cell that is not missing, None for one that is not allowed.
_Convert: TypeAlias = Callable[[object], _Value | None]


class Table(Protocol):
    """What is used of a frame."""

    @property
    def names(self) -> Sequence[object]:
        """Names of the columns, which may be anything."""
        ...

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        ...

    def cells(self, position: int) -> list[object]:
        """Return the cells of a column, None for a missing one; NaN is missing too."""
        ...


@dataclass(frozen=True, slots=True)
class TypedColumn:
    """The values of one feature, as they are sent.

    Attributes
    ----------
    name : str
        Name of the feature.
    field : str
        Field of the message Column that carries the values.
    values : sequence of float, str or bool, n_rows
        One value per row; any that can be sent where a value is missing.
    missing_rows : sequence of int
        Rows whose value is missing, ascending.
    """

    name: str
    field: str
    values: Sequence[_Value]
    missing_rows: Sequence[int]

    def to_message(self, start: int, stop: int) -> pb.Column:
        """Return the rows from `start` to before `stop`, counted from `start`."""
        column = pb.Column(name=self.name)
        getattr(column, self.field).values.extend(self.values[start:stop])
        first = bisect_left(self.missing_rows, start)
        last = bisect_left(self.missing_rows, stop)
        column.missing_rows.extend(row - start for row in self.missing_rows[first:last])
        return column


def encode(table: Table, model: Model, *, ignore_extra: bool) -> list[TypedColumn]:
    """Check a frame against the schema of a model, and return its columns as they are sent.

    Raises
    ------
    InvalidInstanceError
        If a column is missing, there twice, or none of the model's; or a cell is not allowed. There
        is one violation for each column with such cells.
    """
    position_by_name = _match(table.names, model.features, ignore_extra)
    columns: list[TypedColumn] = []
    violations: list[FieldViolation] = []
    for feature in model.features:
        try:
            columns.append(
                _encode(feature, table.cells(position_by_name[feature.name]))
            )
        except _UnfitColumn as error:
            violations.append(error.violation)
    raise_for(violations)
    return columns


def to_requests(
    columns: Sequence[TypedColumn], n_rows: int, max_rows: int
) -> Iterator[tuple[int, pb.BatchPredictRequest]]:
    """Cut the rows into requests; yield each with its first row.

    Parameters
    ----------
    columns : sequence of TypedColumn
        The columns, each of `n_rows` values.
    n_rows : int
        Number of rows, 0 or more.
    max_rows : int
        The most rows of a request, 1 or more; fewer where they would exceed `MAX_CHUNK_BYTES`.
    """
    for start in range(0, n_rows, max_rows):
        yield from _split(columns, start, min(start + max_rows, n_rows))


def _split(
    columns: Sequence[TypedColumn], start: int, stop: int
) -> Iterator[tuple[int, pb.BatchPredictRequest]]:
    request = pb.BatchPredictRequest(
        columns=[column.to_message(start, stop) for column in columns]
    )
    if stop - start == 1 or request.ByteSize() <= MAX_CHUNK_BYTES:
        yield start, request
        return
    middle = (start + stop) // 2
    yield from _split(columns, start, middle)
    yield from _split(columns, middle, stop)


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
        FieldViolation(f"columns {_list(names, len(names))}", problem)
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


def _encode(feature: Feature, cells: list[object]) -> TypedColumn:
    if feature.kind is FeatureKind.NUMERIC and set(map(type, cells)) == {float}:
        # Many times faster than cell by cell. A sum is finite only if all cells are.
        numbers = array("d", cast(list[float], cells))
        if isfinite(sum(numbers)):
            return TypedColumn(feature.name, "doubles", numbers, ())
    return _encode_cells(feature, cells)


def _encode_cells(feature: Feature, cells: list[object]) -> TypedColumn:
    field, filler, convert = _wire_form(feature)
    values: list[_Value] = []
    missing_rows = array("Q")
    unfit_rows: list[int] = []
    for row, cell in enumerate(cells):
        value = None if is_missing(cell) else convert(cell)
        if value is not None:
            values.append(value)
            continue
        values.append(filler)
        fits = is_missing(cell) and feature.nullable
        (missing_rows if fits else unfit_rows).append(row)
    if unfit_rows:
        raise _UnfitColumn(_violation(feature, cells, unfit_rows))
    if field == "doubles":
        # A third of the memory of a list.
        numbers = array("d", cast(list[float], values))
        return TypedColumn(feature.name, field, numbers, missing_rows)
    return TypedColumn(feature.name, field, values, missing_rows)


def _wire_form(feature: Feature) -> tuple[str, _Value, _Convert]:
    """Return the field that carries a feature's values, a value for a missing one, and how."""
    match feature.kind:
        case FeatureKind.NUMERIC:
            return "doubles", 0.0, _number
        case FeatureKind.BOOLEAN:
            return "booleans", False, _truth
        case FeatureKind.CATEGORICAL_TEXT:
            return "strings", "", _text_category(feature)
        case FeatureKind.CATEGORICAL_INTEGER:
            return "doubles", 0.0, _integer_category(feature)
        case _:
            raise _UnfitColumn(
                FieldViolation(
                    _column(feature),
                    "is of a kind that this client does not know; a newer client may",
                )
            )


def _number(cell: object) -> float | None:
    if type(cell) is float:
        return to_double(cell)
    plain = to_plain(cell)
    number = to_double(plain)
    return number if number is not None and keeps_digits(plain, number) else None


def _truth(cell: object) -> bool | None:
    plain = to_plain(cell)
    return plain if isinstance(plain, bool) else None


def _text_category(feature: Feature) -> _Convert:
    known = frozenset(feature.categories)

    def convert(cell: object) -> str | None:
        if not isinstance(cell, str):
            return None
        if cell in known:
            return cell
        return None if feature.refuse_unknown or not is_unicode(cell) else cell

    return convert


def _integer_category(feature: Feature) -> _Convert:
    known = frozenset(feature.categories)

    def convert(cell: object) -> float | None:
        number = _number(cell)
        if number is None or not number.is_integer():
            return None
        return None if feature.refuse_unknown and int(number) not in known else number

    return convert


def _violation(
    feature: Feature, cells: Sequence[object], rows: Sequence[int]
) -> FieldViolation:
    """Return the violation of the first of the rows that do not fit, and name the others."""
    description = f"{_problem(feature, cells[rows[0]])}; it takes {_allowed(feature)}"
    if len(rows) > 1:
        others = _list(rows[1:], _MAX_SHOWN)
        description += f"; {len(rows)} rows do not fit, also {others}"
    return FieldViolation(f"{_column(feature)}, row {rows[0]}", description)


def _problem(feature: Feature, cell: object) -> str:
    if is_missing(cell):
        return "a missing value is not allowed"
    plain = to_plain(cell)
    number = to_double(plain)
    takes_numbers = feature.kind in (
        FeatureKind.NUMERIC,
        FeatureKind.CATEGORICAL_INTEGER,
    )
    if takes_numbers and number is not None and not keeps_digits(plain, number):
        return f"{show(plain)} would lose digits in double precision"
    return f"{show(plain)} is not allowed"


def _allowed(feature: Feature) -> str:
    """Return what the cells of a feature may hold, in words."""
    words = _ALLOWED.get(feature.kind, "")
    if feature.categories:
        known = _list(feature.categories, _MAX_SHOWN)
        count = len(feature.categories)
        words = (
            f"one of {count} categories ({known})"
            if feature.refuse_unknown
            else f"{words}, such as one of {count} categories ({known}),"
        )
    return f"{words} or a missing value" if feature.nullable else words


_ALLOWED = {
    FeatureKind.NUMERIC: "a finite number",
    FeatureKind.BOOLEAN: "True or False",
    FeatureKind.CATEGORICAL_TEXT: "a text",
    FeatureKind.CATEGORICAL_INTEGER: "a whole number",
}


def _list(values: Collection[object], max_shown: int) -> str:
    """Return the first values, and how many more there are."""
    shown = [shorten(_quote(value)) for value in list(values)[:max_shown]]
    more = len(values) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _quote(value: object) -> str:
    return (
        f'"{value}"' if isinstance(value, str) and value.isprintable() else repr(value)
    )


def _column(feature: Feature) -> str:
    return f"column {shorten(_quote(feature.name))}"
