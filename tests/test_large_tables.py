"""Tables that are read column by column: the same data set in every bit, and faults of the disk."""

import errno
import gc
import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from joblib import hash
from lightgbm import Booster, LGBMClassifier
from pyarrow import parquet
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact
from training.data.dataset import Dataset, LoadOptions, load_dataset
from training.data.disk import Scratch
from training.data.encoding import to_table
from training.data.matrix_file import write_columns, write_joined, write_rows
from training.data.roles import RoleNames
from training.data.rows import Rows, join_rows, open_rows, store_rows
from training.data.schema import Feature, Schema
from training.data.stored_table import StoredBuilder, StoredTable
from training.errors import DataError
from training.models.families import FAMILIES
from training.models.streamed_fit import fit_transform_stored
from training.parameters import FlowParameters
from training.search.lightgbm_parameters import make_params
from training.search.row_blocks import make_dataset
from training.trained_model import train_model

from training_support import GRIDS, plan_here, search_here

N_ROWS = 400
# A change that a reader by pieces would miss is near the end.
LATE = 380


def make_frame() -> pd.DataFrame:
    """Return a table with a column of each kind, whose surprises come late."""
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=N_ROWS).round(3)
    frame = pd.DataFrame(
        {
            "number": numbers,
            "gap": np.where(np.arange(N_ROWS) == LATE, np.nan, numbers),
            "whole": rng.integers(0, 50, N_ROWS),
            "late": ["1"] * LATE + ["one"] * (N_ROWS - LATE),
            "colour": ["red", "blue"] * (LATE // 2) + ["green"] * (N_ROWS - LATE),
            "name": [f"n{number:04d}" for number in rng.integers(0, 1200, N_ROWS)],
            "flag": rng.random(N_ROWS) < 0.5,
            "day": pd.date_range("2020-01-01", periods=N_ROWS).strftime("%Y-%m-%d"),
            "same": ["x"] * N_ROWS,
            "id": [f"id {number}" for number in range(N_ROWS)],
            "decimal": [f"{number / 7:.2f}".replace(".", ",") for number in range(400)],
            "target": ["yes", "no"] * (N_ROWS // 2),
        }
    )
    frame.loc[LATE, "target"] = None
    return frame


def write(folder: Path, frame: pd.DataFrame, kind: str) -> str:
    """Write a table; the groups of rows of a Parquet file have very different sizes."""
    path = folder / f"table.{kind}"
    match kind:
        case "parquet":
            table = pa.Table.from_pandas(frame, preserve_index=False)
            with parquet.ParquetWriter(path, table.schema) as writer:
                for begin, end in ((0, 1), (1, 3), (3, LATE), (LATE, N_ROWS)):
                    writer.write_table(table.slice(begin, end - begin))
        case "csv" | "csv.gz":
            frame.to_csv(path, index=False, sep=";")
        case "parts":
            path.mkdir()
            for number, begin in enumerate((0, LATE)):
                part = frame.iloc[begin : begin + LATE]
                part.to_parquet(path / f"{number}.parquet", index=False)
    return str(path)


def load_stored(source: str, folder: Path, options: LoadOptions) -> Dataset:
    return load_dataset(source, "target", options, Scratch(folder, 0))


def assert_same(stored: Dataset, plain: Dataset) -> None:
    assert isinstance(stored.X, np.memmap)
    assert np.array_equal(stored.X, plain.X, equal_nan=True)
    for name in ("y", "weight", "group"):
        assert np.array_equal(getattr(stored, name), getattr(plain, name)), name
    for name in ("name", "sha256", "schema", "notes"):
        assert getattr(stored, name) == getattr(plain, name), name
    assert list(stored.dropped.items()) == list(plain.dropped.items())


@pytest.mark.parametrize("kind", ["parquet", "csv", "csv.gz", "parts"])
@pytest.mark.parametrize(
    "roles",
    [RoleNames(), RoleNames(time="day"), RoleNames("whole", "colour")],
    ids=["plain", "time", "weight and group"],
)
def test_a_stored_table_is_the_same_data_set(
    kind: str, roles: RoleNames, tmp_path: Path
) -> None:
    source = write(tmp_path, make_frame(), kind)
    options = LoadOptions(roles=roles)
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    stored = load_stored(source, scratch, options)

    plain = load_dataset(source, "target", options)
    assert_same(stored, plain)
    assert len(stored.y) == N_ROWS - 1


def test_a_named_index_of_pandas_is_a_column_of_a_stored_table(tmp_path: Path) -> None:
    frame = make_frame().dropna(subset="target").reset_index(drop=True)
    frame.index.name = "hour"
    frame.to_parquet(tmp_path / "table.parquet")

    stored = load_stored(str(tmp_path / "table.parquet"), tmp_path, LoadOptions())

    assert_same(stored, load_dataset(str(tmp_path / "table.parquet"), "target"))
    assert "hour" in {*stored.schema.feature_names, *stored.dropped}


def test_all_faults_of_a_stored_table_are_named_as_in_memory(tmp_path: Path) -> None:
    frame = make_frame()
    frame["number"] = frame["number"].where(frame.index != LATE + 1, np.inf)
    frame["gap"] = frame["gap"].where(frame.index != LATE + 1, -np.inf)
    source = write(tmp_path, frame, "parquet")

    with pytest.raises(DataError) as plain:
        load_dataset(source, "target")
    with pytest.raises(DataError) as stored:
        load_stored(source, tmp_path, LoadOptions())

    assert str(stored.value) == str(plain.value)
    assert f"row {LATE + 2}" in str(stored.value)


def test_a_column_that_was_read_is_given_up(tmp_path: Path) -> None:
    cells = np.arange(1000.0)
    column = pd.Series(cells, name="a", copy=False)
    builder = StoredBuilder(StoredTable({}, 1000), tmp_path)
    held = weakref.ref(cells)

    kept = builder.add("a", column, pd.Series([0.0]))

    table = builder.finish()
    del builder, column, cells
    gc.collect()
    assert held() is None
    assert kept.dtype == np.float64 and len(kept) == 0
    assert table["a"].tolist() == list(range(1000))


def test_a_small_table_stays_in_memory(tmp_path: Path) -> None:
    source = write(tmp_path, make_frame(), "parquet")

    dataset = load_dataset(source, "target", scratch=Scratch(tmp_path))

    assert not isinstance(dataset.X, np.memmap)


@pytest.mark.parametrize("change", ["rows", "touch", "cut", "gone"])
def test_a_file_that_changes_between_two_columns_is_refused_by_name(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Path(write(tmp_path, make_frame(), "parquet"))
    read, done = parquet.ParquetFile.read, []

    def change_once(self: Any, **options: Any) -> Any:
        table = read(self, **options)
        done.append(options)
        if len(done) == 3:
            _change(source, change)
        return table

    monkeypatch.setattr(parquet.ParquetFile, "read", change_once)

    with pytest.raises(DataError, match=r"table\.parquet changed while it was read"):
        load_stored(str(source), tmp_path, LoadOptions())


def _change(path: Path, change: str) -> None:
    match change:
        case "rows":
            make_frame().iloc[:50].to_parquet(path)
        case "touch":
            os.utime(path, ns=(1, 1))
        case "cut":
            os.truncate(path, 100)
        case "gone":
            path.unlink()


def test_a_full_disk_is_an_error_that_names_the_room_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("training.data.disk.os.posix_fallocate", refuse)

    with pytest.raises(DataError, match=r"no room .* are needed\); make room, or set"):
        write_rows(tmp_path / "rows.npy", np.ones((4, 2)))

    assert not list(tmp_path.iterdir())


def test_a_limit_of_the_file_size_is_told_as_a_full_disk(tmp_path: Path) -> None:
    source = write(tmp_path, make_frame(), "csv")
    full = Path("/dev/full")
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch" / "cells.arrow").symlink_to(full)

    with pytest.raises(DataError, match="has no room"):
        load_stored(source, tmp_path / "scratch", LoadOptions())


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("n_rows", [0, 1, 5000])
def test_rows_that_are_written_in_blocks_are_those_of_numpy(
    order: Any, n_rows: int, tmp_path: Path
) -> None:
    X = np.asarray(np.random.default_rng(0).normal(size=(n_rows, 700)), order=order)
    taken = np.arange(0, n_rows, 3)

    write_rows(tmp_path / "blocks.npy", X, taken)

    np.save(tmp_path / "whole.npy", np.ascontiguousarray(X[taken]))
    whole = (tmp_path / "whole.npy").read_bytes()
    assert (tmp_path / "blocks.npy").read_bytes() == whole


def test_columns_and_joined_parts_are_mapped_as_they_were(tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(300, 4))

    by_column = write_columns(tmp_path / "columns.npy", X.shape, X.T)
    joined = write_joined(tmp_path / "joined.npy", (X[:100], by_column[100:]))

    assert np.array_equal(by_column, X)
    assert np.array_equal(joined, X)
    assert joined.flags.c_contiguous and not joined.flags.writeable


def test_some_rows_are_stored_as_if_they_were_all(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = Rows(rng.normal(size=(50, 3)), rng.integers(0, 2, 50), rng.random(50))
    taken = np.flatnonzero(rng.random(50) < 0.5)
    assert rows.weight is not None
    few = Rows(rows.X[taken], rows.y[taken], rows.weight[taken])

    ref = store_rows(rows, "some", tmp_path, str, taken)

    expected = store_rows(few, "few", tmp_path, str)
    assert ref.shape == (len(taken), 3)
    assert ref.X.sha256 == expected.X.sha256
    assert ref.y.sha256 == expected.y.sha256
    assert np.array_equal(open_rows(ref, Path).X, few.X)


def test_rows_are_joined_in_a_file_if_there_is_a_folder(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    parts = [Rows(rng.normal(size=(n, 3)), rng.integers(0, 2, n)) for n in (20, 30)]

    joined = join_rows(*parts, scratch=Scratch(tmp_path, 0))

    assert isinstance(joined.X, np.memmap)
    assert np.array_equal(joined.X, join_rows(*parts).X)
    assert np.array_equal(joined.y, join_rows(*parts).y)


BOOSTING: list[dict[str, Any]] = [
    {},
    # Neither is known to a lightgbm.Sequence of its own accord.
    {"min_child_samples": 300},
    {"random_state": 7},
    {"categorical_column": [5]},
    {"zero_as_missing": True},
]


@pytest.mark.parametrize("extra", BOOSTING, ids=str)
def test_rows_binned_in_blocks_give_the_trees_of_a_matrix(
    extra: dict[str, Any], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(8000, 6))
    X[:, 4], X[:, 5] = rng.random(8000) < 0.004, rng.integers(0, 30, 8000)
    X[::7, 1] = np.nan
    y = (X[:, 0] + X[:, 5] % 3 + rng.normal(size=8000) > 1).astype(np.int64)
    mapped = write_rows(tmp_path / "rows.npy", X)
    train, test = np.split(rng.permutation(8000), [6000])
    # Many more rows than the bins are made from.
    classifier = LGBMClassifier(
        **{"random_state": 42, "subsample_for_bin": 300, "verbose": -1} | extra
    )
    params = make_params(classifier, 2)

    def boost(streamed_bytes: int) -> tuple[str, Any]:
        binned = make_dataset(
            mapped, train, y[train], streamed_bytes=streamed_bytes, params=params
        )
        held_out = make_dataset(
            mapped, test, streamed_bytes=streamed_bytes, reference=binned, params=params
        )
        booster = Booster(params, binned)
        booster.add_valid(held_out, "test")
        for _ in range(10):
            booster.update()
        scores: list[Any] = []

        def keep(raw: Any, _: Any) -> tuple[str, float, bool]:
            scores.append(raw.copy())
            return "", 0.0, True

        booster.eval_valid(keep)
        return booster.model_to_string(), scores[0]

    (streamed, scores), (whole, expected) = boost(0), boost(2**40)

    assert streamed == whole
    assert np.array_equal(scores, expected)


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("columns", ["numbers", "gaps", "mixed"])
def test_a_model_of_large_rows_is_the_same_in_every_bit(
    family: str, columns: str, tmp_path: Path
) -> None:
    path = tmp_path / "table.parquet"
    frame = make_table(columns)
    frame.to_parquet(path)
    plan = plan_here(tmp_path, FlowParameters(data=str(path), target="target"), GRIDS)
    train, holdout = (open_rows(part, Path) for part in (plan.train, plan.holdout))
    results = {family: search_here(plan, family)}

    def train_with(scratch: Scratch | None) -> tuple[ModelArtifact, str]:
        trained = train_model(
            plan, results, {}, train=train, holdout=holdout, scratch=scratch
        )
        artifact = ModelArtifact.FromString(trained.artifact)
        artifact.provenance.ClearField("create_time")
        artifact.ClearField("sha256")
        return artifact, hash(trained.estimator)

    assert train_with(Scratch(tmp_path, 0)) == train_with(None)
    # Indicators are sparse, so they stay in memory.
    is_wide = (family, columns) == ("logistic_regression", "mixed")
    assert (tmp_path / "transformed.npy").exists() != is_wide


@pytest.mark.parametrize("has_gaps", [False, True])
def test_steps_that_learn_column_by_column_learn_the_same_bits(
    has_gaps: bool, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30_000, 5)) * 10.0 ** rng.integers(-5, 5, 5) + 1e3
    X[:, 4] = 7.0
    if has_gaps:
        X[rng.random(X.shape) < 0.1] = np.nan
        X[:, 3] = np.nan
    mapped = write_rows(tmp_path / "rows.npy", X)
    names = list("abcde")
    schema = Schema(tuple(map(Feature, names)), (0, 1))
    frame = to_table(mapped, schema, copy=False)
    imputer = SimpleImputer(strategy="median", keep_empty_features=True)
    scaler = StandardScaler()
    numbers = Pipeline([("i", imputer), ("s", scaler)]) if has_gaps else scaler
    columns = ColumnTransformer([("numeric", numbers, names)])
    whole, streamed = (Pipeline([("columns", clone(columns))]) for _ in range(2))

    Z = fit_transform_stored(streamed, frame, Scratch(tmp_path, 0))

    assert Z is not None and np.shares_memory(frame.to_numpy(), mapped)
    assert np.array_equal(Z, whole.fit_transform(to_table(X, schema)))
    assert hash(streamed) == hash(whole)


def make_table(columns: str) -> pd.DataFrame:
    """Return a table of numbers, with gaps or categories among them."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(700, 4)) * [1, 1e3, 1e-3, 1] + [0, 500, 0, 10]
    frame = pd.DataFrame(X, columns=list("abcd"))
    frame["target"] = (X[:, 0] + rng.normal(size=700) > 0).astype(int)
    if columns != "numbers":
        frame.loc[::5, "b"] = np.nan
    if columns == "mixed":
        frame["colour"] = rng.choice(["red", "green", "blue"], 700)
        frame["flag"] = rng.random(700) < 0.5
        frame["day"] = pd.date_range("2020-01-01", periods=700)
    return frame
