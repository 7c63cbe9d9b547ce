"""What GridSearchCV returns, with the work that candidates have in common done once.

`plan` divides a search into shards, `run_shard` fits and scores one, `merge` makes `cv_results_` of
their rows; `SharedGridSearchCV` is all three with the surface of scikit-learn.
"""

from training.search.estimator import SharedGridSearchCV
from training.search.merging import break_ties, find_left_out, merge
from training.search.planning import plan
from training.search.progress import Meter, Progress
from training.search.running import run_shard
from training.search.values import Data, Method, Problem, Row, Run, Shard, Task

__all__ = [
    "Data",
    "Meter",
    "Method",
    "Problem",
    "Progress",
    "Row",
    "Run",
    "Shard",
    "SharedGridSearchCV",
    "Task",
    "break_ties",
    "find_left_out",
    "merge",
    "plan",
    "run_shard",
]
