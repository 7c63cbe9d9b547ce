"""Splits rows into the hold-out and the folds of the cross-validation.

There are three ways. Rows are drawn so that each class keeps its share. Whole groups are drawn. Or
rows are cut by time, so that a model is scored on later rows than it learns from.
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
NO_FOLDS: Folds = ()


class Splitting(StrEnum):
    """How rows are split."""

    # Rows are drawn; each class keeps its share.
    STRATIFIED = "stratified"
    # Groups are drawn; each class keeps about its share.
    GROUPED = "grouped"
    # Rows, which are in order of time, are cut.
    TIMED = "timed"


@dataclass(frozen=True, slots=True, eq=False)
class HoldoutSplit:
    """A data set in two parts.

    Parameters
    ----------
    train : ndarray of int64, shape (n_train,)
        Numbers of the rows to learn from, ascending.
    holdout : ndarray of int64, shape (n_holdout,)
        Numbers of the rows that training never sees, ascending.
    """

    train: NDArray[np.int64]
    holdout: NDArray[np.int64]


def split_holdout(
    dataset: Dataset,
    test_fraction: float,
    n_folds: int,
    seed: int,
    splitting: Splitting = Splitting.STRATIFIED,
) -> HoldoutSplit:
    """Set the hold-out apart.

    Parameters
    ----------
    dataset : Dataset
        Data set to split.
    test_fraction : float
        Share of the hold-out, (0, 1). It is approximate if whole groups are drawn.
    n_folds : int
        Folds of the search, 2 or more. Each class needs as many rows outside the hold-out.
    seed : int
        Seed of the draw.
    splitting : Splitting
        How rows are split.

    Returns
    -------
    HoldoutSplit
        Row numbers of the two parts.

    Raises
    ------
    DataError
        If a class has too few rows, or there are too few groups, for the hold-out and the folds.
    """
    _check_split_parameters(test_fraction, n_folds)
    _check_no_class_of_one_row(dataset)
    split = _split(dataset, test_fraction, n_folds, seed, splitting)
    lacking = _find_lacking_class(dataset, split, n_folds)
    if lacking is not None:
        advice = _advise(dataset, test_fraction, n_folds, seed, splitting)
        raise DataError(_tell_lack(dataset, split, n_folds, lacking, advice))
    return split


def _split(
    dataset: Dataset,
    test_fraction: float,
    n_folds: int,
    seed: int,
    splitting: Splitting,
) -> HoldoutSplit:
    match splitting:
        case Splitting.STRATIFIED:
            return _draw_rows(dataset, test_fraction, seed)
        case Splitting.GROUPED:
            return _draw_groups(dataset, test_fraction, n_folds, seed)
        case Splitting.TIMED:
            n_train = int(len(dataset.y) * (1 - test_fraction))
            rows = np.arange(len(dataset.y))
            return HoldoutSplit(rows[:n_train], rows[n_train:])


def make_folds(rows: Rows, n_folds: int, seed: int, splitting: Splitting) -> Folds:
    """Split rows into the folds of a cross-validation.

    Parameters
    ----------
    rows : Rows
        Rows without the hold-out.
    n_folds : int
        Number of folds, 2 or more.
    seed : int
        Seed of the draw.
    splitting : Splitting
        How rows are split. By time, a fold learns from all rows before those that it is scored on.

    Returns
    -------
    tuple of (train, test)
        For each fold two arrays of int64, shape (n_train,) and (n_test,): the numbers of the rows
        to learn from and to score on.

    Raises
    ------
    DataError
        If a fold has no row of a class to learn from or to score on, or there are fewer groups than
        folds.
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
        # scikit-learn looks at the number of rows, at the labels and at the groups only.
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


def _draw_rows(dataset: Dataset, test_fraction: float, seed: int) -> HoldoutSplit:
    rows = np.arange(len(dataset.y))
    try:
        train, holdout = train_test_split(
            rows, test_size=test_fraction, random_state=seed, stratify=dataset.y
        )
    except ValueError as error:
        raise DataError(
            f"a hold-out of {test_fraction:g} cannot be drawn: {error}"
        ) from None
    return HoldoutSplit(np.sort(train), np.sort(holdout))


def _draw_groups(
    dataset: Dataset, test_fraction: float, n_folds: int, seed: int
) -> HoldoutSplit:
    """Divide the groups into about 1 / test_fraction parts, and hold one part out."""
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
    return HoldoutSplit(np.sort(train), np.sort(holdout))


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


def _count_by_class(
    dataset: Dataset, split: HoldoutSplit
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of each class to learn from and in the hold-out."""
    n_classes = len(dataset.schema.class_labels)
    return (
        np.bincount(dataset.y[split.train], minlength=n_classes),
        np.bincount(dataset.y[split.holdout], minlength=n_classes),
    )


def _find_lacking_class(
    dataset: Dataset, split: HoldoutSplit, n_folds: int
) -> int | None:
    """Return the code of a class with too few rows in a part; None if all have enough."""
    in_train, in_holdout = _count_by_class(dataset, split)
    if in_train.min() < n_folds:
        return int(in_train.argmin())
    return None if in_holdout.all() else int(in_holdout.argmin())


def _tell_lack(
    dataset: Dataset, split: HoldoutSplit, n_folds: int, lacking: int, advice: str
) -> str:
    in_train, in_holdout = (part[lacking] for part in _count_by_class(dataset, split))
    return (
        f"class {dataset.schema.class_labels[lacking]!r} has {in_train + in_holdout} rows, "
        f"{in_train} of them to learn from and {in_holdout} in the hold-out; it needs {n_folds}, "
        f"one for each fold, and 1; {advice}"
    )


def _advise(
    dataset: Dataset,
    test_fraction: float,
    n_folds: int,
    seed: int,
    splitting: Splitting,
) -> str:
    """Return flags that were tried and work, so that one advice is not followed by another."""
    n_rarest = int(np.bincount(dataset.y).min())
    fractions = [test_fraction]
    if n_rarest > n_folds:
        fractions += np.linspace(1 / n_rarest, 1 - n_folds / n_rarest, 5).tolist()
    for folds in range(n_folds, 1, -1):
        for fraction in fractions + [1 / n_rarest, 0.5]:
            # The flag is typed with two digits.
            flags = float(f"{fraction:.2g}"), folds
            if _would_do(dataset, *flags, seed, splitting):
                return f"--test_fraction {flags[0]:g} --folds {folds} would do"
    return "bring more rows of it"


def _would_do(
    dataset: Dataset,
    test_fraction: float,
    n_folds: int,
    seed: int,
    splitting: Splitting,
) -> bool:
    if not 0 < test_fraction < 1:
        return False
    try:
        split = _split(dataset, test_fraction, n_folds, seed, splitting)
    except DataError:
        return False
    return _find_lacking_class(dataset, split, n_folds) is None
