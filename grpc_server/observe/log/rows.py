"""Reads the rows of answered calls: features by name as they were sent, and the answer."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from google.protobuf.struct_pb2 import Value

from grpc_server.doubles import list_packed, read_probabilities, unpack
from grpc_server.observe.records import CHUNK, PREDICT, ModelFacts, Record
from prediction.v1 import prediction_service_pb2 as pb

# Categories are integers of 64 bits.
_END_OF_INTEGERS = 2.0**63
Cell: TypeAlias = float | int | str | bool | None
Change: TypeAlias = Callable[[Cell], Cell]


@dataclass(frozen=True, slots=True)
class Row:
    """One row and its answer.

    Parameters
    ----------
    features : dict of str to cell
        Values by name, None where missing.
    probabilities : dict of str to float
        Probability of each label.
    label : str
        Predicted label.
    """

    features: dict[str, Cell]
    probabilities: dict[str, float]
    label: str


@dataclass(frozen=True, slots=True)
class Column:
    """A feature that is written.

    Parameters
    ----------
    position : int
        Its position in the schema, from 0.
    name : str
        Its name.
    read : callable
        Makes what is written of what was sent.
    """

    position: int
    name: str
    read: Change


class RowReader:
    """Reads the records that one model answered.

    Parameters
    ----------
    facts : ModelFacts
        The model.
    changes : dict of str to callable or None
        What to make of a feature's values; None leaves the feature out.
    """

    def __init__(self, facts: ModelFacts, changes: dict[str, Change | None]) -> None:
        self.facts = facts
        self._n_features = len(facts.features)
        self._columns = tuple(
            Column(position, feature.name, _reader(feature.kind, change))
            for position, feature in enumerate(facts.features)
            if (change := changes.get(feature.name, _unchanged)) is not None
        )

        self._names = tuple(column.name for column in self._columns)
        self._is_plain = len(self._columns) == self._n_features and all(
            column.read is _read_plain for column in self._columns
        )

    def read(
        self, record: Record, reply: "pb.PredictResponse | pb.BatchPredictResponse"
    ) -> Iterator[Row]:
        """Yield the rows of a record in their order.

        Raises
        ------
        ValueError
            If the request does not fit the model or the reply.
        """
        if isinstance(reply, pb.PredictResponse):
            yield self._read_one(pb.PredictRequest.FromString(record.request), reply)
        else:
            yield from self._read_batch(_decode_batch(record), reply)

    def _read_one(self, request: pb.PredictRequest, reply: pb.PredictResponse) -> Row:
        if request.HasField("record"):
            members = request.record.fields
            features = {c.name: c.read(_member(members[c.name])) for c in self._columns}
        else:
            values = request.features
            self._check_length(len(values), 1)
            # JSON has null for NaN, so plain numbers need no look at each.
            features = (
                dict(zip(self._names, values, strict=True))
                if self._is_plain
                else {c.name: c.read(values[c.position]) for c in self._columns}
            )
        labels = self.facts.labels
        probabilities = dict(zip(labels, reply.probabilities, strict=True))
        return Row(features, probabilities, reply.label)

    def _read_batch(
        self, request: pb.BatchPredictRequest, reply: pb.BatchPredictResponse
    ) -> Iterator[Row]:
        n_rows, labels = len(reply.positions), reply.classes
        rows = (
            self._rows_of_columns(request, n_rows)
            if request.columns or request.HasField("packed_rows")
            else self._rows_of_values(request.values, n_rows)
        )
        answers, width = read_probabilities(reply), len(labels)
        for number, (features, position) in enumerate(
            zip(rows, reply.positions, strict=True)
        ):
            of_row = answers[number * width : (number + 1) * width]
            probabilities = dict(zip(labels, of_row, strict=True))
            yield Row(features, probabilities, labels[position])

    def _rows_of_values(
        self, values: Sequence[float], n_rows: int
    ) -> Iterator[dict[str, Cell]]:
        self._check_length(len(values), n_rows)
        for begin in range(0, len(values), self._n_features):
            row = values[begin : begin + self._n_features]
            yield {c.name: c.read(row[c.position]) for c in self._columns}

    def _rows_of_columns(
        self, request: pb.BatchPredictRequest, n_rows: int
    ) -> Iterator[dict[str, Cell]]:
        sent: dict[str, Iterable[Cell]] = {
            column.name: _read_column(column) for column in request.columns
        }
        if request.HasField("packed_rows"):
            sent.update(self._packed_columns(request))
        columns = [[c.read(cell) for cell in sent[c.name]] for c in self._columns]
        if not columns:
            yield from ({} for _ in range(n_rows))
        for cells in zip(*columns, strict=True):
            yield dict(zip(self._names, cells, strict=True))

    def _packed_columns(
        self, request: pb.BatchPredictRequest
    ) -> Iterator[tuple[str, Iterable[Cell]]]:
        """Yield the name and the cells of each packed column."""
        kinds = {feature.name: feature.kind for feature in self.facts.features}
        names = list_packed(request, tuple(kinds))
        numbers = unpack(request.packed_rows.values)
        for position, name in enumerate(names):
            column = numbers[position :: len(names)]
            yield name, map(_read_truth, column) if kinds[name] == "boolean" else column

    def _check_length(self, n_values: int, n_rows: int) -> None:
        if n_values != n_rows * self._n_features:
            raise ValueError(
                f"{n_values} values came, {n_rows} rows of {self._n_features} are needed"
            )


def decode_reply(record: Record) -> "pb.PredictResponse | pb.BatchPredictResponse":
    """Return the reply of a record; that of a chunk without the message around it."""
    if record.kind == PREDICT:
        return pb.PredictResponse.FromString(record.reply)
    if record.kind == CHUNK:
        return pb.StreamPredictResponse.FromString(record.reply).chunk
    return pb.BatchPredictResponse.FromString(record.reply)


def _decode_batch(record: Record) -> pb.BatchPredictRequest:
    if record.kind == CHUNK:
        return pb.StreamPredictRequest.FromString(record.request).chunk
    return pb.BatchPredictRequest.FromString(record.request)


def _values(column: pb.Column) -> Sequence[Cell]:
    field = column.WhichOneof("values")
    assert field is not None
    values: Sequence[Cell] = getattr(column, field).values
    return values


def _read_column(column: pb.Column) -> Iterator[Cell]:
    missing = frozenset(column.missing_rows)
    for number, value in enumerate(_values(column)):
        yield None if number in missing else value


def _read_truth(number: float) -> Cell:
    # Only NaN differs from itself.
    return bool(number) if number == number else None


def _member(value: Value) -> Cell:
    kind = value.WhichOneof("kind")
    if kind is None or kind == "null_value":
        return None
    cell: Cell = getattr(value, kind)
    return cell


def _unchanged(value: Cell) -> Cell:
    return value


def _reader(kind: str, change: Change) -> Change:
    plain = _read_integer if kind == "integer" else _read_plain
    if change is _unchanged:
        return plain

    def read(value: Cell) -> Cell:
        # A gap stays one: the model takes it for a gap, too.
        cell = plain(value)
        return None if cell is None else change(cell)

    return read


def _read_plain(value: Cell) -> Cell:
    # Only NaN differs from itself; it stands for a missing value, which JSON writes as null.
    return value if value == value else None


def _read_integer(value: Cell) -> Cell:
    """Return what may be a category as a whole number; the wire has doubles."""
    if isinstance(value, float):
        is_whole = value.is_integer() and abs(value) < _END_OF_INTEGERS
        return int(value) if is_whole else _read_plain(value)
    return value
