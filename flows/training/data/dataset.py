"""Data sets that classifiers can learn from: features as doubles, labels as codes.

All checks of a table's content happen here, so code that takes a `Dataset` need not check again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.data.cells import LARGEST
from training.data.columns import read_columns
from training.data.disk import Scratch
from training.data.encoding import store_matrix, to_matrix
from training.data.inference import infer
from training.data.roles import RoleNames, take_roles
from training.data.schema import Feature, Schema
from training.data.schema_file import Override
from training.data.served_limits import check_columns, check_labels
from training.data.sources import MAX_SPARSE_COLUMNS, RawTable, read_source
from training.data.stored_table import Table, take_rows
from training.data.text_columns import read_label
from training.errors import DataError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

INT32 = np.iinfo(np.int32)
# Classes up to which a category may be given by the share of each among its rows.
MAX_MEANS_CLASSES = 10
# The server's own limit.
MAX_SERVED_COLUMNS = 100_000


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """The user's settings for a table, beside its label.

    Parameters
    ----------
    overrides : mapping of str to Override
        The user's settings for columns, by column.
    roles : RoleNames
        Columns that steer training and are not features.
    strict : bool
        Whether a missing label is an error. By default its row is left out.
    """

    overrides: Mapping[str, Override] = field(default_factory=dict)
    roles: RoleNames = RoleNames()
    strict: bool = False


NO_OPTIONS = LoadOptions()


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """A data set that classifiers can learn from.

    Parameters
    ----------
    name : str
        Short name of its source.
    sha256 : str
        SHA-256 of its source in lower-case hexadecimal digits.
    schema : Schema
        Its columns and classes.
    X : ndarray or csr_matrix of float64, shape (n_rows, n_features)
        Features: finite, or NaN where missing, see `training.data.encoding`. In C-order, or mapped
        from a file in Fortran order.
    y : ndarray of int64, shape (n_rows,)
        Codes of the labels: positions in the class labels.
    weight : ndarray of float64, shape (n_rows,), or None
        How much each row counts in fits, 0 or more.
    group : ndarray of int64, shape (n_rows,), or None
        Number of each row's group; a group is never on both sides of a split.
    dropped : mapping of str to str
        Reasons for dropping columns of the source, by column.
    notes : tuple of str
        Further remarks for the user.
    """

    name: str
    sha256: str
    schema: Schema
    X: "NDArray[np.float64] | csr_matrix"
    y: NDArray[np.int64]
    weight: NDArray[np.float64] | None = None
    group: NDArray[np.int64] | None = None
    dropped: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def load_dataset(
    source: str,
    target: str,
    options: LoadOptions = NO_OPTIONS,
    scratch: Scratch | None = None,
) -> Dataset:
    """Load a data set and check that classifiers can learn from it.

    Parameters
    ----------
    source : str
        Name of the embedded data set or a path, see `training.data.sources.read_source`.
    target : str
        Name of the label column.
    options : LoadOptions
        The user's other settings for the table.
    scratch : Scratch, optional
        Where a large table is kept while it is read. The data set is the same in every bit; its
        features are then mapped from a file of the folder. Without it, all is in memory.

    Returns
    -------
    Dataset
        Its rows, sorted by time if the options name a column of times.

    Raises
    ------
    DataError
        If the source cannot be read, a cell does not fit its column, no column is left to learn
        from, or the labels are not two classes or more.
    """
    table = read_source(source, target, scratch)
    if not isinstance(table.features, Table):
        return _load_sparse(table, options)
    overrides, gaps = _split_off_label(options.overrides, target)
    frame, overrides, notes = read_columns(
        table.features, overrides, options.roles.names, scratch
    )
    label = read_label(table.labels, gaps)
    frame, labels, left_out = _drop_unlabelled(frame, label.cells, options.strict)
    roles = take_roles(frame, options.roles)
    if roles.order is not None:
        frame = take_rows(frame, roles.order)
        labels = labels.iloc[roles.order]
    y, class_labels = _encode_labels(labels)
    are_plain = not options.roles.names and len(class_labels) <= MAX_MEANS_CLASSES
    inferred = infer(frame, overrides, may_use_means=are_plain)
    schema = Schema(inferred.features, class_labels)
    check_columns(schema)
    return Dataset(
        name=table.name,
        sha256=table.sha256,
        schema=schema,
        X=_encode(frame, inferred.features, scratch),
        y=y,
        weight=roles.weight,
        group=roles.group,
        dropped=inferred.dropped,
        notes=(
            *table.notes,
            *notes,
            *label.notes,
            *left_out,
            *roles.notes,
            *inferred.notes,
        ),
    )


def _encode(
    frame: Table, features: tuple[Feature, ...], scratch: Scratch | None
) -> NDArray[np.float64]:
    if isinstance(frame, pd.DataFrame):
        return to_matrix(frame, features)
    assert scratch is not None
    return store_matrix(frame, features, scratch.folder / "columns.npy")


def _split_off_label(
    overrides: Mapping[str, Override], target: str
) -> tuple[dict[str, Override], tuple[str, ...] | None]:
    """Return the settings of all columns but the label, and what the label's gaps are."""
    others = dict(overrides)
    label = others.pop(target, Override())
    if label != Override(gaps=label.gaps):
        raise DataError(
            f"schema: {target!r} is the label, which takes gaps only; remove the other keys"
        )
    return others, label.gaps


def _drop_unlabelled(
    frame: Table, labels: "pd.Series[Any]", strict: bool
) -> tuple[Table, "pd.Series[Any]", list[str]]:
    """Leave out rows without a label; the list has a note on them, if there are any."""
    is_missing = labels.isna().to_numpy()
    if not is_missing.any():
        return frame, labels, []
    count, first = int(is_missing.sum()), int(is_missing.argmax()) + 1
    if strict:
        raise DataError(
            f"the label is missing in {count} rows, first in row {first}; fill it, drop the rows, "
            "or leave --strict out"
        )
    note = f"{count} rows have no label, first row {first}; they are left out"
    kept = np.flatnonzero(~is_missing)
    return take_rows(frame, kept), labels.iloc[kept], [note]


def _load_sparse(table: RawTable, options: LoadOptions) -> Dataset:
    named = (*options.overrides, *options.roles.names)
    if named:
        raise DataError(
            f"{table.name} has no column {named[0]!r}: the columns of an svmlight file have no "
            "names and are all numeric; leave it out"
        )
    X = _check_sparse(table)
    y, class_labels = _encode_labels(table.labels)
    features = tuple(Feature(f"f{number}") for number in range(X.shape[1]))
    schema = Schema(features, class_labels, is_sparse=True)
    notes = _note_width(X.shape[1])
    return Dataset(table.name, table.sha256, schema, X, y, notes=notes)


def _note_width(n_columns: int) -> tuple[str, ...]:
    if n_columns <= MAX_SERVED_COLUMNS:
        return ()
    return (
        f"{n_columns:,} columns; the server takes models of up to {MAX_SERVED_COLUMNS:,}",
    )


def _encode_labels(
    labels: pd.Series,
) -> tuple[NDArray[np.int64], tuple[int, ...] | tuple[str, ...]]:
    values, y = np.unique(normalize_labels(labels), return_inverse=True)
    if len(values) < 2:
        only = f"only the class {values.tolist()[0]!r}" if len(values) else "no row"
        raise DataError(f"the label column has {only}; two classes or more are needed")
    check_labels(tuple(values.tolist()))
    return y.astype(np.int64), tuple(values.tolist())


def normalize_labels(labels: pd.Series) -> NDArray[np.int64] | NDArray[np.str_]:
    """Return integers for integers, truth values and whole floats; text for all others.

    Parameters
    ----------
    labels : Series, shape (n_rows,)
        Labels as `read_label` returns them, without gaps.

    Returns
    -------
    ndarray of int64 or str, shape (n_rows,)
        The classes that a model names its answers with.

    Raises
    ------
    DataError
        If a label is a fraction, a date, or too large for an integer of 32 bits.
    """
    if pd.api.types.is_bool_dtype(labels) or pd.api.types.is_integer_dtype(labels):
        return _check_int32(labels.to_numpy())
    if pd.api.types.is_float_dtype(labels):
        values = labels.to_numpy(dtype=np.float64)
        broken = ~np.isfinite(values) | (values != np.floor(values))
        if broken.any():
            row = int(broken.argmax())
            raise DataError(
                f"the label of row {labels.index[row] + 1} is {values[row]:g}; labels are classes, "
                "integers or text. This system trains classifiers, not regressions"
            )
        return _check_int32(values)
    if pd.api.types.is_datetime64_any_dtype(labels):
        raise DataError("the label column holds dates; labels are integers or text")
    return labels.astype(str).to_numpy(dtype=np.str_)


def _check_int32(values: NDArray[Any]) -> NDArray[np.int64]:
    """Return whole numbers as integers; the check comes first, because the cast wraps around."""
    outside = (values < INT32.min) | (values > INT32.max)
    if outside.any():
        raise DataError(
            f"the label {values[outside.argmax()]} is outside [{INT32.min}, {INT32.max}]; use text"
        )
    return values.astype(np.int64)


def _check_sparse(table: RawTable) -> "csr_matrix":
    X = table.features
    assert not isinstance(X, Table)
    if 0 in X.shape:
        raise DataError("the file has no rows or no features")
    if X.shape[1] > MAX_SPARSE_COLUMNS:
        raise DataError(
            f"{table.name} has indices up to {X.shape[1]:,}; the limit is {MAX_SPARSE_COLUMNS:,} "
            "columns. Hash to fewer, or number the columns that occur without holes"
        )
    if not np.isfinite(X.data).all():
        raise DataError("the file has a value that is not finite")
    if (np.abs(X.data) > LARGEST).any():
        raise DataError(
            f"the file has a value beyond {LARGEST:g}, such as {np.abs(X.data).max():.15g}; leave "
            "it out if it stands for a gap"
        )
    return X.astype(np.float64)
