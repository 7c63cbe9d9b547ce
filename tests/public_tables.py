"""Real tables that packages ship, and what a scikit-learn user would fit to each by hand."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier
from numpy.typing import NDArray
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler


@dataclass(frozen=True)
class PublicTable:
    """A table and its task.

    Parameters
    ----------
    load : callable
        Returns the table as it is published.
    target : str
        Label column.
    schema : mapping
        What a user would say in the file of --config schema.
    unused : tuple of str
        Columns that a user would not learn from by hand.
    """

    load: Callable[[], pd.DataFrame]
    target: str
    schema: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    unused: tuple[str, ...] = ()


def _find(package: str, *names: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent.joinpath(*names)


def _load_digits() -> pd.DataFrame:
    from sklearn.datasets import load_digits

    frame: pd.DataFrame = load_digits(as_frame=True).frame
    return frame


def _load_penguins() -> pd.DataFrame:
    return pd.read_csv(_find("palmerpenguins", "data", "penguins-raw.csv"))


def _load_cars() -> pd.DataFrame:
    return pd.read_json(_find("vega_datasets", "_data", "cars.json"))


def _load_weather() -> pd.DataFrame:
    return pd.read_csv(_find("vega_datasets", "_data", "seattle-weather.csv"))


DROP = {"kind": "drop"}
PENGUIN_SCHEMA = {"Date Egg": DROP}
PENGUIN_UNUSED = ("Date Egg", "Individual ID", "Comments", "Region", "Stage")

PUBLIC_TABLES: Mapping[str, PublicTable] = {
    # Numbers, ten classes, three columns that never vary.
    "digits": PublicTable(_load_digits, "target"),
    # Text, gaps everywhere, a date, identifiers, labels of which some are missing.
    "penguins": PublicTable(_load_penguins, "Sex", PENGUIN_SCHEMA, PENGUIN_UNUSED),
    # The same with a rare class: one clutch of ten is not complete.
    "clutches": PublicTable(
        _load_penguins, "Clutch Completion", PENGUIN_SCHEMA, PENGUIN_UNUSED
    ),
    # Numbers with gaps, 311 names of 406 cars, dates and numbers that are categories.
    "cars": PublicTable(
        _load_cars,
        "Origin",
        {"Year": {"kind": "categorical"}, "Cylinders": {"kind": "categorical"}},
        ("Name",),
    ),
    # Five classes of text, the rarest in 23 of 1461 rows.
    "weather": PublicTable(_load_weather, "weather", {"date": DROP}, ("date",)),
}


def fit_by_hand(
    table: PublicTable, frame: pd.DataFrame, labels: "pd.Series[str] | pd.Series[int]"
) -> Pipeline:
    """Fit the better of two ordinary pipelines, by cross-validated log loss.

    Parameters
    ----------
    table : PublicTable
        The task.
    frame : DataFrame
        Rows to learn from.
    labels : Series
        Their labels.
    """
    is_number = make_column_selector(dtype_include="number")
    is_text = make_column_selector(dtype_exclude="number")
    linear = make_pipeline(
        make_column_transformer(
            (make_pipeline(SimpleImputer(), StandardScaler()), is_number),
            (OneHotEncoder(handle_unknown="ignore"), is_text),
        ),
        LogisticRegression(max_iter=5000),
    )
    codes = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=np.nan, min_frequency=2
    )
    boosted = make_pipeline(
        make_column_transformer(("passthrough", is_number), (codes, is_text)),
        LGBMClassifier(n_estimators=50, verbose=-1, n_jobs=1),
    )
    X = frame.drop(columns=list(table.unused))
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    best: Pipeline = max(
        (linear, boosted),
        key=lambda pipeline: cross_val_score(
            pipeline, X, labels, cv=folds, scoring="neg_log_loss"
        ).mean(),
    )
    return best.fit(X, labels)


def losses(
    probabilities: NDArray[np.float64], codes: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the log loss of each row, shape (n_rows,); `codes` are positions of its class."""
    of_label = probabilities[np.arange(len(codes)), codes]
    return -np.log(np.clip(of_label, 1e-15, 1.0))


def is_within_noise(ours: NDArray[np.float64], reference: NDArray[np.float64]) -> bool:
    """Say whether losses are no worse than others of the same rows, as far as these rows can tell.

    They are not if their mean exceeds the other's by more than two standard errors of the mean of
    the differences, row by row.
    """
    difference = ours - reference
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    return bool(difference.mean() <= 2 * error)
