"""A table with columns of all kinds, and rows that a caller may send."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from training.data.encoding import to_matrix
from training.data.inference import infer
from training.data.rows import Rows
from training.data.schema import Feature, Kind, Schema
from training.data.schema_file import Override

Cell = float | bool | str | int | None

OVERRIDES = {
    "ward": Override("categorical"),
    "plan": Override(unknown="refuse"),
    "born": Override("date", format="%d/%m/%Y"),
    "seen": Override("date", format="%Y-%m-%dT%H:%M:%S%z"),
    "opens": Override("time", format="%H:%M:%S"),
}
LABELS: Mapping[int, tuple[int, ...] | tuple[str, ...]] = {
    2: ("no", "yes"),
    3: (10, 20, 30),
}


def make_table(n_rows: int = 400) -> tuple[pd.DataFrame, np.ndarray[Any, Any]]:
    """Return a table of all kinds with gaps, and a score that depends on most of its columns."""
    rng = np.random.default_rng(0)
    city = rng.choice(["Oslo", "Rome", "Ulm", "Köln"], n_rows, p=[0.5, 0.3, 0.15, 0.05])
    age, smoker = rng.normal(50, 10, n_rows), rng.random(n_rows) < 0.3
    plan = rng.choice(["a", "b"], n_rows)
    ward = rng.choice([3, 7, 11], n_rows)
    shop = rng.integers(0, 130, n_rows)
    born = pd.Timestamp("1950-01-01") + pd.to_timedelta(
        rng.integers(0, 20_000, n_rows), "D"
    )
    seen = pd.Timestamp("2020-01-01") + pd.to_timedelta(
        rng.integers(0, 10**14, n_rows), "us"
    )
    score = age / 10 + 2.0 * smoker + 2.0 * (city == "Rome") + 1.5 * (ward == 7)
    frame = pd.DataFrame(
        {
            "city": city.astype(object),
            "age": age,
            "smoker": smoker.astype(object),
            "active": rng.random(n_rows) < 0.5,
            "ward": ward.astype(float),
            "plan": plan,
            "height": rng.normal(1.7, 0.1, n_rows),
            "born": pd.Series(born).dt.strftime("%d/%m/%Y").astype(object),
            "seen": pd.Series(seen).dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ").astype(object),
            "opens": [f"{hour:02d}:30" for hour in rng.integers(0, 24, n_rows)],
            "shop": [f"shop {number}" for number in shop],
        }
    )
    for name in ("city", "age", "smoker", "ward", "born"):
        frame.loc[rng.random(n_rows) < 0.1, name] = None
    return frame, score + rng.normal(0, 1, n_rows)


def make_mixed_rows(
    n_classes: int = 2,
) -> tuple[pd.DataFrame, Schema, Rows, Rows]:
    """Return the held-out table as it is, the schema, rows to learn from and rows to hold out."""
    frame, score = make_table()
    inferred = infer(frame, OVERRIDES)
    schema = Schema(inferred.features, LABELS[n_classes])
    X = to_matrix(frame, schema.features)
    y = np.searchsorted(
        np.quantile(score, np.arange(1, n_classes) / n_classes), score
    ).astype(np.int64)
    held = slice(320, None)
    return frame[held], schema, Rows(X[:320], y[:320]), Rows(X[held], y[held])


def cells(feature: Feature) -> st.SearchStrategy[Cell]:
    """Return the cells that a caller may send for a feature."""
    known: st.SearchStrategy[Cell]
    match feature.kind:
        case Kind.NUMERIC:
            known = st.floats(-1e6, 1e6)
        case Kind.BOOLEAN:
            known = st.booleans()
        case Kind.DATE:
            known = st.datetimes(datetime(1900, 1, 1), datetime(2199, 12, 31)).map(
                lambda moment: moment.isoformat() + "Z"
            )
            if not feature.format.endswith("%z"):
                known |= st.dates().map(lambda day: f"{day:%d/%m/}{day.year:04d}")
        case Kind.TIME:
            known = st.times().map(lambda time: time.isoformat())
        case Kind.MEANS | Kind.CATEGORICAL:
            known = st.sampled_from(feature.categories)
            if not feature.refuse_unknown:
                is_text = isinstance(feature.categories[0], str)
                known |= st.text(max_size=5) if is_text else st.integers(-99, 99)
    return known | st.none() if feature.nullable else known


def records(schema: Schema) -> st.SearchStrategy[dict[str, Cell]]:
    """Return the rows that a caller may send."""
    return st.fixed_dictionaries({f.name: cells(f) for f in schema.features})


def to_frame(rows: list[dict[str, Cell]]) -> pd.DataFrame:
    """Return rows as the table that a user would have."""
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return pd.DataFrame(
        {name: pd.Series(cells, dtype=object) for name, cells in columns.items()}
    ).infer_objects()
