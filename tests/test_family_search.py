"""The searches return the results of GridSearchCV, on folds that both families share."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from lightgbm import LGBMClassifier
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from training.data.schema import Feature, Schema
from training.errors import SearchError
from training.models.early_stopping import EarlyStoppingClassifier
from training.models.families import FAMILIES, LIGHTGBM, LOGISTIC_REGRESSION
from training.models.family_search import (
    FamilySearch,
    count_fits_at_once,
    share_of_cores,
)
from training.models.grids import ParamGrid, check_grid, parse_grids
from training.models.magnitudes import check_magnitudes
from training.models.memory import find_available_bytes
from training.models.pipelines import PipelineFactory, unwrap
from training.models.scoring import resolve_scoring
from training.models.search_values import SearchSettings, ShardSpec
from training.parameters import FlowParameters
from training.plan import FileStore, TrainingRequest, make_plan

from training_support import SETTINGS, make_rows

CV = StratifiedKFold(3, shuffle=True, random_state=0)


def silent(line: str) -> None:
    """Ignore a line of a report."""


def test_logistic_regression_is_searched_as_by_scikit_learn_at_the_optimum() -> None:
    schema, train, _ = make_rows()
    grid: dict[str, list[Any]] = {"C": [0.01, 1.0], "class_weight": [None, "balanced"]}
    expected = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, tol=1e-10)),
        {f"logisticregression__{name}": values for name, values in grid.items()},
        scoring="roc_auc",
        cv=CV,
    ).fit(train.X, train.y)

    result = FamilySearch(LOGISTIC_REGRESSION, schema, [grid], SETTINGS).run(
        train, report=silent
    )

    for key in ("mean_test_score", "std_test_score", "split0_test_score"):
        np.testing.assert_allclose(
            result.cv_results[key], expected.cv_results_[key], rtol=0, atol=1e-6
        )
    assert result.best_params == {
        name.removeprefix("logisticregression__"): value
        for name, value in expected.best_params_.items()
    }


def test_the_final_fit_of_logistic_regression_is_at_the_optimum_too() -> None:
    schema, train, _ = make_rows()

    final = PipelineFactory(LOGISTIC_REGRESSION, schema, 0).make_final_pipeline(
        {"C": 1.0}
    )

    assert final.named_steps["classifier"].tol == 1e-8


@pytest.mark.parametrize("n_shards", [2, 3, 7])
def test_shards_merge_to_what_one_shard_gives(n_shards: int) -> None:
    schema, train, _ = make_rows(missing=True)
    grid: ParamGrid = [{"n_estimators": [5, 20], "num_leaves": [3, 7]}]
    search = FamilySearch(LIGHTGBM, schema, grid, SETTINGS)
    whole = search.merge([search.run_shard(train, ShardSpec(), report=silent)])

    shards = [
        search.run_shard(train, ShardSpec(number, n_shards), report=silent)
        for number in reversed(range(n_shards))
    ]
    merged = search.merge([*shards, shards[0]], report=silent)

    for key in whole.cv_results:
        if not key.endswith("_time"):
            actual, expected = merged.cv_results[key], whole.cv_results[key]
            assert list(actual) == list(expected), key
    assert merged.best_index == whole.best_index


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_lightgbm_is_searched_as_by_scikit_learn(n_jobs: int) -> None:
    schema, train, _ = make_rows(missing=True)
    grid: dict[str, list[Any]] = {"n_estimators": [5, 20], "num_leaves": [3, 7]}
    expected = GridSearchCV(
        LGBMClassifier(random_state=0, n_jobs=1, verbose=-1),
        grid,
        scoring="roc_auc",
        cv=CV,
    ).fit(train.X, train.y)

    result = FamilySearch(LIGHTGBM, schema, [grid], SETTINGS).run(
        train, n_jobs=n_jobs, report=silent
    )

    expected_scores = expected.cv_results_["mean_test_score"].tolist()
    assert result.cv_results["mean_test_score"].tolist() == expected_scores
    assert result.cv_results["params"] == expected.cv_results_["params"]
    assert list(result.cv_results["param_num_leaves"]) == [3, 7, 3, 7]
    assert result.best_index == expected.best_index_


def test_a_report_says_what_is_searched_and_what_came_out() -> None:
    schema, train, _ = make_rows()
    lines: list[str] = []

    FamilySearch(LIGHTGBM, schema, [{"n_estimators": [5, 10]}], SETTINGS).run(
        train, report=lines.append
    )

    assert lines[0] == "LightGBM: 2 candidates on 3 folds, roc_auc"
    assert lines[1].startswith("LightGBM: best roc_auc 0.")


def test_fits_that_do_not_converge_are_counted_and_said() -> None:
    schema, train, _ = make_rows()
    lines: list[str] = []

    result = FamilySearch(
        LOGISTIC_REGRESSION, schema, [{"max_iter": [1]}], SETTINGS
    ).run(train, report=lines.append)

    assert result.notes == (
        "3 fits did not converge, so their scores may be too low; raise max_iter in the grid, or "
        "leave out its largest C",
    )
    assert lines[1] == f"Logistic Regression: {result.notes[0]}"


def test_a_candidate_that_cannot_be_fitted_is_named_with_the_reason() -> None:
    schema, train, _ = make_rows()

    with pytest.raises(SearchError, match="LightGBM: .*num_leaves") as caught:
        FamilySearch(LIGHTGBM, schema, [{"num_leaves": [1]}], SETTINGS).run(
            train, report=silent
        )

    assert "\n" not in str(caught.value)


def test_one_bad_candidate_of_several_is_named_and_the_others_kept() -> None:
    schema, train, _ = make_rows()
    lines: list[str] = []

    result = FamilySearch(LIGHTGBM, schema, [{"num_leaves": [1, 3]}], SETTINGS).run(
        train, report=lines.append
    )

    assert np.isnan(result.cv_results["mean_test_score"]).tolist() == [True, False]
    assert result.best_params == {"num_leaves": 3}
    (line,) = [line for line in lines if "1 candidates have no score" in line]
    assert "num_leaves" in line


class Recording(LGBMClassifier):
    """Keeps the rows that it gets while fitting."""

    def fit(self, X: Any, y: Any, **options: Any) -> Any:  # type: ignore[override]
        self.fitted_on_, self.watched_ = X, options["eval_X"][0]
        super().fit(X, y, **options)
        return self


def test_early_stopping_watches_rows_of_the_training_fold_only() -> None:
    _, train, _ = make_rows()
    for fold, scoring in CV.split(train.X, train.y):
        classifier = EarlyStoppingClassifier(
            Recording(n_estimators=50, verbose=-1), rounds=2
        )

        fitted = classifier.fit(train.X[fold], train.y[fold]).classifier_

        shown = np.vstack([fitted.fitted_on_, fitted.watched_])
        assert sorted(shown.tolist()) == sorted(train.X[fold].tolist())
        assert not set(map(tuple, shown)) & set(map(tuple, train.X[scoring]))
        assert len(fitted.watched_) == round(len(fold) * 0.1)


def test_early_stopping_takes_fewer_trees_and_predicts_with_the_best() -> None:
    schema, train, _ = make_rows()
    factory = PipelineFactory(LIGHTGBM, schema, 0, early_stopping_rounds=2)
    pipeline = factory.make_search_pipeline()
    pipeline.set_params(**{factory.parameter_prefix + "n_estimators": 300})

    classifier = unwrap(pipeline.fit(train.X, train.y)).named_steps["classifier"]

    assert type(classifier) is LGBMClassifier
    assert classifier.best_iteration_ < 300
    assert np.array_equal(
        classifier.predict_proba(train.X), pipeline.predict_proba(train.X)
    )


def test_the_final_pipeline_goes_by_the_names_of_its_columns() -> None:
    import pandas as pd

    schema, train, holdout = make_rows()
    names = list(schema.feature_names)
    for family in FAMILIES.values():
        pipeline = PipelineFactory(family, schema, 0).make_final_pipeline({})
        table = pd.DataFrame(holdout.X, columns=names)

        pipeline.fit(pd.DataFrame(train.X, columns=names), train.y)

        assert np.array_equal(
            pipeline.predict_proba(table[names[::-1]]), pipeline.predict_proba(table)
        )


def test_names_that_lightgbm_refuses_are_fine() -> None:
    import pandas as pd

    _, train, _ = make_rows()
    names = ('a"b', "{c}", "[d]", "e:f", "g,h")
    schema = Schema(tuple(map(Feature, names)), (0, 1))
    pipeline = PipelineFactory(LIGHTGBM, schema, 0).make_final_pipeline(
        {"n_estimators": 3}
    )

    pipeline.fit(pd.DataFrame(train.X, columns=list(names)), train.y)

    assert pipeline.predict_proba(pd.DataFrame(train.X, columns=list(names))).shape == (
        240,
        2,
    )


@pytest.mark.parametrize(
    ("scoring", "n_classes", "expected"),
    [
        ("roc_auc", 2, "roc_auc"),
        ("roc_auc", 3, "roc_auc_ovr"),
        ("neg_log_loss", 3, "neg_log_loss"),
        ("f1", 2, "f1"),
        ("average_precision", 3, "average_precision"),
    ],
)
def test_a_scoring_is_resolved_for_the_number_of_classes(
    scoring: str, n_classes: int, expected: str
) -> None:
    assert resolve_scoring(scoring, make_rows(n_classes)[0]) == expected


@pytest.mark.parametrize(
    ("scoring", "n_classes", "message"),
    [
        ("auc", 2, "--scoring 'auc' is not a scorer of scikit-learn; classifiers take"),
        ("f1", 3, "--scoring 'f1' cannot score 3 classes: Target is multiclass"),
    ],
)
def test_a_scoring_that_cannot_score_is_refused(
    scoring: str, n_classes: int, message: str
) -> None:
    with pytest.raises(SearchError) as caught:
        resolve_scoring(scoring, make_rows(n_classes)[0])

    assert str(caught.value).startswith(message)


def test_the_branches_share_the_cores() -> None:
    assert share_of_cores(1) == joblib.cpu_count()
    assert share_of_cores(10_000) == 1


def test_each_search_may_use_all_cores_if_the_memory_allows() -> None:
    assert count_fits_at_once(1000, 2) == joblib.cpu_count()
    assert count_fits_at_once(2**60, 10_000) == 1


@pytest.mark.parametrize(
    ("limit", "expected"), [("max", 2048), ("1500", 500), ("900", 0), (None, 2048)]
)
def test_the_available_memory_is_that_of_the_control_group(
    tmp_path: Path, limit: str | None, expected: int
) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  9 kB\nMemAvailable:   2 kB\n")
    if limit:
        (tmp_path / "memory.max").write_text(limit + "\n")
        (tmp_path / "memory.current").write_text("1000\n")

    assert find_available_bytes(meminfo, tmp_path) == expected
    assert find_available_bytes(tmp_path / "none", tmp_path) == 0


@pytest.mark.parametrize("value", [1e300, -1.7976931348623157e308])
@pytest.mark.parametrize("is_sparse", [False, True])
def test_a_value_whose_square_overflows_is_named_with_its_column(
    value: float, is_sparse: bool
) -> None:
    X = np.ones((4, 3))
    X[1, 0], X[2, 1] = np.nan, value

    with pytest.raises(
        SearchError, match=f"column 'b' has the value {value:g}".replace("+", ".")
    ):
        check_magnitudes(sparse.csr_matrix(X) if is_sparse else X, ("a", "b", "c"))
    check_magnitudes(np.full((2, 2), 1e150), ("a", "b"))


def test_logistic_regression_names_the_column_that_it_cannot_scale() -> None:
    schema, train, _ = make_rows()
    X = train.X.copy()
    X[3, 1] = 1e200

    with pytest.raises(SearchError, match=repr(schema.feature_names[1])):
        FamilySearch(LOGISTIC_REGRESSION, schema, [{}], SETTINGS).run(
            replace(train, X=X), report=silent
        )


def test_grids_are_read_with_none_by_its_word() -> None:
    grids = parse_grids(
        {
            "logistic_regression": {"class_weight": ["none", "balanced"]},
            "lightgbm": [{}, {}],
        }
    )

    assert grids == {
        "logistic_regression": [{"class_weight": [None, "balanced"]}],
        "lightgbm": [{}, {}],
    }


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"xgboost": {}},
            "unknown family 'xgboost'; known are logistic_regression, lightgbm",
        ),
        ({"lightgbm": {}}, "search.logistic_regression is missing"),
        (
            {"logistic_regression": {"C": []}, "lightgbm": {}},
            "search.logistic_regression.C is []; it has to be a list of one value or more",
        ),
        (
            {"logistic_regression": {"C": 1.0}, "lightgbm": {}},
            "search.logistic_regression.C is 1.0; it has to be a list",
        ),
        (
            {"logistic_regression": {}, "lightgbm": "fast"},
            "search.lightgbm is 'fast'; it has to be a table of lists",
        ),
    ],
    ids=["unknown family", "missing family", "empty list", "no list", "no table"],
)
def test_a_grid_that_cannot_be_read_is_named(
    config: dict[str, Any], message: str
) -> None:
    with pytest.raises(SearchError) as caught:
        parse_grids(config)

    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["c", "random_state", "classifier__C"])
def test_a_parameter_that_the_search_sets_is_refused_by_name(name: str) -> None:
    factory = PipelineFactory(LOGISTIC_REGRESSION, make_rows()[0], 0)

    with pytest.raises(
        SearchError, match=f"'{name}' is not a parameter .* it has C, class_wei"
    ):
        check_grid(factory, [{name: [1]}])


def test_the_settings_of_both_searches_are_one_value() -> None:
    assert SearchSettings("roc_auc", 3, 0) == SETTINGS


@pytest.mark.parametrize("solver", ["lbfgs", "sag", "saga", "liblinear"])
def test_every_solver_gives_the_same_scores_twice(solver: str) -> None:
    schema, train, _ = make_rows()
    grid: ParamGrid = [{"solver": [solver], "max_iter": [5]}]

    first, second = (
        FamilySearch(LOGISTIC_REGRESSION, schema, grid, SETTINGS).run(
            train, report=silent
        )
        for _ in range(2)
    )

    scores = [r.cv_results["mean_test_score"].tolist() for r in (first, second)]
    assert scores[0] == scores[1]


def test_candidates_that_cannot_be_scored_are_named_with_the_reason_of_the_scorer() -> (
    None
):
    schema, train, _ = make_rows(3)
    settings = SearchSettings("roc_auc_ovr", 3, 0)
    grid: ParamGrid = [{"objective": ["multiclassova"], "n_estimators": [5]}]

    with pytest.raises(SearchError, match="need to be probabilities.*sum up to 1"):
        FamilySearch(LIGHTGBM, schema, grid, settings).run(train, report=silent)


def test_a_search_without_time_for_a_candidate_says_so() -> None:
    schema, train, _ = make_rows()
    settings = SearchSettings("roc_auc", 3, 0, max_minutes=1e-9)

    lines: list[str] = []

    with pytest.raises(SearchError, match="finished within --max_minutes 1e-09"):
        FamilySearch(LIGHTGBM, schema, [{"n_estimators": [5]}], settings).run(
            train, report=lines.append
        )

    assert lines[1:] == [
        "LightGBM: stopped by --max_minutes 1e-09 after 0 of 3 scores",
        "LightGBM: no candidate was finished within --max_minutes 1e-09; give it more, or a "
        "smaller grid",
    ]


def test_candidates_without_time_are_left_out_and_noted() -> None:
    schema, train, _ = make_rows()
    settings = SearchSettings("roc_auc", 3, 0, max_minutes=60)
    grid: ParamGrid = [{"n_estimators": [5, 20], "num_leaves": [3]}]
    search = FamilySearch(LIGHTGBM, schema, grid, settings)
    shard = search.run_shard(train, ShardSpec(), report=silent)
    unfinished = replace(shard, scores=shard.scores[:-1])

    result = search.merge([unfinished], report=silent)

    assert result.best_params == {"n_estimators": 5, "num_leaves": 3}
    assert result.notes == (
        "1 of 2 candidates were left out for lack of time (--max_minutes 60), such as "
        "{'n_estimators': 20, 'num_leaves': 3}",
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shards": 0}, "--shards is 0; it has to be in [1, 100]"),
        (
            {"max_minutes": -1.0},
            "--max_minutes is -1.0; it has to be 0 (no limit) or more",
        ),
        (
            {"calibration": "platt"},
            "--calibration is 'platt'; it has to be one of none, sigmoid, isotonic",
        ),
        (
            {"threshold": "1"},
            "--threshold is '1'; it has to be a number above 0 and below 1, f1, youden, or "
            "cost:FN:FP with the costs of a false negative and of a false positive, such as "
            "cost:5:1",
        ),
        (
            {"data": "three.csv", "threshold": "f1"},
            "--threshold is f1, but there are 3 classes; a threshold decides between two only, so "
            "leave it at 0.5",
        ),
    ],
)
def test_wrong_parameters_are_refused_before_any_search(
    change: dict[str, Any],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("three.csv").write_text("a,target\n" + "1,x\n2,y\n3,z\n" * 20)
    parameters = FlowParameters(**{"folds": 3, **change})
    grids: dict[str, Any] = {"logistic_regression": {}, "lightgbm": {}}
    store = FileStore(tmp_path, str, lambda url, folder: folder)

    with pytest.raises(SearchError) as caught:
        make_plan(TrainingRequest("TrainFlow/1", parameters, grids, ""), store)

    assert str(caught.value) == message
