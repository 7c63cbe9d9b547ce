"""DataFrames of pandas and polars: reads their cells, and makes answers of the same library.

A library is imported only for one of its frames, so the caller has imported it already.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from prediction._columns import Table

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


class Frame(Protocol):
    """A pandas or a polars DataFrame."""

    @property
    def shape(self) -> tuple[int, int]:
        """Return the number of rows and of columns."""


FrameT = TypeVar("FrameT", bound=Frame)


@dataclass(frozen=True, slots=True)
class RowKeys:
    """The rows of a frame as the prediction log names them, in the order of the frame.

    Attributes
    ----------
    request_ids : list of str
        Name of the call that had the row.
    rows : list of int
        Number of the row within its call, from 0.
    """

    request_ids: list[str]
    rows: list[int]


class FrameTable(Table, Protocol):
    """A frame that can make an answer of its library."""

    def to_frame(
        self,
        labels: Sequence[str],
        columns: dict[str, Sequence[float]],
        model_version: str,
        keys: RowKeys | None,
    ) -> Any:
        """Make the answer, with the rows and the index of the frame.

        Parameters
        ----------
        labels : sequence of str, n_rows
            Label of each row.
        columns : dict of str to sequence of float, each n_rows
            Probabilities by the name of their column, float64, [0, 1].
        model_version : str
            Version that answered all rows.
        keys : RowKeys or None
            The rows in the prediction log; None leaves them out of the answer.

        Returns
        -------
        pandas.DataFrame or polars.DataFrame
            One row for each row of the frame, in its order.
        """
        ...


def to_table(frame: object) -> FrameTable:
    """Wrap a DataFrame.

    Parameters
    ----------
    frame : pandas.DataFrame or polars.DataFrame
        The frame, or one of a subclass.

    Returns
    -------
    FrameTable
        The part of it that predict_frame uses.

    Raises
    ------
    TypeError
        If it is not a DataFrame of pandas or polars.
    """
    for cls in type(frame).__mro__:
        library = cls.__module__.partition(".")[0]
        if cls.__name__ == "DataFrame" and library in _TABLES:
            table: FrameTable = _TABLES[library](frame)
            return table
    raise TypeError(
        "predict_frame takes a pandas or a polars DataFrame, not "
        f"{type(frame).__module__}.{type(frame).__qualname__}"
    )


class _PandasTable:
    def __init__(self, frame: "pd.DataFrame") -> None:
        self._frame = frame

    @property
    def names(self) -> Sequence[object]:
        return list(self._frame.columns)

    @property
    def n_rows(self) -> int:
        return len(self._frame)

    def cells(self, position: int) -> list[object]:
        series = self._frame.iloc[:, position]
        cells: list[object] = series.tolist()
        for row in series.isna().to_numpy().nonzero()[0].tolist():
            cells[row] = None
        return cells

    def doubles(self, position: int) -> "array[float] | None":
        series = self._frame.iloc[:, position]
        if str(series.dtype) != "float64":
            return None
        return array("d", series.to_numpy().tobytes())

    def to_frame(
        self,
        labels: Sequence[str],
        columns: dict[str, Sequence[float]],
        model_version: str,
        keys: RowKeys | None,
    ) -> Any:
        import pandas as pd

        answer = pd.DataFrame(
            {
                "label": pd.Series(labels, dtype="str"),
                **{
                    name: pd.Series(list(values), dtype="float64")
                    for name, values in columns.items()
                },
                "model_version": pd.Series([model_version] * self.n_rows, dtype="str"),
            }
        )
        if keys is not None:
            answer["request_id"] = pd.Series(keys.request_ids, dtype="str")
            answer["row"] = pd.Series(keys.rows, dtype="int64")
        # Set and not aligned, because an index may have a label twice.
        answer.index = self._frame.index
        return answer


class _PolarsTable:
    def __init__(self, frame: "pl.DataFrame") -> None:
        self._frame = frame

    @property
    def names(self) -> Sequence[object]:
        return self._frame.columns

    @property
    def n_rows(self) -> int:
        return self._frame.height

    def cells(self, position: int) -> list[object]:
        return self._frame.to_series(position).to_list()

    def doubles(self, position: int) -> "array[float] | None":
        series = self._frame.to_series(position)
        if str(series.dtype) != "Float64" or series.null_count():
            return None
        return array("d", series.to_list())

    def to_frame(
        self,
        labels: Sequence[str],
        columns: dict[str, Sequence[float]],
        model_version: str,
        keys: RowKeys | None,
    ) -> Any:
        import polars as pl

        versions = [model_version] * self.n_rows
        answer = pl.DataFrame(
            [
                pl.Series("label", labels, pl.String),
                *(pl.Series(n, list(v), pl.Float64) for n, v in columns.items()),
                pl.Series("model_version", versions, pl.String),
            ]
        )
        if keys is None:
            return answer
        return answer.with_columns(
            pl.Series("request_id", keys.request_ids, pl.String),
            pl.Series("row", keys.rows, pl.Int64),
        )


_TABLES: dict[str, Any] = {"pandas": _PandasTable, "polars": _PolarsTable}
