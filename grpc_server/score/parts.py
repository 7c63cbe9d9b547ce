"""The parts of an output: each is a Parquet file that is there as a whole, or not at all."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from grpc_server.errors import TableError
from grpc_server.registry.durable_files import sync_file
from grpc_server.score.answers import Answers, BadCell
from grpc_server.score.summary import Counts

_METADATA_KEY = b"prediction.score"
_SUFFIX, _FRESH_SUFFIX = ".parquet", ".tmp"


@dataclass(frozen=True, slots=True)
class PartFacts:
    """What a part says about itself.

    Parameters
    ----------
    plan : str
        Digest of the plan.
    n_rows : int
        Rows of the input.
    n_written : int
        Rows of the output.
    n_bad : int
        Rows that could not be scored.
    bad_cells : tuple of BadCell
        The first of them.
    counts : Counts
        What the rows were.
    """

    plan: str
    n_rows: int
    n_written: int
    n_bad: int
    bad_cells: tuple[BadCell, ...]
    counts: Counts

    def encode(self) -> bytes:
        """Return the facts as JSON."""
        return json.dumps(
            {
                "plan": self.plan,
                "n_rows": self.n_rows,
                "n_written": self.n_written,
                "n_bad": self.n_bad,
                "bad_cells": [asdict(cell) for cell in self.bad_cells],
                "counts": self.counts.encode(),
            }
        ).encode()

    @classmethod
    def decode(cls, content: bytes) -> Self:
        """Return what `encode` wrote."""
        values = json.loads(content)
        cells = tuple(BadCell(**cell) for cell in values.pop("bad_cells"))
        counts = Counts.decode(values.pop("counts"))
        return cls(**values, bad_cells=cells, counts=counts)


class PartFolder:
    """The parts in a folder.

    Parameters
    ----------
    folder : Path
        The folder.
    plan : str
        Digest of the plan of all parts.
    """

    def __init__(self, folder: Path, plan: str) -> None:
        self._folder = folder
        self._plan = plan

    def clear(self) -> None:
        """Remove what a run that was killed had not finished."""
        for path in self._folder.glob(f"*{_FRESH_SUFFIX}"):
            path.unlink(missing_ok=True)

    def name(self, table: int, number: int) -> str:
        """Return the name of a part: names sort in the order of the rows."""
        return f"part-{table:05d}-{number:07d}{_SUFFIX}"

    def find(self) -> dict[tuple[int, int], PartFacts]:
        """Return the facts of the parts that exist, by table and number.

        Raises
        ------
        TableError
            If a part is broken, or of another plan.
        """
        found = {}
        for path in sorted(self._folder.glob(f"part-*{_SUFFIX}")):
            _, table, number = path.stem.split("-")
            found[int(table), int(number)] = self._read(path)
        return found

    def _read(self, path: Path) -> PartFacts:
        try:
            metadata = pq.read_metadata(path)
            facts = PartFacts.decode(metadata.metadata[_METADATA_KEY])
        except (
            pa.ArrowException,
            OSError,
            LookupError,
            TypeError,
            ValueError,
        ) as error:
            raise TableError(
                f"{path} is broken or no part of a score ({str(error)[:100]}); remove it, and "
                "score again"
            ) from None
        if facts.plan != self._plan or metadata.num_rows != facts.n_written:
            raise TableError(
                f"{path} is of another run; remove the folder, and score again"
            )
        return facts

    def write(self, table: int, number: int, answers: Answers) -> PartFacts:
        """Write a part: complete under another name, on the disk, then renamed.

        Raises
        ------
        OSError
            If the disk is full, or cannot be written.
        """
        rows = answers.table
        facts = PartFacts(
            self._plan,
            answers.n_rows,
            rows.num_rows,
            answers.n_bad,
            answers.bad_cells,
            answers.counts,
        )
        path = self._folder / self.name(table, number)
        fresh = path.with_name(f".{path.name}{_FRESH_SUFFIX}")
        try:
            _write(fresh, rows, facts.encode())
            sync_file(fresh)
            os.replace(fresh, path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        return facts


def _write(path: Path, rows: pa.Table, facts: bytes) -> None:
    # Probabilities seldom occur twice: a dictionary of them would cost time for nothing.
    texts = [
        field.name for field in rows.schema if not pa.types.is_floating(field.type)
    ]
    known: dict[bytes, Any] = dict(rows.schema.metadata or {})
    rows = rows.replace_schema_metadata(known | {_METADATA_KEY: facts})
    pq.write_table(
        rows, path, use_dictionary=texts, compression="zstd", compression_level=1
    )
