"""A model that is no better than the class shares is told, and never becomes champion by itself."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.metrics import log_loss, roc_auc_score

from training.errors import SearchError
from training.models.baseline import chance_error, find_weakness, shares_log_loss
from training.registry.promotion import _compare
from training.report.vega import summarize
from training.trained_model import choose_winner

from training_support import make_rows, train_family

RNG = np.random.default_rng(0)
RARE = (RNG.random(2000) < 0.06).astype(np.int64)


def judge(y: Any, positive: Any) -> str:
    probabilities = np.column_stack([1 - positive, positive])
    return find_weakness(RARE, y, probabilities, roc_auc_score(y, positive))


def test_the_log_loss_of_the_shares_is_that_of_scikit_learns_dummy() -> None:
    y_train, y = np.array([0, 1, 1, 2, 2, 2]), np.array([0, 1, 2, 2])
    dummy = DummyClassifier(strategy="prior").fit(np.zeros((6, 1)), y_train)

    expected = log_loss(y, dummy.predict_proba(np.zeros((4, 1))))

    assert shares_log_loss(y_train, y) == pytest.approx(expected, rel=1e-12)


def test_chance_spreads_as_far_as_it_is_said_to() -> None:
    y = np.repeat([0, 1], [90, 10])
    drawn = [roc_auc_score(y, RNG.random(100)) for _ in range(2000)]

    assert chance_error(y) == pytest.approx(np.std(drawn), rel=0.1)


def test_a_model_that_ranks_by_chance_is_weak() -> None:
    y = RARE[:500]

    assert "no better than chance" in judge(y, np.full(500, 0.06))
    assert "no better than chance: ROC AUC 0 on" in judge(y, 0.06 * (1 - y))


def test_probabilities_that_are_far_off_are_weak_though_they_rank_well() -> None:
    """As of rare positives that were weighed until they were half of all."""
    y = RARE[:500]
    good = np.clip(0.03 + 0.3 * y + 0.03 * RNG.random(500), 0, 1)
    odds = good / (1 - good) * 16

    assert judge(y, good) == ""
    assert "no better than the class shares" in judge(y, odds * 4 / (1 + odds * 4))


def test_one_row_that_was_thought_impossible_does_not_decide_alone() -> None:
    """Isotonic calibration often says 0."""
    y = RARE[:500]
    positive = np.where(np.arange(500) == y.argmax(), 0.0, 0.01 + 0.9 * y)

    assert judge(y, positive) == ""


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_model_that_learned_is_not_weak(n_classes: int) -> None:
    trained = train_family("lightgbm", *make_rows(n_classes))

    assert trained.weakness == ""
    assert "WARNING" not in summarize(trained)


def test_a_model_of_what_is_no_longer_so_is_told_and_not_promoted() -> None:
    schema, train, holdout = make_rows()
    holdout = replace(holdout, y=1 - holdout.y)
    trained = train_family("lightgbm", schema, train, holdout)
    version = cast(Any, SimpleNamespace(name="churn", version="1"))

    verdict = _compare(None, version, trained, holdout)

    assert "WARNING: no model to rely on: it" in summarize(trained)
    assert verdict.alias == "challenger"
    assert "no better than" in verdict.reason
    assert "registry.py promote 1 --model_name churn --reason" in verdict.reason


def test_when_both_searches_fail_both_reasons_are_shown() -> None:
    failures = {"logistic_regression": "C is wrong", "lightgbm": "num_leaves is wrong"}

    with pytest.raises(SearchError) as caught:
        choose_winner({}, failures)

    assert str(caught.value) == (
        "both searches failed. logistic_regression: C is wrong; lightgbm: num_leaves is wrong"
    )
