"""The answers to the rows of a chunk, as columns of the output."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import nlargest
from math import isfinite
from typing import Any

import numpy as np
import pyarrow as pa

from grpc_server.errors import TableError
from grpc_server.model import LoadedModel
from grpc_server.model.arrays import MAX_EXCESS, Mask, Matrix, Vector
from grpc_server.model.kinds import quote, shorten, show
from grpc_server.model.schema import Feature
from grpc_server.score.cells import TextRules, encode_text, encode_typed
from grpc_server.score.summary import Counts, Summarizer
from grpc_server.score.tables import Chunk

# Rows of one call of the estimator: they stay in the processor's caches.
_BLOCK_ROWS = 4_096
_BLOCK_VALUES = 1_000_000
# Bad rows that a part lists. It counts the others.
MAX_LISTED = 100
_CONTRIBUTION = pa.struct([("feature", pa.string()), ("value", pa.float64())])
# A moment of nanoseconds, or of a year that Python does not know.
_UNREADABLE = object()


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """What the output has.

    Parameters
    ----------
    keep : tuple of str
        Columns of the input.
    prefix : str
        What the names of all other columns begin with.
    on_bad_row : str
        "fail", "skip" or "null".
    top_k : int
        Contributions of each row, 0 or more.
    """

    keep: tuple[str, ...]
    prefix: str
    on_bad_row: str
    top_k: int


@dataclass(frozen=True, slots=True)
class BadCell:
    """A cell, or a whole row, that cannot be scored.

    Parameters
    ----------
    row : int
        Row of the file, from 0.
    column : str
        Name of the column; empty for the whole row.
    value : str
        The cell, as an error shows it.
    reason : str
        What is allowed.
    """

    row: int
    column: str
    value: str
    reason: str


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers to a chunk.

    Parameters
    ----------
    table : pyarrow.Table
        The output's rows.
    n_rows : int
        Rows of the input.
    n_bad : int
        Rows that could not be scored.
    bad_cells : tuple of BadCell
        The first of them.
    counts : Counts
        What the answers and the rows were.
    """

    table: pa.Table
    n_rows: int
    n_bad: int
    bad_cells: tuple[BadCell, ...]
    counts: Counts


class Answerer:
    """Answers rows with one model; safe to use from several threads.

    Parameters
    ----------
    model : LoadedModel
        The model.
    options : AnswerOptions
        What the output has.
    rules : TextRules
        How cells without a type are read.

    Raises
    ------
    TableError
        If two columns of the output would have the same name.
    """

    def __init__(
        self, model: LoadedModel, options: AnswerOptions, rules: TextRules
    ) -> None:
        self._model = model
        self._options = options
        self._rules = rules
        self._labels = pa.array(model.classes.labels, pa.string())
        self._summarizer = Summarizer(model)
        self.names = self._name_columns()

    def _name_columns(self) -> tuple[str, ...]:
        """Return the names of the answers' columns."""
        names = ["label"]
        names += [f"probability_{label}" for label in self._model.classes.labels]
        if self._options.top_k:
            names += ["score", "base", "contributions"]
        named = tuple(self._options.prefix + name for name in (*names, "model_version"))
        twice = set(named) & set(self._options.keep)
        if twice:
            raise TableError(
                f"the kept column {quote(min(twice))} has the name of a column of answers; "
                "--output-prefix names the answers otherwise"
            )
        return named

    def answer(self, chunk: Chunk, *, is_text: bool) -> Answers:
        """Answer the rows of a chunk.

        Parameters
        ----------
        chunk : Chunk
            The rows.
        is_text : bool
            Whether the cells have no type.

        Returns
        -------
        Answers
            The answers; without the rows that cannot be scored, if they are skipped.
        """
        tables, bad_cells = [], list(_list_unread(chunk))
        n_bad, counts = len(chunk.unread), Counts.empty(self._model)
        first_row = chunk.first_row
        for piece in chunk.pieces:
            rows = self._encode(piece, first_row, is_text, bad_cells)
            tables.append(self._answer_piece(piece, rows, counts, bad_cells))
            n_bad += int(rows.is_bad.sum())
            first_row += piece.num_rows
        n_rows = chunk.n_rows + len(chunk.unread)
        listed = tuple(bad_cells[:MAX_LISTED])
        return Answers(pa.concat_tables(tables), n_rows, n_bad, listed, counts)

    def _encode(
        self,
        piece: pa.RecordBatch,
        first_row: int,
        is_text: bool,
        bad_cells: list[BadCell],
    ) -> "_Rows":
        columns, is_bad = [], np.zeros(piece.num_rows, np.bool_)
        for feature in self._model.input_schema.features:
            cells = piece.column(feature.name)
            if is_text:
                numbers, wrong = encode_text(feature, cells, self._rules)
            else:
                numbers, wrong = encode_typed(feature, cells)
            columns.append(numbers)
            if wrong.any():
                is_bad |= wrong
                room = MAX_LISTED - len(bad_cells)
                for row in wrong.nonzero()[0][:room].tolist():
                    bad_cells.append(_tell_cell(feature, cells[row], first_row + row))
        return _Rows(columns, is_bad, first_row)

    def _answer_piece(
        self,
        piece: pa.RecordBatch,
        rows: "_Rows",
        counts: Counts,
        bad_cells: list[BadCell],
    ) -> pa.Table:
        n_classes = len(self._model.classes.labels)
        probabilities = np.zeros((piece.num_rows, n_classes))
        explanations: list[Any] = [None] * piece.num_rows
        for start, X in rows.blocks():
            block = self._model.estimator.predict_batch(X)
            stop = start + len(X)
            probabilities[start:stop] = block
            # Written so that NaN fails.
            overflows = ~(np.abs(block.sum(axis=1) - 1.0) <= MAX_EXCESS)
            overflows &= ~rows.is_bad[start:stop]
            if overflows.any():
                rows.note_overflows(start + overflows.nonzero()[0], bad_cells)
            if self._options.top_k:
                explanations[start:stop] = self._explain(X, block, rows, start)
        scored = ~rows.is_bad
        positions = self._decide(probabilities)
        self._summarizer.count(counts, rows.columns, scored, probabilities, positions)
        return self._make_table(piece, scored, probabilities, positions, explanations)

    def _decide(self, probabilities: Matrix) -> Any:
        if not len(probabilities):
            return np.zeros(0, np.int32)
        return self._model.classes.decide_batch(probabilities).astype(np.int32)

    def _explain(
        self, X: Matrix, block: Matrix, rows: "_Rows", start: int
    ) -> Iterator[tuple[float, float, list[Any]] | None]:
        model = self._model
        for row, position in enumerate(self._decide(block).tolist()):
            if rows.is_bad[start + row]:
                yield None
                continue
            explained = position if len(model.classes.labels) > 2 else 1
            found = model.estimator.explain(X[row].tolist(), explained)
            pairs = zip(model.input_schema.features, found.contributions, strict=True)
            largest = nlargest(
                self._options.top_k, pairs, key=lambda pair: abs(pair[1])
            )
            is_finite = isfinite(sum(found.contributions, found.score))
            named = [{"feature": f.name, "value": value} for f, value in largest]
            yield (found.score, found.base, named) if is_finite else None

    def _make_table(
        self,
        piece: pa.RecordBatch,
        scored: Mask,
        probabilities: Matrix,
        positions: Any,
        explanations: Sequence[Any],
    ) -> pa.Table:
        n_rows, mask = len(scored), None if scored.all() else ~scored
        labels = pa.DictionaryArray.from_arrays(
            pa.array(positions, pa.int32(), mask=mask), self._labels
        )
        columns: list[pa.Array] = [piece.column(name) for name in self._options.keep]
        columns.append(labels)
        for column in probabilities.T:
            columns.append(pa.array(np.ascontiguousarray(column), mask=mask))
        if self._options.top_k:
            columns.extend(_explanation_columns(explanations))
        version = pa.array([self._model.source.version], pa.string())
        codes = pa.array(np.zeros(n_rows, np.int32))
        columns.append(pa.DictionaryArray.from_arrays(codes, version))
        names = [*self._options.keep, *self.names]
        table = pa.Table.from_arrays(columns, names)
        if mask is not None and self._options.on_bad_row == "skip":
            return table.filter(pa.array(scored))
        return table


@dataclass(frozen=True, slots=True)
class _Rows:
    """The encoded rows of a piece.

    Parameters
    ----------
    columns : list of ndarray of float64, shape (n_rows,)
        A column for each feature.
    is_bad : ndarray of bool, shape (n_rows,)
        Rows that cannot be scored; changed once more are found.
    first_row : int
        Number of the first row in the file.
    """

    columns: list[Vector]
    is_bad: Mask
    first_row: int

    def blocks(self) -> Iterator[tuple[int, Matrix]]:
        """Yield the first row of each block, and its matrix; bad cells are NaN."""
        n_features = len(self.columns)
        size = max(1, min(_BLOCK_ROWS, _BLOCK_VALUES // n_features))
        for start in range(0, len(self.is_bad), size):
            parts = [column[start : start + size] for column in self.columns]
            X = np.empty((len(parts[0]), n_features))
            for position, part in enumerate(parts):
                X[:, position] = part
            yield start, X

    def note_overflows(self, found: Any, bad_cells: list[BadCell]) -> None:
        """Mark rows whose score overflows."""
        self.is_bad[found] = True
        for row in found[: max(0, MAX_LISTED - len(bad_cells))].tolist():
            sizes = [abs(float(column[row])) for column in self.columns]
            largest = max((size for size in sizes if size == size), default=0.0)
            bad_cells.append(
                BadCell(
                    self.first_row + row,
                    "",
                    repr(largest),
                    "the model cannot score numbers as large as this: its score overflows",
                )
            )


def _explanation_columns(explanations: Sequence[Any]) -> Iterator[pa.Array]:
    for position, type_ in enumerate((pa.float64(), pa.float64())):
        yield pa.array(
            [None if each is None else each[position] for each in explanations], type_
        )
    yield pa.array(
        [None if each is None else each[2] for each in explanations],
        pa.list_(_CONTRIBUTION),
    )


def _tell_cell(feature: Feature, cell: pa.Scalar, row: int) -> BadCell:
    value = _read(cell)
    allowed = feature.allowed_for(value)
    return BadCell(row, feature.name, _show(value), f"it takes {allowed}")


def _read(cell: pa.Scalar) -> object:
    try:
        return cell.as_py()
    except (ValueError, OverflowError):
        return _UNREADABLE


def _show(value: object) -> str:
    if value is _UNREADABLE:
        return "a value that cannot be shown"
    if value is None:
        return "a missing value"
    return show(value) if isinstance(value, str | bool) else shorten(str(value))


def _list_unread(chunk: Chunk) -> Iterator[BadCell]:
    for row in chunk.unread[:MAX_LISTED]:
        where = f"line {row.line}: " if row.line else ""
        yield BadCell(chunk.first_row, "", quote(row.text), where + row.reason)
