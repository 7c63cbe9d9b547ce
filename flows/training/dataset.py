"""Rows that the rest of training relies on: plain numbers, classes by position, a hold-out.

Every check of content is here; who gets a `Dataset` need not check again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.errors import DataError
from training.inference import infer
from training.schema import Feature, Schema
from training.schema_file import Override
from training.sources import RawTable, read_source
from training.tables import to_matrix

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

INT32 = np.iinfo(np.int32)
NO_OVERRIDES: Mapping[str, Override] = MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """A data set that classifiers can learn from.

    Parameters
    ----------
    name : str
        Short name of its source.
    sha256 : str
        Digest of its source in lower-case hexadecimal digits.
    schema : Schema
        Its columns and classes.
    X : ndarray or csr_matrix of float64, shape (n_rows, n_features)
        C-order; finite, or NaN where missing, see `training.tables`.
    y : ndarray of int64, shape (n_rows,)
        Position of each row's label in the class labels.
    dropped : mapping of str to str
        Why columns of the source are not among the features, by name.
    notes : tuple of str
        What else a user should know of how the table was read.
    """

    name: str
    sha256: str
    schema: Schema
    X: "NDArray[np.float64] | csr_matrix"
    y: NDArray[np.int64]
    dropped: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Row numbers of the two parts of a data set, ascending."""

    train: NDArray[np.int64]
    holdout: NDArray[np.int64]


def load_dataset(
    source: str, target: str, overrides: Mapping[str, Override] = NO_OVERRIDES
) -> Dataset:
    """Load a data set and check that classifiers can learn from it.

    Parameters
    ----------
    source : str
        "breast_cancer" or a path, see `training.sources.read_source`.
    target : str
        Name of the label column.
    overrides : mapping of str to Override
        What the user says of columns; of the others it is inferred.

    Raises
    ------
    DataError
        If a cell does not fit its column, no column can be learned from, or the labels are missing,
        fewer than two or no classes.
    """
    table = read_source(source, target)
    y, class_labels = _encode_labels(table.labels)
    if not isinstance(table.features, pd.DataFrame):
        return _load_sparse(table, y, class_labels, overrides)
    table.features.columns = table.features.columns.map(str)
    inferred = infer(table.features, overrides)
    X = to_matrix(table.features, inferred.features)
    schema = Schema(inferred.features, class_labels)
    return Dataset(
        table.name, table.sha256, schema, X, y, inferred.dropped, inferred.notes
    )


def _load_sparse(
    table: RawTable,
    y: NDArray[np.int64],
    class_labels: tuple[int, ...] | tuple[str, ...],
    overrides: Mapping[str, Override],
) -> Dataset:
    if overrides:
        raise DataError(
            f"schema: {next(iter(overrides))!r} is no column of {table.name}, whose columns "
            "have no names and are all numeric"
        )
    X = _check_sparse(table)
    features = tuple(Feature(f"f{number}") for number in range(X.shape[1]))
    schema = Schema(features, class_labels, is_sparse=True)
    return Dataset(table.name, table.sha256, schema, X, y)


def split_holdout(
    dataset: Dataset, test_fraction: float, n_folds: int, seed: int
) -> Split:
    """Draw the hold-out, with each class in its share.

    Parameters
    ----------
    dataset : Dataset
        Data set to split.
    test_fraction : float
        Share of the hold-out, (0, 1).
    n_folds : int
        Folds that the rest is to be searched with: each class needs as many rows. At least 2.
    seed : int
        Seed of the draw.

    Raises
    ------
    DataError
        If a class has too few rows for the hold-out and the folds.
    """
    from sklearn.model_selection import train_test_split

    _check_split_parameters(test_fraction, n_folds)
    _check_no_class_of_one_row(dataset)
    rows = np.arange(len(dataset.y))
    try:
        train, holdout = train_test_split(
            rows, test_size=test_fraction, random_state=seed, stratify=dataset.y
        )
    except ValueError as error:
        raise DataError(
            f"a hold-out of {test_fraction:g} cannot be drawn: {error}"
        ) from None
    split = Split(np.sort(train), np.sort(holdout))
    _check_rows_per_class(dataset, split, n_folds)
    return split


def _check_split_parameters(test_fraction: float, n_folds: int) -> None:
    if not 0 < test_fraction < 1:
        raise DataError(
            f"--test_fraction is {test_fraction:g}; it has to be between 0 and 1"
        )
    if n_folds < 2:
        raise DataError(f"--folds is {n_folds}; it has to be 2 or more")


def _check_no_class_of_one_row(dataset: Dataset) -> None:
    rarest = int(np.bincount(dataset.y).argmin())
    if (dataset.y == rarest).sum() < 2:
        raise DataError(
            f"class {dataset.schema.class_labels[rarest]!r} has 1 row; it needs one in the hold-out"
            " and one for each fold, so bring more rows of it or drop it"
        )


def _check_rows_per_class(dataset: Dataset, split: Split, n_folds: int) -> None:
    n_classes = len(dataset.schema.class_labels)
    in_train = np.bincount(dataset.y[split.train], minlength=n_classes)
    in_holdout = np.bincount(dataset.y[split.holdout], minlength=n_classes)
    rarest = int(in_train.argmin())
    label = dataset.schema.class_labels[rarest]
    if in_train[rarest] < n_folds:
        raise DataError(
            f"class {label!r} has {in_train[rarest] + in_holdout[rarest]} rows, "
            f"{in_train[rarest]} of them outside the hold-out, for {n_folds} folds; lower --folds "
            "or --test_fraction, or bring more rows"
        )
    if not in_holdout.all():
        absent = dataset.schema.class_labels[int(in_holdout.argmin())]
        raise DataError(
            f"class {absent!r} has no row in the hold-out; raise --test_fraction or bring rows"
        )


def _encode_labels(
    labels: pd.Series,
) -> tuple[NDArray[np.int64], tuple[int, ...] | tuple[str, ...]]:
    n_missing = int(labels.isna().sum())
    if n_missing:
        first = int(labels.isna().to_numpy().argmax()) + 1
        raise DataError(
            f"the label is missing in {n_missing} rows, first in row {first}; drop or fill them"
        )
    values, y = np.unique(_normalize_labels(labels), return_inverse=True)
    if len(values) < 2:
        only = f"only the class {values[0]!s}" if len(values) else "no row"
        raise DataError(f"the label column has {only}; two classes or more are needed")
    return y.astype(np.int64), tuple(values.tolist())


def _normalize_labels(labels: pd.Series) -> NDArray[np.int64] | NDArray[np.str_]:
    """Return integers for integers, truth values and integral floats, else text."""
    if pd.api.types.is_bool_dtype(labels) or pd.api.types.is_integer_dtype(labels):
        return _check_int32(labels.to_numpy())
    if pd.api.types.is_float_dtype(labels):
        values = labels.to_numpy(dtype=np.float64)
        broken = ~np.isfinite(values) | (values != np.floor(values))
        if broken.any():
            row = int(broken.argmax())
            raise DataError(
                f"the label of row {row + 1} is {values[row]:g}; labels are classes, integers or "
                "text. This system trains classifiers, not regressions"
            )
        return _check_int32(values)
    if pd.api.types.is_datetime64_any_dtype(labels):
        raise DataError("the label column holds dates; labels are integers or text")
    return labels.astype(str).to_numpy(dtype=np.str_)


def _check_int32(values: NDArray[Any]) -> NDArray[np.int64]:
    """Return whole numbers as integers; checked before the cast, which would wrap them around."""
    outside = (values < INT32.min) | (values > INT32.max)
    if outside.any():
        raise DataError(
            f"the label {values[outside.argmax()]} is outside [{INT32.min}, {INT32.max}]; use text"
        )
    return values.astype(np.int64)


def _check_sparse(table: RawTable) -> "csr_matrix":
    X = table.features
    assert not isinstance(X, pd.DataFrame)
    if 0 in X.shape:
        raise DataError("the file has no rows or no features")
    if not np.isfinite(X.data).all():
        raise DataError("the file has a value that is not finite")
    return X.astype(np.float64)
