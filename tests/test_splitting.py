"""Weights, groups and time: columns that steer fits and splits."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.utils.class_weight import compute_sample_weight

from training.data.dataset import Dataset, LoadOptions, load_dataset
from training.data.encoding import to_table
from training.data.roles import RoleNames
from training.data.rows import Rows
from training.data.schema import Feature, Schema
from training.data.splitting import Splitting, make_folds, split_holdout
from training.errors import DataError, SearchError
from training.models.families import FAMILIES, LIGHTGBM, Family
from training.models.family_search import FamilySearch
from training.models.grids import ParamGrid
from training.models.pipelines import PipelineFactory, make_fit_params
from training.parameters import FlowParameters
from training.plan import FileStore, TrainingRequest, make_plan

from training_support import SETTINGS, make_rows

N_ROWS = 200


def load(folder: Path, roles: RoleNames, **columns: Any) -> Dataset:
    """Load a table of a feature, the label and other columns."""
    rng = np.random.default_rng(0)
    table = {"x": rng.normal(size=N_ROWS), "target": rng.integers(0, 2, N_ROWS)}
    path = folder / "table.csv"
    pd.DataFrame({**table, **columns}).to_csv(path, index=False)
    return load_dataset(str(path), "target", LoadOptions(roles=roles))


def rows_of(dataset: Dataset, numbers: Any) -> Rows:
    """Return rows of a data set."""
    group = None if dataset.group is None else dataset.group[numbers]
    return Rows(dataset.X[numbers], dataset.y[numbers], group=group)


def test_groups_are_never_on_both_sides(tmp_path: Path) -> None:
    dataset = load(tmp_path, RoleNames(group="who"), who=np.arange(N_ROWS) % 40)
    grouped = Splitting.GROUPED

    split = split_holdout(dataset, 0.2, 5, 0, grouped)
    train = rows_of(dataset, split.train)
    folds = make_folds(train, 5, 0, grouped)

    assert dataset.group is not None and train.group is not None
    assert dataset.schema.feature_names == ("x",)
    assert len(split.holdout) + len(split.train) == N_ROWS
    assert 0.1 < len(split.holdout) / N_ROWS < 0.3
    assert not set(dataset.group[split.train]) & set(dataset.group[split.holdout])
    for learned, scored in folds:
        assert not set(train.group[learned]) & set(train.group[scored])
    assert sorted(np.concatenate([scored for _, scored in folds])) == list(
        range(len(train.y))
    )


TIMES: Mapping[str, Any] = {
    "numbers": np.arange(N_ROWS)[::-1] * 1.5,
    "dates": pd.date_range("2024-01-01", periods=N_ROWS).strftime("%Y-%m-%d")[::-1],
    "times of two zones": [
        f"2024-01-01T{23 - row // 10:02}:{59 - row % 10:02}:00{('+00:00', 'Z')[row % 2]}"
        for row in range(N_ROWS)
    ],
}


@pytest.mark.parametrize("times", TIMES.values(), ids=TIMES)
def test_folds_score_later_rows_than_they_learn_from(
    times: Any, tmp_path: Path
) -> None:
    plain = load(tmp_path, RoleNames())
    dataset = load(tmp_path, RoleNames(time="when"), when=times)

    split = split_holdout(dataset, 0.25, 3, 0, Splitting.TIMED)
    folds = make_folds(rows_of(dataset, split.train), 3, 0, Splitting.TIMED)

    # The times run backwards.
    assert np.array_equal(dataset.X, plain.X[::-1])
    assert np.array_equal(dataset.y, plain.y[::-1])
    assert split.train.max() < split.holdout.min() == 150
    assert len(folds) == 3
    for learned, scored in folds:
        assert learned.max() < scored.min()


def test_a_weight_follows_its_row_in_time(tmp_path: Path) -> None:
    dataset = load(
        tmp_path,
        RoleNames(time="when", weight="w"),
        when=np.arange(N_ROWS)[::-1],
        w=np.arange(N_ROWS),
    )

    assert dataset.weight is not None
    assert np.array_equal(dataset.weight, np.arange(N_ROWS)[::-1])


def test_weights_that_add_up_to_1_count_as_rows_do(tmp_path: Path) -> None:
    """Otherwise LightGBM would grow no tree, and logistic regression would hardly learn."""
    weight = np.random.default_rng(0).uniform(1, 3, N_ROWS)
    large, small = (
        load(tmp_path, RoleNames(weight="w"), w=each)
        for each in (weight, weight / weight.sum() / 10)
    )

    assert large.weight is not None and small.weight is not None
    assert np.array_equal(large.weight, weight)
    assert np.allclose(small.weight, weight / weight.mean(), rtol=1e-12)
    assert ["divided by" in note for note in small.notes] == [True]


BAD_ROLES: Mapping[str, tuple[RoleNames, Mapping[str, Any], str]] = {
    "no column": (RoleNames(weight="w"), {}, "no column 'w' beside the label"),
    "the label": (
        RoleNames(weight="target"),
        {},
        "no column 'target' beside the label",
    ),
    "two roles": (RoleNames(weight="x", time="x"), {}, "or it has two roles"),
    "group and time": (RoleNames(group="x", time="x"), {}, "exclude each other"),
    "weight below 0": (
        RoleNames(weight="w"),
        {"w": [1, -2] * 100},
        "column 'w' has a cell that is below 0; weights are 0 or more: row 2: '-2', row 4",
    ),
    "weight huge": (RoleNames(weight="w"), {"w": 1e308}, "is above 1e+100; lower all"),
    "weight 0": (RoleNames(weight="w"), {"w": 0}, "column 'w' is 0 in every row"),
    "weight text": (RoleNames(weight="w"), {"w": ["a", "1"] * 100}, "is not a number"),
    "weight gap": (
        RoleNames(weight="w"),
        {"w": [None, 1] * 100},
        "that is missing: row 1",
    ),
    "no time": (
        RoleNames(time="t"),
        {"t": ["2024-01-01", "soon"] * 100},
        "neither a number nor a time such as 2024-01-31T10:00: row 2: 'soon'",
    ),
}


@pytest.mark.parametrize(
    ("roles", "columns", "message"), BAD_ROLES.values(), ids=BAD_ROLES
)
def test_a_role_that_does_not_fit_is_named(
    roles: RoleNames, columns: Mapping[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        load(tmp_path, roles, **columns)

    assert message in str(caught.value)


@pytest.mark.parametrize("n_rare", range(2, 12))
@pytest.mark.parametrize("fraction", [0.02, 0.2, 0.6])
def test_one_advice_is_enough(n_rare: int, fraction: float) -> None:
    """What it says was tried, so that no other advice follows it."""
    y = np.repeat([0, 1], [90, n_rare])
    schema = Schema((Feature("x"),), ("no", "yes"))
    dataset = Dataset("t", "", schema, np.zeros((len(y), 1)), y)
    try:
        split_holdout(dataset, fraction, 5, 0)
    except DataError as error:
        message = str(error)
    else:
        assert n_rare > 5
        return

    advice = re.search(r"--test_fraction (\S+) --folds (\d+) would do", message)

    assert message.startswith(f"class 'yes' has {n_rare} rows, ")
    if advice is None:
        assert n_rare < 3 and message.endswith("bring more rows of it")
    else:
        split = split_holdout(dataset, float(advice[1]), int(advice[2]), 0)
        assert dataset.y[split.holdout].any()


def test_too_few_groups_are_named(tmp_path: Path) -> None:
    dataset = load(tmp_path, RoleNames(group="g"), g=np.arange(N_ROWS) % 5)

    with pytest.raises(DataError, match="--group has 5 groups; 5 folds and a hold-out"):
        split_holdout(dataset, 0.2, 5, 0, Splitting.GROUPED)


def test_a_class_that_comes_late_is_named(tmp_path: Path) -> None:
    labels = (np.arange(N_ROWS) >= 100).astype(int)
    dataset = load(tmp_path, RoleNames(time="t"), t=np.arange(N_ROWS), target=labels)
    rows = rows_of(dataset, np.arange(N_ROWS))

    with pytest.raises(DataError, match="fold 1 of 3, timed, has no row of the class"):
        make_folds(rows, 3, 0, Splitting.TIMED)


def test_roles_of_a_sparse_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.svmlight"
    path.write_text("1 1:2\n0 2:1\n")

    with pytest.raises(DataError, match="table.svmlight has no column 'w'"):
        load_dataset(str(path), "target", LoadOptions(roles=RoleNames(weight="w")))


def test_rows_without_a_label_are_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a,target\n1,0\n2,\n3,1\n4,\n")

    dataset = load_dataset(str(path), "target")

    assert dataset.X.tolist() == [[1], [3]]
    assert dataset.notes == ("2 rows have no label, first row 2; they are left out",)
    with pytest.raises(DataError, match="missing in 2 rows, first in row 2; fill it"):
        load_dataset(str(path), "target", LoadOptions(strict=True))


def test_rows_are_named_by_their_number_in_the_file(tmp_path: Path) -> None:
    """The numbers hold after rows without a label were left out."""
    path = tmp_path / "table.csv"
    path.write_text("a,target\n1,\n2,0\n3,1\n4,0\nred,1\n")

    with pytest.raises(DataError, match="row 5: 'red'"):
        load_dataset(str(path), "target")


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_weights_count_in_the_search_and_in_the_final_fit(family: Family) -> None:
    """Weights by class have the effect of class_weight."""
    schema, train, holdout = make_rows(missing=True)
    by_class = {0: 1.0, 1: 9.0}
    weighted = Rows(train.X, train.y, weight=compute_sample_weight(by_class, train.y))
    grid: ParamGrid = [{"class_weight": [by_class]}]
    table, factory = to_table(holdout.X, schema), PipelineFactory(family, schema, 0)

    searches = [
        FamilySearch(family, schema, [{}], SETTINGS).run(weighted),
        FamilySearch(family, schema, grid, SETTINGS).run(train),
        FamilySearch(family, schema, [{}], SETTINGS).run(train),
    ]
    fits = [
        factory.make_final_pipeline(params).fit(
            to_table(rows.X, schema), rows.y, **make_fit_params(rows)
        )
        for rows, params in ((weighted, {}), (train, {"class_weight": by_class}))
    ]

    assert searches[0].best_score == pytest.approx(searches[1].best_score, abs=1e-9)
    assert searches[0].best_score != searches[2].best_score
    assert np.allclose(
        fits[0].predict_proba(table), fits[1].predict_proba(table), atol=1e-6
    )


@pytest.mark.parametrize("role", ["weight", "time"])
@pytest.mark.parametrize("post_fit", [{"calibration": "sigmoid"}, {"threshold": "f1"}])
def test_calibration_and_chosen_thresholds_are_refused_with_weights_and_time(
    role: str, post_fit: Mapping[str, str], tmp_path: Path
) -> None:
    parameters = FlowParameters(**{role: "mean radius", **post_fit})  # type: ignore[arg-type]
    store = FileStore(tmp_path, str, lambda url, folder: folder)

    with pytest.raises(SearchError, match=f"--{role} goes with neither --calibration"):
        make_plan(TrainingRequest("TrainFlow/1", parameters, {}, ""), store)


def test_early_stopping_heeds_weights() -> None:
    schema, train, _ = make_rows()
    factory = PipelineFactory(LIGHTGBM, schema, 0, early_stopping_rounds=5)
    heavy = np.where(train.y == 1, 50.0, 1.0)
    pipelines = [
        factory.make_final_pipeline({"n_estimators": 30}).fit(
            to_table(rows.X, schema), rows.y, **make_fit_params(rows)
        )
        for rows in (train, Rows(train.X, train.y, weight=heavy))
    ]

    means = [
        pipeline.predict_proba(to_table(train.X, schema))[:, 1].mean()
        for pipeline in pipelines
    ]

    assert means[1] > means[0] + 0.05
