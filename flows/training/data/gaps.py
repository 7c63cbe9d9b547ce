"""What a gap looks like in text: one rule for all columns and for the label."""

from typing import Any

import pandas as pd

from table_files.gap_words import GAP_WORDS
from training.data.cells import parse_numbers

GAPS = ("", *GAP_WORDS)
# Between numbers, these words are gaps too, as is all that has neither a letter nor a digit.
NUMBER_GAPS = (
    *("none", "missing", "unknown", "undefined", "empty", "blank", "not available"),
    *("na", "n.a.", "n/d", "n.d.", "k.a.", "nil", "nul", "null", "nan"),
    *("\\n", "(null)", "[null]", "<null>", "<none>", "(blank)"),
    # What Excel and Windows write for a number that could not be computed.
    *("#div/0!", "#value!", "#ref!", "#num!", "#name?", "#null!", "1.#qnan", "1.#ind"),
)


def list_gaps(stated: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the texts that are gaps, given those of the schema file; None if it has none."""
    return GAPS if stated is None else ("", *stated)


def is_number_gap(text: str) -> bool:
    """Return whether a text among numbers stands for a gap, as "-", "?" and "unknown" do."""
    return text.casefold() in NUMBER_GAPS or not any(map(str.isalnum, text))


def clear_numbers(column: "pd.Series[Any]", gaps: tuple[str, ...]) -> "pd.Series[Any]":
    """Make gaps of the cells that the schema file calls so in a column that is not text."""
    if not gaps or not pd.api.types.is_numeric_dtype(column):
        return column
    return column.mask(column.isin(parse_numbers(pd.Series(gaps)).dropna()))


def trim(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return a column of text, shape (n_rows,), without the spaces at both ends of its cells."""
    return column.str.strip()


def clear_gaps(
    column: "pd.Series[Any]", gaps: tuple[str, ...]
) -> tuple["pd.Series[Any]", dict[str, int]]:
    """Make gaps of the cells that stand for one.

    Parameters
    ----------
    column : Series of str, shape (n_rows,)
        Trimmed text.
    gaps : tuple of str
        Texts that stand for a gap.

    Returns
    -------
    Series of str, shape (n_rows,)
        The column; missing where there is a gap.
    dict of str to int
        How many cells had each text, most frequent first; empty cells are not counted.
    """
    is_gap = column.isin(gaps)
    counts = column[is_gap].value_counts()
    shown = {str(text): int(count) for text, count in counts.items() if text != ""}
    return (column.mask(is_gap) if is_gap.any() else column), shown
