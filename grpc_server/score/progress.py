"""How far a run is: rows, rows a second and the time left."""

from collections.abc import Callable, Collection, Sequence
from time import monotonic
from typing import Any

from grpc_server.score.parts import PartFacts
from grpc_server.score.tables import Table

_SECONDS = 5.0


class Progress:
    """Says every few seconds how far a run is.

    Parameters
    ----------
    tables : sequence of Table
        What is scored, in this order.
    done : collection of PartFacts
        Parts of a run before.
    say : callable
        Takes an event and its fields.
    """

    def __init__(
        self,
        tables: Sequence[Table],
        done: Collection[PartFacts],
        say: Callable[[str, dict[str, Any]], None],
    ) -> None:
        self._say = say
        counts = [table.n_rows for table in tables]
        self._n_tables = len(tables)
        self._n_total = None if None in counts else sum(c or 0 for c in counts)
        self._n_before = sum(facts.n_rows for facts in done)
        self._n_rows, self._n_bad = 0, sum(facts.n_bad for facts in done)
        self._begun = self._told = monotonic()
        self._n_finished = -1
        self._table: Table | None = None

    def begin(self, table: Table) -> None:
        """Note that another table is read now."""
        self._n_finished += 1
        self._table = table

    def add(self, n_rows: int, n_bad: int) -> None:
        """Note rows that are written."""
        self._n_rows += n_rows
        self._n_bad += n_bad
        if monotonic() - self._told >= _SECONDS:
            self._told = monotonic()
            self._say("scoring", self._describe())

    def tell_end(self) -> None:
        """Say the rows and their rate."""
        self._say("scored", self._describe())

    def _describe(self) -> dict[str, Any]:
        seconds = max(monotonic() - self._begun, 1e-9)
        share = self._find_share()
        left = seconds * (1 - share) / share if share > 0 else None
        return {
            "rows": self._n_before + self._n_rows,
            "rows_in_all": self._n_total,
            "rows_per_second": round(self._n_rows / seconds),
            "seconds_left": None if left is None else round(left),
            "bad_rows": self._n_bad,
        }

    def _find_share(self) -> float:
        """Return the share of this run's work that is done, [0, 1]."""
        if self._n_total is not None:
            return self._n_rows / max(1, self._n_total - self._n_before)
        if self._table is None:
            return 0.0
        return (self._n_finished + self._table.find_share_read()) / self._n_tables
