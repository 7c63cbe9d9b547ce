"""GridSearchCV's results, with the work that candidates have in common done once.

`plan` divides a search into shards, `run_shard` fits and scores the candidates of one, and `merge`
makes `cv_results_` of all scores. `SharedGridSearchCV` does all three, with the interface of
scikit-learn.
"""

from training.search.estimator import SharedGridSearchCV
from training.search.merging import break_ties, find_left_out, merge
from training.search.optimum import fit_from_optimum
from training.search.planning import plan
from training.search.progress import Meter, Progress
from training.search.running import run_shard
from training.search.target_means import TargetMeans
from training.search.values import (
    Data,
    Method,
    Problem,
    Shard,
    SharedFit,
    SolverLimits,
    SplitScore,
    Task,
)

__all__ = [
    "Data",
    "Meter",
    "Method",
    "Problem",
    "Progress",
    "Shard",
    "SharedFit",
    "SharedGridSearchCV",
    "SolverLimits",
    "SplitScore",
    "TargetMeans",
    "Task",
    "break_ties",
    "find_left_out",
    "fit_from_optimum",
    "merge",
    "plan",
    "run_shard",
]
