"""What the user is told about a column of text: the decision, the evidence, the other choice."""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from training.data.cells import list_cells
from training.data.gaps import NUMBER_GAPS
from training.data.number_forms import Numbers

# Marks that some tables write for a gap, and others for a category, as many words are.
_DOUBTFUL_MARKS = ("?", "-", "--", "\u2013", "\u2014", ".", "..", "*", "_", ":")


def quote_toml(text: str) -> str:
    """Return a text, cut if it is long, as the schema file has it."""
    return json.dumps(text[:40], ensure_ascii=False)


def note_numbers(present: "pd.Series[Any]", numbers: Numbers) -> list[str]:
    """Say in which form a column, shape (n_rows,), has its numbers, and which cells are none."""
    notes = []
    if numbers.form:
        doubt = '; decimal = "," in the schema file reads them as decimal commas'
        notes.append(
            f"column {present.name!r}: {numbers.n_numbers:,} of {numbers.n_cells:,} cells are "
            f"numbers, with {numbers.form}, such as {numbers.example!r} for "
            f"{numbers.values[numbers.example]:.15g}: read as numbers"
            f"{doubt if numbers.is_ambiguous else ''}"
        )
    if numbers.others:
        broken = present.isin(numbers.others).to_numpy(dtype=bool)
        notes.append(
            f"column {present.name!r}: {int(broken.sum()):,} cells among {numbers.n_numbers:,} "
            f"numbers are none and count as gaps: {list_cells(present, broken)}"
        )
    return notes


def note_points(present: "pd.Series[Any]", example: str) -> str:
    """Say how a column, shape (n_rows,), is read whose points may separate thousands."""
    return (
        f"column {present.name!r}: {example!r} is read as {float(example):.15g}; decimal = "
        f'"," in the schema file reads it as {example.replace(".", "")}'
    )


def note_number_gaps(
    column: "pd.Series[Any]", gaps: Mapping[str, int]
) -> tuple[str, ...]:
    """Say which texts are gaps in a column of numbers, shape (n_rows,)."""
    if not gaps:
        return ()
    shown = ", ".join(f"{text!r} in {count:,} cells" for text, count in gaps.items())
    return (f"column {column.name!r}: gaps are written as {shown}",)


def note_gap(column: "pd.Series[Any]", text: str, count: int) -> str:
    """Say that a text counts as a gap in a column of text, shape (n_rows,), and what to do."""
    return (
        f"column {column.name!r}: {text!r} in {count:,} of {len(column):,} cells counts as a gap; "
        "if it is a category, set gaps = [] in the schema file"
    )


def note_doubtful(present: "pd.Series[Any]") -> list[str]:
    """Say which categories of a column of text, shape (n_rows,), may be gaps."""
    counts = present.value_counts()
    return [
        f"column {present.name!r}: {text!r} in {counts[text]:,} of {len(present):,} cells is a "
        f"category; if it is a gap, set gaps = [{quote_toml(text)}] in the schema file"
        for text in map(str, counts.index)
        if text in _DOUBTFUL_MARKS or text.casefold() in NUMBER_GAPS
    ]


def note_spaces(
    column: "pd.Series[Any]", trimmed: "pd.Series[Any]", present: "pd.Series[Any]"
) -> list[str]:
    """Say which cells of a column of text, shape (n_rows,), lost spaces at their ends."""
    changed = ((column != trimmed) & present.notna()).fillna(False).to_numpy(dtype=bool)
    if not changed.any():
        return []
    return [
        f"column {column.name!r}: spaces at the ends of {int(changed.sum())} cells are left out: "
        f"{list_cells(column, changed)}"
    ]
