"""Which candidates may share a fit, and why the others may not.

A candidate is looked at as the estimator that it sets up, so it does not matter whether a parameter
comes from the grid or from the estimator.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from training.search.preparation import read_preparation, steps_of
from training.search.scoring import reads_answers_only
from training.search.values import (
    SAMPLE_WEIGHT,
    SCIKIT_LEARN,
    CannotShare,
    Data,
    Method,
    Problem,
)

PREFIX_PARAMETER = "n_estimators"
# LightGBM's names for the columns that hold codes of categories. All of them work; at the first one
# LightGBM 4.7 says that it ignores it, and does not.
CATEGORICAL = (
    *("categorical_feature", "categorical_features", "categorical_column"),
    *("cat_feature", "cat_column"),
)
# LightGBM's own parameters, beside LGBMClassifier's, under which a prefix of a run was found to be
# the shorter run; the others go the plain way, aliases of n_estimators and of early stopping among
# them.
KNOWN_EXTRAS = frozenset(
    {
        *("verbose", "verbosity", "deterministic", "force_col_wise", "force_row_wise"),
        *(
            "max_bin",
            "min_data_in_bin",
            "bin_construct_sample_cnt",
            "feature_pre_filter",
        ),
        *("bagging_seed", "feature_fraction_seed", "data_random_seed", "extra_trees"),
        *("scale_pos_weight", "is_unbalance", "feature_fraction_bynode", "path_smooth"),
        *("max_delta_step", "zero_as_missing", "use_missing", "boost_from_average"),
        *("cat_smooth", "cat_l2", "max_cat_threshold", "max_cat_to_onehot"),
        *("min_data_per_group", "enable_bundle", "is_enable_sparse", "sigmoid"),
        *CATEGORICAL,
    }
)
KNOWN_OBJECTIVES = (None, "binary", "multiclass", "multiclassova", "cross_entropy")
# Parameters that do not change what LightGBM fits, or are a prefix.
WITHOUT_EFFECT = frozenset({PREFIX_PARAMETER, "importance_type", "n_jobs"})
# A grid over them asks for the answer of a solver that stops early.
STOPPING = frozenset({"tol", "max_iter"})
# Rows for each parameter from which logistic regressions of several classes are solved together.
MIN_ROWS_PER_PARAMETER = 20
# Expected passes over the rows by which the solvers of scikit-learn are slower than the joint one.
SOLVER_COST: Mapping[str, float] = MappingProxyType({"saga": 10.0, "sag": 10.0})


@dataclass(frozen=True, slots=True)
class Trait:
    """What a candidate shares.

    Parameters
    ----------
    method : Method
        How it is fitted.
    key : tuple of str
        Equal for candidates that share a fit.
    cost : float
        Expected time of its own.
    adds_up : bool
        Whether costs of a run add up, rather than the longest counting.
    reason : str
        Why it is fitted the plain way; empty if it is not.
    """

    method: Method
    key: tuple[str, ...]
    cost: float
    adds_up: bool = False
    reason: str = ""


def set_up(problem: Problem, candidate: int) -> Any:
    """Return the unfitted estimator of a candidate."""
    # Parameters may be estimators, so they are cloned, as GridSearchCV does.
    params = clone(problem.candidates[candidate], safe=False)
    return clone(problem.estimator).set_params(**params)


def name_weight(estimator: Any) -> str:
    """Return the name under which `fit` takes the sample weights of the classifier."""
    if type(estimator) is not Pipeline or not estimator.steps:
        return SAMPLE_WEIGHT
    name, last = estimator.steps[-1]
    return f"{name}__{name_weight(last)}"


def describe(problem: Problem, data: Data, candidate: int, n_classes: int) -> Trait:
    """Return what a candidate shares with others, where there are so many classes."""
    from lightgbm import LGBMClassifier

    estimator = set_up(problem, candidate)
    steps = steps_of(estimator)
    if reason := _refuse_surroundings(problem, data, estimator):
        return _plain(steps[-1:], reason)
    if type(steps[-1]) is LGBMClassifier:
        return _describe_boosting(steps)
    if type(steps[-1]) is LogisticRegression:
        return _describe_linear(problem, data, (candidate, n_classes), steps)
    name = type(steps[-1]).__name__
    return _plain(
        steps[-1:], f"{name} is neither LGBMClassifier nor LogisticRegression"
    )


def leaves(classifier: Any) -> int:
    """Return the leaves that a tree can have: depth d leaves room for 2**d."""
    depth, n_leaves = classifier.max_depth, classifier.num_leaves
    capped = depth is not None and 0 < depth < 31
    return int(min(n_leaves, 2**depth)) if capped else int(n_leaves)


def _refuse_surroundings(problem: Problem, data: Data, estimator: Any) -> str:
    is_pipeline = type(estimator) is Pipeline
    unknown = sorted(set(data.fit_params) - {name_weight(estimator)})
    if not reads_answers_only(problem.scorer):
        return "the scorer looks at more than predictions"
    if unknown:
        return f"fit is given {unknown[0]}"
    if is_pipeline and estimator.memory is not None:
        return "the pipeline caches"
    if data.y is None or not steps_of(estimator):
        return "there is nothing to classify"
    return ""


def _plain(steps: list[Any], reason: str) -> Trait:
    rounds = getattr(steps[0], PREFIX_PARAMETER, 1) if steps else 1
    cost = float(rounds) if isinstance(rounds, int) and rounds > 0 else 1.0
    return Trait(Method.PLAIN, (), cost, reason=reason)


def _describe_boosting(steps: list[Any]) -> Trait:
    classifier = steps[-1]
    params = classifier.get_params()
    if reason := _refuse_boosting(steps, params):
        return _plain([classifier], reason)
    params["num_leaves"] = leaves(classifier)
    shared = {name: params[name] for name in params if name not in WITHOUT_EFFECT}
    # Trees with more leaves take longer, but less than in proportion: the root is the dearest.
    cost = params[PREFIX_PARAMETER] * max(params["num_leaves"], 1) ** 0.5
    return Trait(Method.BOOSTING, (repr(sorted(shared.items())),), cost)


def _refuse_boosting(steps: list[Any], params: dict[str, Any]) -> str:
    if len(steps) > 1:
        return f"{type(steps[0]).__name__} stands before LightGBM"
    known = set(type(steps[-1])().get_params()) | KNOWN_EXTRAS
    unknown = sorted(set(params) - known)
    if unknown:
        return f"{unknown[0]} may change what a prefix of a run is"
    if params["boosting_type"] not in ("gbdt", "rf"):
        return f"{params['boosting_type']} changes earlier trees"
    if params["objective"] not in KNOWN_OBJECTIVES:
        return f"the objective {params['objective']!r} is not one of LightGBM's for classes"
    if not isinstance(params["random_state"], int | np.integer | None):
        return "random_state is a generator, which gives another seed to each fit"
    if not isinstance(params[PREFIX_PARAMETER], int | np.integer):
        return f"n_estimators is {params[PREFIX_PARAMETER]!r}"
    return "n_estimators is below 1" if params[PREFIX_PARAMETER] < 1 else ""


def _describe_linear(
    problem: Problem, data: Data, place: tuple[int, int], steps: list[Any]
) -> Trait:
    candidate, n_classes = place
    *before, classifier = steps
    if reason := _refuse_rows(data, steps):
        return _plain([classifier], reason)
    key = repr(
        [(type(step).__name__, sorted(step.get_params().items())) for step in before]
    )
    cost = float(data.X.shape[1])
    own = problem.solver == SCIKIT_LEARN or _is_better_alone(data, n_classes)
    if own or _needs_own_solver(problem, candidate, classifier):
        cost *= SOLVER_COST.get(classifier.solver, 1.0)
        return Trait(Method.SHARED_ROWS, (key,), cost, adds_up=True)
    params = classifier.get_params()
    shared = {name: params[name] for name in params if name not in {"C", *STOPPING}}
    return Trait(Method.JOINT, (key, repr(sorted(shared.items()))), cost, adds_up=True)


def _refuse_rows(data: Data, steps: list[Any]) -> str:
    if not (isinstance(data.X, np.ndarray) or issparse(data.X)) or data.X.ndim != 2:
        return "the rows are neither an array nor a sparse matrix"
    if data.X.dtype != np.float64:
        return f"the rows are {data.X.dtype}, not float64"
    try:
        read_preparation(steps[:-1], data.X.shape[1])
    except CannotShare as error:
        return str(error)
    return ""


def _is_better_alone(data: Data, n_classes: int) -> bool:
    """Say whether classes are too few or too many for the rows.

    With few rows for each parameter, one of several classes is easily told from the others without
    an error. Such models have nothing in common that would help to solve them together.
    """
    n_rows, n_features = data.X.shape
    n_parameters = n_classes * (n_features + 1)
    return n_classes < 2 or (
        n_classes > 2 and n_rows < MIN_ROWS_PER_PARAMETER * n_parameters
    )


def _needs_own_solver(problem: Problem, candidate: int, classifier: Any) -> bool:
    """Say whether a candidate asks for the answer of a certain solver, or has another penalty."""
    names = {name.rpartition("__")[2] for name in problem.candidates[candidate]}
    penalty = (classifier.l1_ratio or 0, classifier.penalty)
    return (
        bool(names & (STOPPING | {"solver"}))
        or classifier.solver != "lbfgs"
        or penalty not in ((0, "l2"), (0, "deprecated"))
        or not classifier.fit_intercept
        or classifier.warm_start
        or not np.isfinite(classifier.C)
        or classifier.C <= 0
    )
