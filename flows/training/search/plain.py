"""One fit of one candidate, as GridSearchCV does it."""

from typing import Any

from sklearn.base import clone
from sklearn.model_selection._validation import _fit_and_score

from training.search.values import Data, Method, Problem, Row


def fit_and_score(problem: Problem, data: Data, candidate: int, split: int) -> Row:
    """Fit and score a candidate on a split, with scikit-learn's own function for it."""
    train, test = data.splits[split]
    out: dict[str, Any] = _fit_and_score(
        clone(problem.estimator),
        data.X,
        data.y,
        scorer=problem.scorer,
        train=train,
        test=test,
        verbose=0,
        parameters=problem.candidates[candidate],
        fit_params=dict(data.fit_params),
        score_params=dict(data.score_params),
        return_n_test_samples=True,
        return_times=True,
        error_score=problem.error_score,
    )
    return Row(candidate=candidate, split=split, method=Method.PLAIN, **out)
