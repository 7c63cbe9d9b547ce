"""One search by one method, in a process of its own: its time, its memory, its scores.

Run by `benchmarks.search` as `python -m benchmarks.search_methods CASE METHOD SECONDS`.
"""

import json
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lightgbm import LGBMClassifier
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedKFold,
    cross_val_score,
    train_test_split,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from training.search import SharedGridSearchCV

MIB = 2**20
POLL_SECONDS = 0.05
Grid = Mapping[str, list[Any]]
TYPICAL: Grid = {
    "learning_rate": [0.03, 0.1, 0.3],
    "n_estimators": [100, 200, 400],
    "max_depth": [3, 6, -1],
}
TEN_PREFIXES: Grid = {**TYPICAL, "n_estimators": list(range(40, 401, 40))}
SMALL: Grid = {"num_leaves": [15, 31], "n_estimators": [25, 50, 100]}
STRENGTHS: Grid = {"classifier__C": [1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1000.0]}


@dataclass(frozen=True, slots=True)
class Case:
    """A table, a grid and a number of folds."""

    table: str
    grid: Grid
    n_folds: int

    @property
    def is_linear(self) -> bool:
        """Whether the case is one of logistic regression."""
        return self.grid is STRENGTHS

    @property
    def methods(self) -> list[str]:
        """Return the names of the methods, the shared search first."""
        return [name for name in METHODS if self.is_linear or name != TO_THE_OPTIMUM]


CASES: Mapping[str, Case] = {
    "LightGBM, breast_cancer, 27": Case("breast_cancer", TYPICAL, 5),
    "LightGBM, breast_cancer, 90": Case("breast_cancer", TEN_PREFIXES, 5),
    "LightGBM, 100k x 50, 27": Case("100000x50", TYPICAL, 3),
    "LightGBM, 1M x 28, 6": Case("1000000x28", SMALL, 3),
    "LR, breast_cancer, 7": Case("breast_cancer", STRENGTHS, 5),
    "LR, 100k x 50, 7": Case("100000x50", STRENGTHS, 5),
    "LR, 1M x 28, 7": Case("1000000x28", STRENGTHS, 5),
    "LR, sparse 100k x 1000, 7": Case("sparse", STRENGTHS, 5),
    "LR, one-hot 100k x 1000, 7": Case("one-hot", STRENGTHS, 5),
    "LR, 5 classes, 100k x 50, 7": Case("classes", STRENGTHS, 5),
}
SPARSE_TABLES = ("sparse", "one-hot")
# The method that stops where the shared search does; for logistic regression only.
TO_THE_OPTIMUM = "GridSearchCV, tol=1e-10"


def make_table(name: str) -> tuple[Any, NDArray[np.int64]]:
    """Return rows and labels; a name with a size gives random rows with interactions and noise."""
    if name == "breast_cancer":
        X, y = load_breast_cancer(return_X_y=True)
        return X, y
    rng = np.random.default_rng(0)
    if name == "classes":
        X = rng.normal(size=(100_000, 50))
        raw_scores = X @ rng.normal(size=(50, 5)) / 5
        return X, (raw_scores + rng.gumbel(size=raw_scores.shape)).argmax(axis=1)
    if name == "one-hot":
        # Each row has one of 50 levels of 20 categories, so the columns go together.
        columns = rng.integers(0, 50, (100_000, 20)) + np.arange(20) * 50
        raw_scores = (rng.normal(size=1000) / 2)[columns].sum(axis=1)
        starts = np.arange(0, columns.size + 1, 20)
        ones = np.ones(columns.size)
        X = sparse.csr_matrix((ones, columns.ravel(), starts), shape=(100_000, 1000))
        return X, (raw_scores + rng.logistic(size=100_000) > 0).astype(np.int64)
    if name == "sparse":
        X = sparse.random(100_000, 1000, 0.02, format="csr", random_state=0)
        raw_scores = X @ rng.normal(size=1000)
        noise = rng.normal(size=len(raw_scores)) * 2
        return X, (raw_scores + noise > 0).astype(np.int64)
    n_rows, n_features = map(int, name.split("x"))
    X = rng.normal(size=(n_rows, n_features))
    raw_scores = X[:, :8] @ rng.normal(size=8) + X[:, 0] * X[:, 1] + np.sin(2 * X[:, 2])
    return X, (raw_scores + rng.logistic(size=n_rows) * 2 > 0).astype(np.int64)


def make_estimator(case: Case, n_jobs: int | None) -> Any:
    """Return the estimator of a case; `n_jobs` is LightGBM's number of threads."""
    if not case.is_linear:
        return LGBMClassifier(random_state=0, verbose=-1, n_jobs=n_jobs)
    scaler = StandardScaler(with_mean=case.table not in SPARSE_TABLES)
    if case.table == "one-hot":
        # As in the flow, where columns of 0 and 1 pass.
        scaler = "passthrough"
    classifier = LogisticRegression(max_iter=1000)
    return Pipeline([("scale", scaler), ("classifier", classifier)])


def search_shared(case: Case, X: Any, y: Any, seconds: float) -> Any:
    """Search by the project's own library."""
    search = SharedGridSearchCV(
        make_estimator(case, 1), dict(case.grid), **options(case)
    )
    return search.set_params(n_jobs=-1).fit(X, y)


def search_default(case: Case, X: Any, y: Any, seconds: float) -> Any:
    """Search by GridSearchCV with the defaults of LightGBM."""
    estimator = make_estimator(case, None)
    return GridSearchCV(estimator, dict(case.grid), n_jobs=-1, **options(case)).fit(
        X, y
    )


def search_configured(case: Case, X: Any, y: Any, seconds: float) -> Any:
    """Search by GridSearchCV with a worker for each core and a thread for each worker."""
    estimator = make_estimator(case, 1)
    return GridSearchCV(estimator, dict(case.grid), n_jobs=-1, **options(case)).fit(
        X, y
    )


def search_to_the_optimum(case: Case, X: Any, y: Any, seconds: float) -> Any:
    """Search by GridSearchCV with a worker for each core, to the optimum."""
    estimator = make_estimator(case, 1).set_params(
        classifier__tol=1e-10, classifier__max_iter=100_000
    )
    return GridSearchCV(estimator, dict(case.grid), n_jobs=-1, **options(case)).fit(
        X, y
    )


def search_halving(case: Case, X: Any, y: Any, seconds: float) -> Any:
    """Search by successive halving over the number of rows."""
    from sklearn.experimental import (  # noqa: F401  # its switch
        enable_halving_search_cv,
    )
    from sklearn.model_selection import HalvingGridSearchCV

    search = HalvingGridSearchCV(
        make_estimator(case, 1),
        dict(case.grid),
        n_jobs=-1,
        random_state=0,
        **options(case),
    )
    return search.fit(X, y)


def search_optuna(case: Case, X: Any, y: Any, seconds: float) -> Any:
    """Search by Optuna's default sampler on the values of the grid, until the time is over."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    given = options(case)

    def objective(trial: Any) -> float:
        params = {
            name: trial.suggest_categorical(name, values)
            for name, values in case.grid.items()
        }
        estimator = make_estimator(case, 1).set_params(**params)
        scores = cross_val_score(
            estimator, X, y, cv=given["cv"], scoring=given["scoring"], n_jobs=-1
        )
        return float(scores.mean())

    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=0)
    )
    study.optimize(objective, timeout=seconds)
    return study


METHODS: Mapping[str, Callable[[Case, Any, Any, float], Any]] = {
    "shared": search_shared,
    "GridSearchCV, default": search_default,
    "GridSearchCV, 1 thread each": search_configured,
    TO_THE_OPTIMUM: search_to_the_optimum,
    "HalvingGridSearchCV": search_halving,
    "Optuna, same time": search_optuna,
}


def options(case: Case) -> dict[str, Any]:
    """Return the parameters that all methods share."""
    cv = StratifiedKFold(case.n_folds, shuffle=True, random_state=0)
    scoring = "roc_auc_ovr" if case.table == "classes" else "roc_auc"
    return {"scoring": scoring, "cv": cv, "refit": False}


def read_memory(pid: int) -> int:
    """Return the memory of a process and its children in bytes, shared pages counted once."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        pids = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        # A child may end meanwhile.
        return 0
    own = next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return own * 1024 + sum(read_memory(int(child)) for child in pids)


class Peak:
    """The peak of the memory while a block runs, measured in a thread."""

    def __init__(self) -> None:
        self.growth_bytes = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "Peak":
        self._before = read_memory(os.getpid())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(POLL_SECONDS):
            growth = read_memory(os.getpid()) - self._before
            self.growth_bytes = max(self.growth_bytes, growth)


def count_cpu_seconds(pid: int) -> float:
    """Return the processor time of a process and its children, including those that ended."""
    try:
        # After the name, which may hold spaces, the state is field 3; see proc(5).
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        pids = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        # A child may end meanwhile.
        return 0.0
    # utime, stime, cutime and cstime are the fields 14 to 17.
    own = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return own + sum(count_cpu_seconds(int(child)) for child in pids)


def measure(name: str, method: str, seconds: float) -> dict[str, float]:
    """Search, and score the best candidate on held-out rows."""
    case = CASES[name]
    X, y = make_table(case.table)
    numbers, held = train_test_split(np.arange(len(y)), test_size=0.2, random_state=0)
    X_train, y_train = X[numbers], y[numbers]
    size_bytes = X_train.data.nbytes
    with Peak() as peak:
        cpu_seconds, begin = count_cpu_seconds(os.getpid()), time.perf_counter()
        search = METHODS[method](case, X_train, y_train, seconds)
        wall_seconds = time.perf_counter() - begin
        cpu_seconds = count_cpu_seconds(os.getpid()) - cpu_seconds
    params = search.best_params if method.startswith("Optuna") else search.best_params_
    best = search.best_value if method.startswith("Optuna") else search.best_score_
    fitted = clone(make_estimator(case, -1)).set_params(**params).fit(X_train, y_train)
    return {
        "wall_seconds": wall_seconds,
        "cpu_share": cpu_seconds / wall_seconds / (os.cpu_count() or 1),
        "growth": peak.growth_bytes / size_bytes,
        "growth_mib": peak.growth_bytes / MIB,
        "cv_score": float(best),
        "holdout_score": float(
            get_scorer(options(case)["scoring"])(fitted, X[held], y[held])
        ),
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps(measure(sys.argv[1], sys.argv[2], float(sys.argv[3]))))
