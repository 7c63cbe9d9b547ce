"""The manifest: written once every row of every table is in a part, and checked for it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from grpc_server.errors import TableError
from grpc_server.model import LoadedModel
from grpc_server.score.parts import PartFacts
from grpc_server.score.plan import MANIFEST_FILE, Plan, write_json
from grpc_server.score.summary import Counts, summarize
from grpc_server.score.tables import Table

# Bad rows that the manifest lists, of those that the parts list.
MAX_LISTED = 1_000


def write_manifest(
    folder: Path,
    model: LoadedModel,
    tables: Sequence[Table],
    plan: Plan,
    facts: Mapping[tuple[int, int], PartFacts],
) -> dict[str, Any]:
    """Check that all rows are there, and write the manifest.

    Parameters
    ----------
    folder : Path
        Folder of the parts.
    model : LoadedModel
        The model.
    tables : sequence of Table
        The tables.
    plan : Plan
        The plan.
    facts : mapping of (int, int) to PartFacts
        All parts, by table and number.

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    TableError
        If rows are missing.
    """
    _check_rows(tables, facts)
    counts = Counts.empty(model)
    for each in facts.values():
        counts.add(each.counts)
    n_bad = sum(each.n_bad for each in facts.values())
    listed = list(_list_bad(tables, facts))[:MAX_LISTED]
    manifest = {
        "rows": sum(each.n_rows for each in facts.values()),
        "rows_written": sum(each.n_written for each in facts.values()),
        "bad_rows": n_bad,
        "on_bad_row": plan.on_bad_row,
        **plan.values,
        **summarize(model, counts),
        "counts": counts.encode(),
        "parts": [
            {"table": tables[table].label, "number": number, "rows": each.n_written}
            for (table, number), each in sorted(facts.items())
        ],
        "first_bad_rows": listed,
    }
    write_json(folder / MANIFEST_FILE, manifest)
    return manifest


def tell_end(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the log says of a complete run: its counts, and the first bad cell if any."""
    names = ("rows", "rows_written", "bad_rows", "labels")
    first = manifest["first_bad_rows"][:1]
    return {name: manifest[name] for name in names} | (
        {"first_bad_cell": first[0]} if first else {}
    )


def _check_rows(
    tables: Sequence[Table], facts: Mapping[tuple[int, int], PartFacts]
) -> None:
    for number, table in enumerate(tables):
        parts = {part: each for (t, part), each in facts.items() if t == number}
        found = sum(each.n_rows for each in parts.values())
        is_whole = sorted(parts) == list(range(len(parts))) and parts
        if not is_whole or table.n_rows not in (None, found):
            raise TableError(
                f"{table.path}: the parts have {found} rows, not {table.n_rows}; remove the "
                "output folder, and score again"
            )


def _list_bad(
    tables: Sequence[Table], facts: Mapping[tuple[int, int], PartFacts]
) -> Iterator[dict[str, Any]]:
    for (table, _), each in sorted(facts.items()):
        for cell in each.bad_cells:
            yield {"table": tables[table].label, **asdict(cell)}
