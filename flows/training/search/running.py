"""Running a shard: one process, several threads, and each shared fit done once.

::

    joint fits, each on all threads --> the other tasks, one thread each --> SplitScores
                                        (each split is binned while the one before is boosted)

    a task that raises one of FIT_ERRORS --> plain fits of its candidates without a score
    should_stop() is true --> no task begins, and one that runs ends after its current score
    should_stop is given  --> tasks take turns, one score each: the cheapest fit on all splits first
"""

import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

from lightgbm.basic import LightGBMError
from numpy.linalg import LinAlgError

from training.search.binning import BinnedFolds
from training.search.boosting import BoostingFit, find_classifier
from training.search.joint import JointFit
from training.search.plain import fit_and_score
from training.search.shared_rows import emit_shared_rows
from training.search.target_means import SplitRows, split_off
from training.search.turns import END, Turns
from training.search.values import (
    CannotShare,
    Data,
    Emit,
    Method,
    Problem,
    Shard,
    SharedFit,
    ShouldStop,
    SplitScore,
    Task,
)

# What fitting raises for invalid parameters or rows. The candidates are then fitted the plain way,
# so that one that fails does so as in GridSearchCV.
FIT_ERRORS = (
    LightGBMError,
    CannotShare,
    LinAlgError,
    ValueError,
    TypeError,
    KeyError,
    ArithmeticError,
)

Log = Callable[[str], None]


def _ignore(_: Any) -> None:
    """Drop what nobody asked for."""


def _do_nothing() -> None:
    """Leave the calls that have begun to themselves."""


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
) -> tuple[SplitScore, ...]:
    """Fit and score the candidates of a shard.

    Parameters
    ----------
    problem : Problem
        The question.
    data : Data
        Rows and splits.
    shard : Shard
        Tasks, from `plan`.
    n_threads : int, default=1
        Number of fits at once. Each takes one thread, whatever the estimator says.
    emit : callable
        Gets each score as soon as it exists; one call at a time.
    log : callable
        Gets a line for each reason why candidates are fitted the plain way.
    should_stop : callable, optional
        Says, before each score, whether to begin no more. If it is given, the cheapest candidates
        come first, each on all splits before the next one, so that a stopped search has complete
        candidates. This takes the memory of all splits at once.

    Returns
    -------
    tuple of SplitScore
        Ordered by candidate and split. The scores do not depend on the number of threads.
    """
    work = _Work(problem, data, shard, n_threads, emit, log, should_stop or _never)
    work.run(shard, in_turns=should_stop is not None)
    return tuple(
        sorted(work.split_scores, key=lambda score: (score.candidate, score.split))
    )


class _Work:
    """The state of a running shard. The lock guards the scores, the log and calls of `emit`."""

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
        # What the fits that share work see: the pipeline and the rows after target means.
        step, self._shared_problem = split_off(problem)
        self._rows = SplitRows(data, step)
        self._emit, self._log, self._should_stop = emit, log, should_stop
        self.split_scores: list[SplitScore] = []
        self._logged: set[tuple[SharedFit, str]] = set()
        self._lock = threading.Lock()
        boosting = [task for task in shard if _has_method(task, Method.BOOSTING)]
        self._folds = BinnedFolds(self._rows, Counter(task.split for task in boosting))
        self._log_reasons(shard)

    def run(self, tasks: Shard, *, in_turns: bool) -> None:
        """Do all tasks; those that use all threads by themselves come first."""
        joint: dict[SharedFit, list[int]] = {}
        for task in tasks:
            if _has_method(task, Method.JOINT):
                joint.setdefault(task.shared_fit, []).append(task.split)
        rest = [task for task in tasks if not _has_method(task, Method.JOINT)]
        for shared_fit, splits in joint.items():
            rest += self._run_joint(shared_fit, splits)
        if in_turns:
            turns = Turns(rest, self._work, self._should_stop)
            self._run_in_threads([turns.take_all] * self._n_threads, turns.drop)
        else:
            self._run_in_threads(list(self._schedule(rest)))

    def _schedule(self, tasks: list[Task]) -> Iterator[Callable[[], None]]:
        """Yield the calls for tasks, so that each split is binned while the last one is boosted."""
        firsts: dict[int, Task] = {}
        for task in tasks:
            if _has_method(task, Method.BOOSTING):
                firsts.setdefault(task.split, task)
        ahead = iter(list(firsts.values())[1:])
        for task in tasks:
            yield partial(self._run_task, task)
            if firsts.get(task.split) is task and (following := next(ahead, None)):
                yield partial(self._bin_ahead, following)

    def _run_in_threads(
        self, calls: list[Callable[[], None]], give_up: Callable[[], None] = _do_nothing
    ) -> None:
        with ThreadPoolExecutor(self._n_threads) as pool:
            futures = [pool.submit(call) for call in calls]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                # After an error, or when the user interrupts, nothing new begins.
                give_up()
                pool.shutdown(wait=False, cancel_futures=True)
        for future in futures:
            if not future.cancelled():
                future.result()

    def _bin_ahead(self, task: Task) -> None:
        """Bin rows before they are needed. The fit that needs them repeats and reports an error."""
        if not self._should_stop():
            try:
                candidate = task.shared_fit.candidates[0]
                classifier = find_classifier(self._shared_problem, candidate)
                self._folds.get(task.split, classifier)
            except FIT_ERRORS:
                return

    def _run_task(self, task: Task) -> None:
        if not self._should_stop():
            with closing(self._work(task)) as scores:
                while not self._should_stop() and next(scores, END) is not END:
                    pass

    def _work(self, task: Task) -> Generator[None, None, None]:
        """Do a task, and pause after each score or few of them."""
        try:
            yield from self._work_shared(task)
        except FIT_ERRORS as error:
            is_plain = _has_method(task, Method.PLAIN)
            if is_plain or self._problem.error_score == "raise":
                raise
            self._log_once(task.shared_fit, str(error))
            yield from self._work_plain(task)
        finally:
            if _has_method(task, Method.BOOSTING):
                self._folds.release(task.split)

    def _work_shared(self, task: Task) -> Iterator[None]:
        problem, rows = self._shared_problem, self._rows
        if _has_method(task, Method.BOOSTING):
            fit = BoostingFit(problem, self._data, task, self._folds)
            return fit.emit_scores(self._take)
        if _has_method(task, Method.SHARED_ROWS):
            return emit_shared_rows(problem, rows.at(task.split), task, self._take)
        return self._work_plain(task)

    def _work_plain(self, task: Task) -> Iterator[None]:
        with self._lock:
            done = {(score.candidate, score.split) for score in self.split_scores}
        for candidate in task.shared_fit.candidates:
            if (candidate, task.split) not in done:
                self._take(
                    fit_and_score(self._problem, self._data, candidate, task.split)
                )
                yield

    def _run_joint(self, shared_fit: SharedFit, splits: list[int]) -> list[Task]:
        """Do a joint fit; return the tasks that are left if it cannot be done."""
        if self._should_stop():
            return []
        # Splits with rows of their own are solved one after the other.
        groups = [splits] if self._rows.are_shared else [[split] for split in splits]
        try:
            for group in groups:
                data = self._rows.at(group[0])
                joint = JointFit(
                    self._shared_problem, data, shared_fit, group, self._n_threads
                )
                joint.emit_scores(self._take)
        except FIT_ERRORS as error:
            self._log_once(shared_fit, str(error))
            plain = replace(shared_fit, method=Method.PLAIN)
            return [Task(plain, split) for split in splits]
        return []

    def _take(self, split_score: SplitScore) -> None:
        with self._lock:
            self.split_scores.append(split_score)
            self._emit(split_score)

    def _log_reasons(self, shard: Shard) -> None:
        candidates: dict[str, set[int]] = {}
        for task in shard:
            fit = task.shared_fit
            if fit.reason:
                candidates.setdefault(fit.reason, set()).update(fit.candidates)
        for reason, numbers in candidates.items():
            self._log(_describe_plain(len(numbers), reason))

    def _log_once(self, shared_fit: SharedFit, reason: str) -> None:
        line = _describe_plain(len(shared_fit.candidates), reason)
        with self._lock:
            if (shared_fit, line) not in self._logged:
                self._logged.add((shared_fit, line))
                self._log(line)


def _has_method(task: Task, method: Method) -> bool:
    return task.shared_fit.method is method


def _describe_plain(n_candidates: int, reason: str) -> str:
    lines = reason.strip().splitlines() or ["no reason given"]
    return f"{n_candidates} candidates are fitted as in GridSearchCV: {lines[-1]}"
