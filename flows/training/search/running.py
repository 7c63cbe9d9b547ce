"""Running a shard: threads in one process, the work of every task done once."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import partial
from typing import Any

from lightgbm.basic import LightGBMError
from numpy.linalg import LinAlgError

from training.search.boosting import BoostingRun, Folds, find_classifier
from training.search.linear import JointRun, emit_shared_rows
from training.search.plain import fit_and_score
from training.search.values import (
    CannotShare,
    Data,
    Emit,
    Method,
    Problem,
    Row,
    Run,
    Shard,
    ShouldStop,
    Task,
)

# What fitting raises for parameters or rows that are no good. GridSearchCV's own way is then taken,
# so that a candidate that fails fails as it does there.
FIT_ERRORS = (
    *(LightGBMError, CannotShare, LinAlgError),
    *(ValueError, TypeError, KeyError, ArithmeticError),
)

Log = Callable[[str], None]


def _ignore(_: Any) -> None:
    """Take what nobody asked for."""


def _never() -> bool:
    return False


def run_shard(
    problem: Problem,
    data: Data,
    shard: Shard,
    *,
    n_threads: int = 1,
    emit: Emit = _ignore,
    log: Log = _ignore,
    should_stop: ShouldStop | None = None,
) -> tuple[Row, ...]:
    """Fit and score the candidates of a shard.

    Parameters
    ----------
    problem : Problem
        What is asked.
    data : Data
        Rows and splits.
    shard : Shard
        Tasks, from `plan`.
    n_threads : int, default=1
        Fits at once. Each takes one thread, whatever the estimator says.
    emit : callable
        Gets each row as soon as it is there; one call at a time.
    log : callable
        Gets a line for each reason for which candidates are fitted the plain way.
    should_stop : callable, optional
        Says, before a task and inside a boosting run, whether to begin no more. With it candidates
        are finished one by one, rather than split by split, the cheapest first.

    Returns
    -------
    tuple of Row
        Ordered by candidate and split; the same for any number of threads.
    """
    work = _Work(problem, data, shard, n_threads, emit, log, should_stop or _never)
    work.run(_by_candidate(shard) if should_stop else shard)
    return tuple(sorted(work.rows, key=lambda row: (row.candidate, row.split)))


def _by_candidate(shard: Shard) -> Shard:
    return tuple(sorted(shard, key=lambda task: (task.run.cost, task.run.candidates)))


class _Work:
    """The state of a running shard. `lock` guards the rows and whoever is told of them."""

    def __init__(
        self,
        problem: Problem,
        data: Data,
        shard: Shard,
        n_threads: int,
        emit: Emit,
        log: Log,
        should_stop: ShouldStop,
    ) -> None:
        self._problem, self._data, self._n_threads = problem, data, n_threads
        self._emit, self._log, self._should_stop = emit, log, should_stop
        self.rows: list[Row] = []
        self._logged: set[tuple[Run, str]] = set()
        self._lock = threading.Lock()
        boosting = [task for task in shard if task.run.method is Method.BOOSTING]
        self._folds = Folds(data, Counter(task.split for task in boosting))
        self._log_reasons(shard)

    def run(self, tasks: Shard) -> None:
        """Do all tasks, first those that use all threads by themselves."""
        joint: dict[Run, list[int]] = {}
        for task in tasks:
            if task.run.method is Method.JOINT:
                joint.setdefault(task.run, []).append(task.split)
        for run, splits in joint.items():
            self._run_joint(run, splits)
        rest = [task for task in tasks if task.run.method is not Method.JOINT]
        self._run_in_threads(list(self._schedule(rest)))

    def _schedule(self, tasks: list[Task]) -> Iterator[Callable[[], None]]:
        """Yield calls: each split is binned while the one before is boosted."""
        firsts: dict[int, Task] = {}
        for task in tasks:
            if task.run.method is Method.BOOSTING:
                firsts.setdefault(task.split, task)
        ahead = iter(list(firsts.values())[1:])
        for task in tasks:
            yield partial(self._run_task, task)
            if firsts.get(task.split) is task and (following := next(ahead, None)):
                yield partial(self._prepare, following)

    def _run_in_threads(self, calls: list[Callable[[], None]]) -> None:
        with ThreadPoolExecutor(self._n_threads) as pool:
            futures = [pool.submit(call) for call in calls]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                # After an error, or when the user interrupts, nothing new begins.
                pool.shutdown(wait=False, cancel_futures=True)
        for future in futures:
            if not future.cancelled():
                future.result()

    def _prepare(self, task: Task) -> None:
        """Bin rows ahead of time; what fails here fails again, and is told, in the run."""
        if not self._should_stop():
            try:
                classifier = find_classifier(self._problem, task.run.candidates[0])
                self._folds.get(task.split, classifier)
            except FIT_ERRORS:
                return

    def _run_task(self, task: Task) -> None:
        if self._should_stop():
            return
        try:
            if task.run.method is Method.BOOSTING:
                run = BoostingRun(self._problem, self._data, task, self._folds)
                run.emit_rows(self._take, self._should_stop)
            elif task.run.method is Method.SHARED_ROWS:
                emit_shared_rows(self._problem, self._data, task, self._take)
            else:
                self._run_plain(task)
        except FIT_ERRORS as error:
            if task.run.method is Method.PLAIN or self._problem.error_score == "raise":
                raise
            self._give_up_sharing(task, error)
        finally:
            if task.run.method is Method.BOOSTING:
                self._folds.release(task.split)

    def _run_joint(self, run: Run, splits: list[int]) -> None:
        if self._should_stop():
            return
        try:
            joint = JointRun(self._problem, self._data, run, splits, self._n_threads)
            joint.emit_rows(self._take)
        except FIT_ERRORS as error:
            tasks = [Task(run, split) for split in splits]
            self._log_once(run, str(error))
            self._run_in_threads([partial(self._run_plain, task) for task in tasks])

    def _give_up_sharing(self, task: Task, error: Exception) -> None:
        self._log_once(task.run, str(error))
        self._run_plain(task)

    def _run_plain(self, task: Task) -> None:
        with self._lock:
            done = {(row.candidate, row.split) for row in self.rows}
        for candidate in task.run.candidates:
            if (candidate, task.split) not in done and not self._should_stop():
                self._take(
                    fit_and_score(self._problem, self._data, candidate, task.split)
                )

    def _take(self, row: Row) -> None:
        with self._lock:
            self.rows.append(row)
            self._emit(row)

    def _log_reasons(self, shard: Shard) -> None:
        candidates: dict[str, set[int]] = {}
        for task in shard:
            if task.run.reason:
                candidates.setdefault(task.run.reason, set()).update(
                    task.run.candidates
                )
        for reason, numbers in candidates.items():
            self._log(_say_plain(len(numbers), reason))

    def _log_once(self, run: Run, reason: str) -> None:
        line = _say_plain(len(run.candidates), reason)
        with self._lock:
            if (run, line) not in self._logged:
                self._logged.add((run, line))
                self._log(line)


def _say_plain(n_candidates: int, reason: str) -> str:
    lines = reason.strip().splitlines() or ["no reason given"]
    return f"{n_candidates} candidates are fitted as GridSearchCV does: {lines[-1]}"
