"""What a user sees of a running search."""

from math import nan

from training.search import Meter, Method, Progress, SharedFit, SplitScore, Task

LONG = SharedFit(Method.BOOSTING, (0, 1), 6.0)
SHORT = SharedFit(Method.BOOSTING, (2,), 2.0)
SHARD = (Task(LONG, 0), Task(SHORT, 0))


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def make_score(candidate: int, score: float) -> SplitScore:
    return SplitScore(candidate, 0, score, 10, 0.0, 0.0, Method.BOOSTING)


def test_the_time_left_goes_by_the_cost_of_what_is_left() -> None:
    clock, seen = Clock(), list[Progress]()
    meter = Meter(SHARD, seen.append, clock)

    clock.now += 6
    meter.count(make_score(0, 0.7))

    # 3 of 8 units of cost took 6 seconds.
    assert seen == [Progress(1, 3, 0.7, 6.0, 10.0)]
    assert str(seen[0]) == (
        "1 of 3 scores, best so far 0.7, 6 s elapsed, about 10 s left"
    )


def test_there_is_a_line_every_few_seconds_and_no_more() -> None:
    clock, seen = Clock(), list[Progress]()
    meter = Meter(SHARD, seen.append, clock)

    for candidate in (0, 1, 2):
        clock.now += 3
        meter.count(make_score(candidate, 0.5 + candidate / 10))

    assert [(progress.n_done, progress.best_score) for progress in seen] == [(2, 0.6)]


def test_the_end_is_measured_and_fits_that_failed_are_not_the_best() -> None:
    clock, seen = Clock(), list[Progress]()
    meter = Meter(SHARD, seen.append, clock)

    for candidate, score in ((0, nan), (1, 0.7), (2, nan)):
        meter.count(make_score(candidate, score))
    clock.now += 1

    assert meter.look() == Progress(3, 3, 0.7, 1.0, 0.0)


def test_a_shard_without_work_has_no_progress() -> None:
    assert Meter((), list[Progress]().append, Clock()).look() is None
