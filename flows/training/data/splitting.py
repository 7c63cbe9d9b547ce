"""Who learns and who is scored: the hold-out, and the folds of the rest.

Rows are drawn with each class in its share; or whole groups are; or they are cut by time, where
what is scored is always later than what is learned from.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import (
    StratifiedGroupKFold,
    StratifiedKFold,
    TimeSeriesSplit,
    train_test_split,
)

from training.data.dataset import Dataset
from training.data.rows import Rows
from training.errors import DataError

Folds = tuple[tuple[NDArray[np.int64], NDArray[np.int64]], ...]


class Splitting(StrEnum):
    """How rows are split."""

    # Drawn, with each class in its share.
    STRATIFIED = "stratified"
    # Drawn by group, with each class about in its share.
    GROUPED = "grouped"
    # Cut by time: the rows are in its order.
    TIMED = "timed"


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Row numbers of the two parts of a data set, ascending."""

    train: NDArray[np.int64]
    holdout: NDArray[np.int64]


def split_holdout(
    dataset: Dataset,
    test_fraction: float,
    n_folds: int,
    seed: int,
    splitting: Splitting = Splitting.STRATIFIED,
) -> Split:
    """Set the hold-out apart.

    Parameters
    ----------
    dataset : Dataset
        Data set to split.
    test_fraction : float
        Share of the hold-out, (0, 1); about, where it is made of whole groups.
    n_folds : int
        Folds that the rest is to be searched with: each class needs as many rows. At least 2.
    seed : int
        Seed of the draw.
    splitting : Splitting
        How.

    Raises
    ------
    DataError
        If a class has too few rows, or there are too few groups, for the hold-out and the folds.
    """
    _check_split_parameters(test_fraction, n_folds)
    _check_no_class_of_one_row(dataset)
    match splitting:
        case Splitting.STRATIFIED:
            split = _draw_rows(dataset, test_fraction, seed)
        case Splitting.GROUPED:
            split = _draw_groups(dataset, test_fraction, n_folds, seed)
        case Splitting.TIMED:
            n_train = int(len(dataset.y) * (1 - test_fraction))
            rows = np.arange(len(dataset.y))
            split = Split(rows[:n_train], rows[n_train:])
    _check_rows_per_class(dataset, split, n_folds)
    return split


def make_folds(rows: Rows, n_folds: int, seed: int, splitting: Splitting) -> Folds:
    """Return the row numbers to learn from and to score on, per fold.

    Parameters
    ----------
    rows : Rows
        Rows without the hold-out.
    n_folds : int
        How many, 2 or more.
    seed : int
        Seed of the draw.
    splitting : Splitting
        How. By time, a fold learns from all rows before those that it is scored on.

    Raises
    ------
    DataError
        If a fold has no row of a class to learn from, or there are fewer groups than folds.
    """
    cv: Any
    match splitting:
        case Splitting.STRATIFIED:
            cv = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
        case Splitting.GROUPED:
            cv = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
        case Splitting.TIMED:
            cv = TimeSeriesSplit(n_folds)
    try:
        # Splitting looks at the number of rows, at the labels and at the groups.
        folds = tuple(cv.split(np.zeros(len(rows.y)), rows.y, rows.group))
    except ValueError as error:
        raise DataError(f"{n_folds} folds cannot be made: {error}") from None
    _check_folds(rows.y, folds, splitting)
    return folds


def _check_folds(y: NDArray[np.int64], folds: Folds, splitting: Splitting) -> None:
    classes = np.unique(y)
    for number, (train, test) in enumerate(folds, start=1):
        for part, verb in ((train, "learn from"), (test, "score on")):
            absent = np.setdiff1d(classes, y[part])
            if len(absent):
                raise DataError(
                    f"fold {number} of {len(folds)}, {splitting}, has no row of the class number "
                    f"{absent[0]} to {verb}; lower --folds, or bring more rows of it"
                )


def _draw_rows(dataset: Dataset, test_fraction: float, seed: int) -> Split:
    rows = np.arange(len(dataset.y))
    try:
        train, holdout = train_test_split(
            rows, test_size=test_fraction, random_state=seed, stratify=dataset.y
        )
    except ValueError as error:
        raise DataError(
            f"a hold-out of {test_fraction:g} cannot be drawn: {error}"
        ) from None
    return Split(np.sort(train), np.sort(holdout))


def _draw_groups(
    dataset: Dataset, test_fraction: float, n_folds: int, seed: int
) -> Split:
    """Take one of as many parts as make the hold-out's share about right."""
    assert dataset.group is not None
    n_groups, n_parts = len(np.unique(dataset.group)), max(2, round(1 / test_fraction))
    if n_groups < n_folds + n_parts:
        raise DataError(
            f"--group has {n_groups} groups; {n_folds} folds and a hold-out of {test_fraction:g} "
            f"need {n_folds + n_parts} or more"
        )
    cv = StratifiedGroupKFold(n_parts, shuffle=True, random_state=seed)
    zeros = np.zeros(len(dataset.y))
    train, holdout = next(cv.split(zeros, dataset.y, dataset.group))
    return Split(np.sort(train), np.sort(holdout))


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
