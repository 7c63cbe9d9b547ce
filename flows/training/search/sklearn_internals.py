"""The one door to scikit-learn's private names.

Any release of scikit-learn may rename one of them. No other module uses them, so a rename is
repaired here. `tests/test_sklearn_internals.py` says which name is missing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.metrics._scorer import (
    _BaseScorer,
    _MultimetricScorer,
    _PassthroughScorer,
)
from sklearn.model_selection import GridSearchCV, check_cv
from sklearn.model_selection._validation import (
    _fit_and_score,
    _score,
    _warn_or_raise_about_fit_failures,
)
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _check_method_params


def take_rows(X: Any, rows: NDArray[Any]) -> Any:
    """Return rows of an array, a sparse matrix or a DataFrame.

    Parameters
    ----------
    X : ndarray, csr_matrix or DataFrame, shape (n_rows, n_features)
        All rows.
    rows : ndarray of int, shape (n_taken,)
        Positions.

    Returns
    -------
    same type as X, shape (n_taken, n_features)
    """
    return _safe_indexing(X, rows)


def fit_and_score(estimator: Any, X: Any, y: Any, **options: Any) -> dict[str, Any]:
    """Fit and score an estimator on one split, as GridSearchCV does.

    Parameters
    ----------
    estimator : estimator
        Unfitted; it is changed.
    X : array-like of shape (n_rows, n_features)
        All rows.
    y : array-like of shape (n_rows,)
        Class labels.
    **options : dict
        Parameters of scikit-learn's `_fit_and_score`.

    Returns
    -------
    dict
        test_scores, n_test_samples, fit_time and score_time (seconds), fit_error.
    """
    result: dict[str, Any] = _fit_and_score(
        estimator, X, y, return_n_test_samples=True, return_times=True, **options
    )
    return result


def score_classifier(
    classifier: Any,
    X: Any,
    y: NDArray[Any],
    scorer: Any,
    *,
    score_params: Mapping[str, Any],
    error_score: Any,
) -> Any:
    """Score a fitted classifier, with GridSearchCV's treatment of scorers that fail.

    Parameters
    ----------
    classifier : estimator
        Fitted.
    X : array-like of shape (n_test_rows, n_columns)
        Test rows.
    y : ndarray of shape (n_test_rows,)
        Class labels.
    scorer : callable
        As in `Problem`.
    score_params : mapping
        Keyword arguments of the scorer.
    error_score : float or "raise"
        Score if the scorer fails.

    Returns
    -------
    float or dict of str to float
        Score, or score by metric.
    """
    return _score(classifier, X, y, scorer, score_params, error_score)


def report_failures(results: Sequence[Mapping[str, Any]], error_score: Any) -> None:
    """Warn about fits that failed.

    Parameters
    ----------
    results : sequence of dict
        What `fit_and_score` returns, for each candidate and split.
    error_score : float or "raise"
        Score of a fit that fails.

    Raises
    ------
    ValueError
        If every fit failed.
    """
    _warn_or_raise_about_fit_failures(results, error_score)


def format_results(
    candidates: Sequence[Mapping[str, Any]],
    n_splits: int,
    results: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Lay out `cv_results_` as GridSearchCV does.

    Parameters
    ----------
    candidates : sequence of dict
        Parameters of each candidate.
    n_splits : int
        Number of splits.
    results : sequence of dict
        What `fit_and_score` returns, for each candidate and, within it, for each split.

    Returns
    -------
    dict of str to array-like of shape (n_candidates,)
        `cv_results_`.
    """
    # The method reads nothing of its object.
    layout = GridSearchCV(None, {})
    formatted: dict[str, Any] = layout._format_results(
        list(candidates), n_splits, results
    )
    return formatted


def unwrap_scorer(scorer: Any) -> Any:
    """Return the scorers by metric of a scorer of several metrics; any other scorer as it is."""
    return scorer._scorers if isinstance(scorer, _MultimetricScorer) else scorer


def is_library_scorer(scorer: Any) -> bool:
    """Say whether a scorer of one metric is scikit-learn's own, or made by `make_scorer`."""
    return isinstance(scorer, _BaseScorer | _PassthroughScorer)


def find_score_function(scorer: Any) -> Any:
    """Return the function of labels and predictions that a scorer calls; None if unknown."""
    return scorer._score_func if isinstance(scorer, _BaseScorer) else None


def make_scorers(search: GridSearchCV) -> tuple[Any, str]:
    """Return the scorer of a search, and the name of the metric that `refit` goes by."""
    scorers, refit_metric = search._get_scorers()
    return scorers, refit_metric


def make_splitter(search: GridSearchCV, y: Any) -> Any:
    """Return the splitter that `cv` means for these labels, and keep it where GridSearchCV does."""
    search._checked_cv_orig = check_cv(
        search.cv, y, classifier=is_classifier(search.estimator)
    )
    return search._checked_cv_orig


def route_params(search: GridSearchCV, X: Any, params: Mapping[str, Any]) -> Any:
    """Return the keyword arguments of `fit`, by the object that takes them.

    Parameters
    ----------
    search : GridSearchCV
        Unfitted.
    X : array-like of shape (n_rows, n_features)
        All rows.
    params : mapping
        Keyword arguments of the search's `fit`.

    Returns
    -------
    Bunch
        estimator.fit, splitter.split and scorer.score, a dict each.
    """
    return search._get_routed_params_for_fit(_check_method_params(X, params=params))


def select_best_index(search: GridSearchCV, refit_metric: str) -> int:
    """Return the position of the best candidate in `cv_results_`, as GridSearchCV finds it."""
    return int(
        search._select_best_index(search.refit, refit_metric, search.cv_results_)
    )
