"""Method PLAIN: one fit of one candidate on one split, as GridSearchCV does it."""

from sklearn.base import clone

from training.search import sklearn_internals
from training.search.values import Data, Method, Problem, SplitScore


def fit_and_score(
    problem: Problem, data: Data, candidate: int, split: int
) -> SplitScore:
    """Fit and score a candidate on a split.

    Parameters
    ----------
    problem : Problem
        The question.
    data : Data
        Rows and splits.
    candidate, split : int
        Positions.

    Returns
    -------
    SplitScore
        With `fit_error` if the fit failed and `problem.error_score` is a number.
    """
    train, test = data.splits[split]
    result = sklearn_internals.fit_and_score(
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
        error_score=problem.error_score,
    )
    return SplitScore(candidate, split, method=Method.PLAIN, **result)
