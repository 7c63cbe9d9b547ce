"""Which candidates may share a fit, and why the others may not.

A candidate is judged by the estimator that it sets up. A parameter counts the same whether it comes
from the grid or from the estimator.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from lightgbm import LGBMClassifier
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from training.search.lightgbm_parameters import (
    KNOWN_EXTRAS,
    KNOWN_OBJECTIVES,
    PREFIX_PARAMETER,
    WITHOUT_EFFECT,
    count_leaves,
)
from training.search.pipeline_steps import read_preprocessing, steps_of
from training.search.scoring import reads_predictions_only
from training.search.values import (
    SAMPLE_WEIGHT,
    SCIKIT_LEARN,
    CannotShare,
    Data,
    Method,
    Problem,
)

# A grid over one of them asks for the result of a solver that stops early.
STOPPING_PARAMETERS = frozenset({"tol", "max_iter"})
# Fewest rows per parameter for which several classes are solved together. With fewer rows the
# classes are nearly separable, and solving them together does not pay.
MIN_ROWS_PER_PARAMETER = 20
# Expected passes over the rows, relative to the joint solver; 1 for the solvers that are not here.
SOLVER_COST: Mapping[str, float] = MappingProxyType({"saga": 10.0, "sag": 10.0})


@dataclass(frozen=True, slots=True)
class Sharing:
    """Whether and with whom a candidate shares a fit.

    Parameters
    ----------
    method : Method
        How the candidate is fitted.
    key : tuple of str
        Equal for candidates that share a fit.
    cost : float
        Expected time of the candidate alone, on one split; only ratios have a meaning.
    costs_add_up : bool
        Whether a shared fit costs the sum of its candidates, rather than the most expensive one.
    reason : str
        Why the method is plain; empty for the other methods.
    """

    method: Method
    key: tuple[str, ...]
    cost: float
    costs_add_up: bool = False
    reason: str = ""


def make_estimator(problem: Problem, candidate: int) -> Any:
    """Return the unfitted estimator of a candidate, which is given by its position."""
    # Parameters may be estimators, so they are cloned, as GridSearchCV does.
    params = clone(problem.candidates[candidate], safe=False)
    return clone(problem.estimator).set_params(**params)


def name_sample_weight(estimator: Any) -> str:
    """Return the name under which `fit` takes the sample weights of the classifier."""
    if type(estimator) is not Pipeline or not estimator.steps:
        return SAMPLE_WEIGHT
    name, last = estimator.steps[-1]
    return f"{name}__{name_sample_weight(last)}"


def find_sharing(
    problem: Problem, data: Data, candidate: int, n_classes: int
) -> Sharing:
    """Return whether and with whom a candidate shares a fit.

    Parameters
    ----------
    problem : Problem
        The question.
    data : Data
        Rows and splits.
    candidate : int
        Position of the candidate.
    n_classes : int
        Number of class labels.

    Returns
    -------
    Sharing
    """
    estimator = make_estimator(problem, candidate)
    steps = steps_of(estimator)
    if reason := _refuse_surroundings(problem, data, estimator):
        return _share_nothing(steps[-1:], reason)
    if type(steps[-1]) is LGBMClassifier:
        return _share_boosting(steps)
    if type(steps[-1]) is LogisticRegression:
        return _share_linear(problem, data, (candidate, n_classes), steps)
    name = type(steps[-1]).__name__
    return _share_nothing(
        steps[-1:], f"{name} is neither LGBMClassifier nor LogisticRegression"
    )


def _refuse_surroundings(problem: Problem, data: Data, estimator: Any) -> str:
    """Return why no classifier could share a fit here; empty if it could."""
    is_pipeline = type(estimator) is Pipeline
    unknown = sorted(set(data.fit_params) - {name_sample_weight(estimator)})
    if not reads_predictions_only(problem.scorer):
        return "the scorer uses more than predictions"
    if unknown:
        return f"fit takes {unknown[0]!r}, which is no weight of the classifier's rows"
    if is_pipeline and estimator.memory is not None:
        return "the pipeline has a memory"
    if data.y is None or not steps_of(estimator):
        return "y is None or the pipeline has no classifier"
    return ""


def _share_nothing(steps: list[Any], reason: str) -> Sharing:
    rounds = getattr(steps[0], PREFIX_PARAMETER, 1) if steps else 1
    cost = float(rounds) if isinstance(rounds, int) and rounds > 0 else 1.0
    return Sharing(Method.PLAIN, (), cost, reason=reason)


def _share_boosting(steps: list[Any]) -> Sharing:
    classifier = steps[-1]
    params = classifier.get_params()
    if reason := _refuse_boosting(steps, params):
        return _share_nothing([classifier], reason)
    params["num_leaves"] = count_leaves(classifier)
    shared = {name: params[name] for name in params if name not in WITHOUT_EFFECT}
    # Time grows more slowly than the leaves, since the root has the most rows.
    cost = params[PREFIX_PARAMETER] * max(params["num_leaves"], 1) ** 0.5
    return Sharing(Method.BOOSTING, (repr(sorted(shared.items())),), cost)


def _refuse_boosting(steps: list[Any], params: dict[str, Any]) -> str:
    """Return why a LightGBM classifier shares no fit; empty if it does."""
    if len(steps) > 1:
        return f"{type(steps[0]).__name__} stands before LightGBM"
    known = set(type(steps[-1])().get_params()) | KNOWN_EXTRAS
    unknown = sorted(set(params) - known)
    if unknown:
        return f"{unknown[0]} may change the first trees of a longer fit"
    if params["boosting_type"] not in ("gbdt", "rf"):
        return f"{params['boosting_type']} changes earlier trees"
    if params["objective"] not in KNOWN_OBJECTIVES:
        return f"the objective {params['objective']!r} is not one of LightGBM's for classes"
    if not isinstance(params["random_state"], int | np.integer | None):
        return "random_state is a generator, which gives each fit another seed"
    if not isinstance(params[PREFIX_PARAMETER], int | np.integer):
        return f"n_estimators is {params[PREFIX_PARAMETER]!r}, not an integer"
    if params[PREFIX_PARAMETER] < 1:
        return f"n_estimators is {params[PREFIX_PARAMETER]}, below 1"
    return ""


def _share_linear(
    problem: Problem, data: Data, place: tuple[int, int], steps: list[Any]
) -> Sharing:
    candidate, n_classes = place
    *before, classifier = steps
    if reason := _refuse_rows(data, steps):
        return _share_nothing([classifier], reason)
    key = repr(
        [(type(step).__name__, sorted(step.get_params().items())) for step in before]
    )
    cost = float(data.X.shape[1])
    is_alone = problem.solver == SCIKIT_LEARN or _is_better_alone(data, n_classes)
    names = {name.rpartition("__")[2] for name in problem.candidates[candidate]}
    asks_for_solver = bool(names & (STOPPING_PARAMETERS | {"solver"}))
    if is_alone or asks_for_solver or _needs_own_solver(classifier):
        cost *= SOLVER_COST.get(classifier.solver, 1.0)
        return Sharing(Method.SHARED_ROWS, (key,), cost, costs_add_up=True)
    params = classifier.get_params()
    ignored = {"C", *STOPPING_PARAMETERS}
    shared = {name: params[name] for name in params if name not in ignored}
    keys = (key, repr(sorted(shared.items())))
    return Sharing(Method.JOINT, keys, cost, costs_add_up=True)


def _refuse_rows(data: Data, steps: list[Any]) -> str:
    """Return why a logistic regression cannot share these rows; empty if it can."""
    if not (isinstance(data.X, np.ndarray) or issparse(data.X)) or data.X.ndim != 2:
        return "X is neither an array nor a sparse matrix"
    if data.X.dtype != np.float64:
        return f"X is {data.X.dtype}, not float64"
    try:
        read_preprocessing(steps[:-1], data.X.shape[1])
    except CannotShare as error:
        return str(error)
    return ""


def _is_better_alone(data: Data, n_classes: int) -> bool:
    """Say whether there is one class only, or too few rows for several classes."""
    n_rows, n_features = data.X.shape
    n_parameters = n_classes * (n_features + 1)
    return n_classes < 2 or (
        n_classes > 2 and n_rows < MIN_ROWS_PER_PARAMETER * n_parameters
    )


def _needs_own_solver(classifier: Any) -> bool:
    """Say whether a candidate has another solver, or another penalty."""
    penalty = (classifier.l1_ratio or 0, classifier.penalty)
    return (
        classifier.solver != "lbfgs"
        or penalty not in ((0, "l2"), (0, "deprecated"))
        or not classifier.fit_intercept
        or classifier.warm_start
        or not np.isfinite(classifier.C)
        or classifier.C <= 0
    )


def can_solve_together(data: Data, classifier: Any) -> bool:
    """Say whether the joint solver finds the optimum of a single logistic regression.

    Parameters
    ----------
    data : Data
        Rows as the classifier sees them, and labels.
    classifier : estimator
        Unfitted.

    Returns
    -------
    bool
    """
    return (
        type(classifier) is LogisticRegression
        and not _refuse_rows(data, [classifier])
        and not _needs_own_solver(classifier)
        and not _is_better_alone(data, len(np.unique(np.asarray(data.y))))
    )
