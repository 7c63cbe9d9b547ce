"""Decides the kind of each column: by its cells, or by the user's settings.

The rules, in the order in which they are tried:

- A column without a value, or with the same value in every row, is dropped.
- Truth values are boolean. A column of pandas' categorical type is categorical.
- Dates and times are of a kind of their own: `training.data.date_forms` has found them before, with
  their form. Durations are an error, because only the user knows their meaning to a model.
- Whole numbers that name the rows are dropped, see `training.data.identifiers`. All other numbers
  are numeric.
- Text is dropped as an identifier if no two cells are alike; otherwise it is categorical. Text that
  holds numbers is none any more: `training.data.text_columns` has read it.

A categorical column has its `N_KEPT_CATEGORIES` most frequent categories, and beyond these, up to
`MAX_CATEGORIES`, those of several rows. All others count as missing in training. The server treats
them as missing too, unless the schema file says "refuse".
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from date_columns.forms import ISO_DATE, ISO_TIME, DateForm
from training.data.cells import (
    check_plain,
    check_text,
    check_whole_numbers,
    read_booleans,
    refuse_marks,
    unpack,
)
from training.data.date_features import choose_parts, read_dates
from training.data.dates import is_temporal
from training.data.identifiers import find_row_names, note_row_names
from training.data.schema import TEMPORAL, Feature, Kind
from training.data.schema_file import DROP, REFUSE, Override
from training.errors import DataError
from training.text import quote_list

N_KEPT_CATEGORIES = 100
MAX_CATEGORIES = 1000
# The columns of a table share this many categories, so that a reply with the schema stays below the
# 4 MiB that gRPC's clients take by default.
MAX_SHARED_CATEGORIES = 20_000
WAYS_OUT = (
    "convert it to what matters, such as days since an event, or set its kind in the file of "
    '--config schema: kind = "categorical" or "drop"'
)


@dataclass(frozen=True, slots=True)
class Inferred:
    """The columns of a table, with their kinds.

    Parameters
    ----------
    features : tuple of Feature
        Columns to learn from: numeric, boolean, dates, times, then categorical; within a kind in
        the table's order.
    dropped : mapping of str to str
        Reasons for dropping the other columns, by column.
    notes : tuple of str
        Further remarks for the user.
    """

    features: tuple[Feature, ...]
    dropped: Mapping[str, str]
    notes: tuple[str, ...]


def infer(frame: pd.DataFrame, overrides: Mapping[str, Override]) -> Inferred:
    """Decide the kind of each column of a table.

    Parameters
    ----------
    frame : DataFrame, shape (n_rows, n_columns)
        Table without its label.
    overrides : mapping of str to Override
        The user's settings, by column.

    Returns
    -------
    Inferred
        The columns to learn from, and the others with reasons.

    Raises
    ------
    DataError
        If a column does not fit its kind, or no column is left. All such columns are named.
    """
    _check_names(frame, overrides)
    max_categories = _share_categories(frame)
    features: list[Feature] = []
    dropped: dict[str, str] = {}
    notes: list[str] = []
    problems: list[str] = []
    for name in map(str, frame.columns):
        try:
            kind, reason = _find_kind(frame[name], overrides.get(name, Override()))
            if kind is None:
                dropped[name] = reason
                continue
            feature, note = _describe(
                frame[name], kind, overrides.get(name, Override()), max_categories
            )
            features.append(_keep_settings(feature, overrides))
            notes += [note] if note else []
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("; ".join(problems))
    if not features:
        reasons = "; ".join(f"{name}: {dropped[name]}" for name in dropped)
        raise DataError(f"no column is left to learn from. {reasons}".rstrip())
    order = list(Kind)
    features.sort(key=lambda feature: order.index(feature.kind))
    return Inferred(tuple(features), dropped, tuple(notes))


def _share_categories(frame: pd.DataFrame) -> int:
    """Return the largest number of categories of a column."""
    n_columns = sum(not pd.api.types.is_numeric_dtype(dtype) for dtype in frame.dtypes)
    share = MAX_SHARED_CATEGORIES // max(n_columns, 1)
    return min(max(share, N_KEPT_CATEGORIES), MAX_CATEGORIES)


def _keep_settings(feature: Feature, overrides: Mapping[str, Override]) -> Feature:
    """Return a column with the user's settings for reading it, for the schema file of the run."""
    override = overrides.get(feature.name, Override())
    return replace(feature, gaps=override.gaps, decimal=override.decimal)


def _check_names(frame: pd.DataFrame, overrides: Mapping[str, Override]) -> None:
    if frame.shape[1] == 0:
        raise DataError("the table has no column beside the label")
    if frame.shape[0] == 0:
        raise DataError("the table has a header and no rows")
    unknown = sorted(set(overrides) - set(map(str, frame.columns)))
    if unknown:
        raise DataError(
            f"schema: the table has no column {unknown[0]!r}; its columns are "
            f"{quote_list(frame.columns)}"
        )


def _find_kind(column: "pd.Series[Any]", override: Override) -> tuple[Kind | None, str]:
    """Return the kind of a column, or None and the reason for dropping it."""
    if override.kind == DROP:
        return None, "the schema file says so"
    check_plain(column)
    present = column.dropna()
    if present.empty:
        return None, "it has no value"
    if len(present) == len(column) and (present == present.iloc[0]).all():
        return None, f"every row has {present.iloc[0]!s:.40}"
    if is_temporal(column) and override.kind not in TEMPORAL:
        raise DataError(
            f"column {column.name!r} holds dates or durations, such as {present.iloc[0]}; "
            f"{WAYS_OUT}"
        )
    if override.kind:
        return Kind(override.kind), ""
    return _guess(column, present)


def _guess(
    column: "pd.Series[Any]", present: "pd.Series[Any]"
) -> tuple[Kind | None, str]:
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return Kind.CATEGORICAL, ""
    if pd.api.types.is_bool_dtype(present.infer_objects()):
        return Kind.BOOLEAN, ""
    if pd.api.types.is_numeric_dtype(dtype):
        return _guess_numbers(column, present)
    return _guess_text(column, present)


def _guess_numbers(
    column: "pd.Series[Any]", present: "pd.Series[Any]"
) -> tuple[Kind | None, str]:
    values = present.to_numpy()
    reason = find_row_names(str(column.name), values)
    return (None, reason) if reason else (Kind.NUMERIC, "")


def _guess_text(
    column: "pd.Series[Any]", present: "pd.Series[Any]"
) -> tuple[Kind | None, str]:
    check_text(column)
    if present.is_unique:
        return None, "it is an identifier: no two rows have the same text"
    return Kind.CATEGORICAL, ""


def _describe(
    column: "pd.Series[Any]", kind: Kind, override: Override, max_categories: int
) -> tuple[Feature, str]:
    """Describe a column of a known kind; the second value is a note for the user, or empty."""
    name, nullable = str(column.name), bool(column.isna().any())
    if kind == Kind.BOOLEAN:
        read_booleans(column)
    if kind == Kind.NUMERIC and pd.api.types.is_float_dtype(column):
        refuse_marks(column)
    if kind != Kind.CATEGORICAL:
        _refuse_policy(name, override)
    if kind in TEMPORAL:
        return _describe_dates(column, kind, override.format), ""
    if kind != Kind.CATEGORICAL:
        is_guess = kind == Kind.NUMERIC and not override.kind
        numbers = unpack(column).dropna().to_numpy() if is_guess else None
        note = "" if numbers is None else note_row_names(name, numbers)
        return Feature(name, kind, nullable), note
    is_refused = override.unknown == REFUSE
    categories, note = _find_categories(column, is_refused, max_categories)
    return Feature(name, kind, nullable, categories, is_refused), note


def _describe_dates(column: "pd.Series[Any]", kind: Kind, format_: str) -> Feature:
    form = DateForm(kind, format_ or (ISO_DATE if kind == Kind.DATE else ISO_TIME))
    parts = choose_parts(form, read_dates(column, form))
    nullable = bool(column.isna().any())
    return Feature(str(column.name), kind, nullable, format=form.format, parts=parts)


def _refuse_policy(name: str, override: Override) -> None:
    if override.unknown:
        raise DataError(
            f"schema: {name!r} is not categorical, so it takes no unknown; remove it, or add "
            'kind = "categorical"'
        )


def _find_categories(
    column: "pd.Series[Any]", is_refused: bool, max_categories: int
) -> tuple[tuple[str, ...] | tuple[int, ...], str]:
    column = unpack(column)
    present = column.dropna()
    if pd.api.types.is_numeric_dtype(column):
        check_whole_numbers(column)
        present = present.astype("int64")
    else:
        check_text(column)
    # Ties in frequency go by value, so that the order of the rows does not matter.
    counts = (
        present.value_counts().sort_index().sort_values(ascending=False, kind="stable")
    )
    if is_refused and len(counts) > max_categories:
        raise DataError(
            f'schema: {column.name!r} has {len(counts)} categories; unknown = "refuse" allows '
            f"{max_categories}, since none of them can be left out"
        )
    # A category of one row tells nothing of other rows.
    n_repeated = int((counts > 1).sum())
    n_kept = min(max(n_repeated, N_KEPT_CATEGORIES), max_categories)
    n_kept = len(counts) if is_refused else n_kept
    kept, rare = sorted(counts.index[:n_kept].tolist()), counts.iloc[n_kept:]
    if rare.empty:
        return tuple(kept), ""
    return tuple(kept), (
        f"column {column.name!r} has {len(counts)} categories; the {len(rare)} rarest, in "
        f"{rare.sum()} rows, count as missing"
    )
