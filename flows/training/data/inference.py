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

Of more than `N_KEPT_CATEGORIES` categories with few rows each, the model gets target means: the
share of each class among the rows of a category, drawn to the share among all rows. A weight, a
group or a time of the rows rules them out, since `sklearn.preprocessing.TargetEncoder` knows none.
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
from training.data.schema import TEMPORAL, WITH_CATEGORIES, Feature, Kind
from training.data.schema_file import DROP, REFUSE, Override
from training.data.stored_table import Table
from training.errors import DataError
from training.text import quote_list

N_KEPT_CATEGORIES = 100
MAX_CATEGORIES = 1000
# Fewest rows a category from which categories as such give the better model. Chosen on tables of
# 100 to 3,000 names: means are better at 3 and 7 rows a name, even at 15, and worse at 30.
MIN_ROWS_PER_CATEGORY = 10
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
        Columns to learn from, in the order of `Kind`; within a kind in the table's order.
    dropped : mapping of str to str
        Reasons for dropping the other columns, by column.
    notes : tuple of str
        Further remarks for the user.
    """

    features: tuple[Feature, ...]
    dropped: Mapping[str, str]
    notes: tuple[str, ...]


def infer(
    frame: Table,
    overrides: Mapping[str, Override],
    *,
    may_use_means: bool = True,
) -> Inferred:
    """Decide the kind of each column of a table.

    Parameters
    ----------
    frame : DataFrame or StoredTable, shape (n_rows, n_columns)
        Table without its label.
    overrides : mapping of str to Override
        The user's settings, by column.
    may_use_means : bool, default=True
        Whether target means are allowed: each row counts once, and no group or time rules splits.

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
    limits = _share_categories(frame, overrides, may_use_means)
    features: list[Feature] = []
    dropped: dict[str, str] = {}
    notes: list[str] = []
    problems: list[str] = []
    for name in map(str, frame.columns):
        try:
            column, override = frame[name], overrides.get(name, Override())
            kind, reason = _find_kind(column, override)
            if kind is None:
                dropped[name] = reason
                continue
            feature, remarks = _describe(column, kind, override, limits)
            features.append(_keep_settings(feature, overrides))
            notes += remarks
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


@dataclass(frozen=True, slots=True)
class _Limits:
    """How many categories a column may have.

    Parameters
    ----------
    share : int
        Its share of the table's categories, which limits columns of target means.
    may_use_means : bool
        As in `infer`.
    """

    share: int
    may_use_means: bool

    @property
    def as_such(self) -> int:
        """The limit for a column whose categories the model gets as such."""
        return min(self.share, MAX_CATEGORIES)


def _share_categories(
    frame: Table, overrides: Mapping[str, Override], may_use_means: bool
) -> _Limits:
    """Return the largest number of categories of a column."""
    # Columns that were found to hold dates have their kind too.
    n_columns = sum(
        overrides.get(str(name), Override()).kind in ("", *WITH_CATEGORIES)
        and not pd.api.types.is_numeric_dtype(dtype)
        for name, dtype in frame.dtypes.items()
    )
    share = MAX_SHARED_CATEGORIES // max(n_columns, 1)
    return _Limits(max(share, N_KEPT_CATEGORIES), may_use_means)


def _keep_settings(feature: Feature, overrides: Mapping[str, Override]) -> Feature:
    """Return a column with the user's settings for reading and for logging it."""
    override = overrides.get(feature.name, Override())
    return replace(
        feature,
        gaps=override.gaps,
        decimal=override.decimal,
        redaction=override.log,
    )


def _check_names(frame: Table, overrides: Mapping[str, Override]) -> None:
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
    if isinstance(dtype, pd.CategoricalDtype) and not present.is_unique:
        return Kind.CATEGORICAL, ""
    if isinstance(dtype, pd.CategoricalDtype):
        return None, "it is an identifier: no two rows have the same category"
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
    column: "pd.Series[Any]", kind: Kind, override: Override, limits: _Limits
) -> tuple[Feature, list[str]]:
    """Describe a column of a known kind; the second value are notes for the user."""
    name, nullable = str(column.name), bool(column.isna().any())
    if kind == Kind.BOOLEAN:
        read_booleans(column)
    if kind == Kind.NUMERIC and pd.api.types.is_float_dtype(column):
        refuse_marks(column)
    if kind in WITH_CATEGORIES:
        return _describe_categories(column, kind, override, limits)
    _refuse_policy(name, override)
    if kind in TEMPORAL:
        return _describe_dates(column, kind, override.format), []
    is_guess = kind == Kind.NUMERIC and not override.kind
    numbers = unpack(column).dropna().to_numpy() if is_guess else None
    note = "" if numbers is None else note_row_names(name, numbers)
    return Feature(name, kind, nullable), [note] if note else []


def _describe_categories(
    column: "pd.Series[Any]", kind: Kind, override: Override, limits: _Limits
) -> tuple[Feature, list[str]]:
    """Describe a column of categories, and decide whether the model gets target means."""
    name, counts = str(column.name), _count_categories(column)
    if kind == Kind.MEANS and not limits.may_use_means:
        raise DataError(
            f'schema: {name!r} cannot be of kind "means" with --weight, --group or --time, '
            'or many classes; set kind = "categorical"'
        )
    notes = []
    if not override.kind and limits.may_use_means and _are_rare(counts):
        kind = Kind.MEANS
        notes.append(_note_means(name, counts))
    is_means, is_refused = kind == Kind.MEANS, override.unknown == REFUSE
    limit = limits.share if is_means else limits.as_such
    categories, note = _keep_categories(name, counts, is_refused, limit)
    nullable = bool(column.isna().any())
    feature = Feature(name, kind, nullable, categories, is_refused)
    return feature, [*notes, *([note] if note else [])]


def _are_rare(counts: "pd.Series[int]") -> bool:
    """Return whether there are many categories with few rows each."""
    n_categories = len(counts)
    is_many = n_categories > N_KEPT_CATEGORIES
    return is_many and counts.sum() < MIN_ROWS_PER_CATEGORY * n_categories


def _note_means(name: str, counts: "pd.Series[int]") -> str:
    return (
        f"column {name!r} has {len(counts):,} categories with {counts.mean():.1f} rows each on "
        "average: the model gets the share of each class among a category's rows; kind = "
        '"categorical" in the schema file gives it the categories'
    )


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


def _count_categories(column: "pd.Series[Any]") -> "pd.Series[int]":
    """Return the number of rows of each category, the most frequent first."""
    column = unpack(column)
    present = column.dropna()
    if pd.api.types.is_numeric_dtype(column):
        check_whole_numbers(column)
        present = present.astype("int64")
    else:
        check_text(column)
    # Ties in frequency go by value, so that the order of the rows does not matter.
    return (
        present.value_counts().sort_index().sort_values(ascending=False, kind="stable")
    )


def _keep_categories(
    name: str, counts: "pd.Series[int]", is_refused: bool, max_categories: int
) -> tuple[tuple[str, ...] | tuple[int, ...], str]:
    """Return the categories that the model knows, and a note on the others, or an empty text."""
    if is_refused and len(counts) > max_categories:
        raise DataError(
            f'schema: {name!r} has {len(counts)} categories; unknown = "refuse" allows '
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
        f"column {name!r} has {len(counts)} categories; the {len(rare)} rarest, in "
        f"{rare.sum()} rows, count as missing"
    )
