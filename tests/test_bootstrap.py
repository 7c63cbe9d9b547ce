"""Resampled scores are those of scikit-learn; intervals are those of scipy and keep their word."""

import time
import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import bootstrap
from sklearn.metrics import get_scorer_names

from training.registry import bootstrap as bootstrap_module
from training.registry.answers import Answers, Judge
from training.registry.bootstrap import (
    Interval,
    draw_weights,
    find_intervals,
    find_percentiles,
)
from training.registry.resampled_scores import (
    AnyScore,
    LabelScore,
    MeanScore,
    RankingScore,
    make_resampled,
)

FAST = ("neg_log_loss", "accuracy", "neg_brier_score", "roc_auc", "average_precision")


def make_answers(
    n_rows: int, n_classes: int = 2, seed: int = 0, *, ties: bool = False
) -> tuple[NDArray[np.int64], Answers]:
    """Return labels, and answers that know something of them."""
    rng = np.random.default_rng(seed)
    y = np.concatenate(
        [np.arange(n_classes), rng.integers(0, n_classes, n_rows - n_classes)]
    )
    raw = rng.normal(size=(n_rows, n_classes)) + 1.2 * np.eye(n_classes)[y]
    raw = np.round(raw) if ties else raw
    probabilities = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
    return y, Answers(probabilities.argmax(axis=1), probabilities)


def first_weights(n_rows: int, n_resamples: int = 6) -> NDArray[np.float64]:
    return np.concatenate([*draw_weights(n_rows, n_resamples)])


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize(
    "scoring",
    [*FAST, "roc_auc_ovr", "balanced_accuracy", "f1_macro", "matthews_corrcoef"],
)
def test_a_resampled_score_is_that_of_scikit_learn_with_weights(
    scoring: str, n_classes: int, ties: bool
) -> None:
    scoring = "roc_auc_ovr" if scoring == "roc_auc" and n_classes > 2 else scoring
    y, answers = make_answers(300, n_classes, ties=ties)
    weights = first_weights(300)
    judge = Judge(scoring, y, answers)

    scores = make_resampled(scoring, y, answers).score(weights)

    expected = [judge.score(np.arange(300), one) for one in weights]
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-12)
    whole = make_resampled(scoring, y, answers).score(np.ones((1, 300)))
    assert whole == pytest.approx(judge.score_all(), abs=1e-12)


@pytest.mark.parametrize(
    "scoring", ["f1", "recall", "roc_auc_ovo", "roc_auc_ovo_weighted"]
)
def test_other_scores_are_those_of_the_drawn_rows(scoring: str) -> None:
    n_classes = 2 if scoring in ("f1", "recall") else 4
    y, answers = make_answers(200, n_classes)
    weights = first_weights(200, 3)
    judge, resampled = Judge(scoring, y, answers), make_resampled(scoring, y, answers)

    scores = resampled.score(weights)

    rows = [np.repeat(np.arange(200), one.astype(int)) for one in weights]
    np.testing.assert_allclose(scores, [judge.score(one) for one in rows], atol=1e-12)
    kinds = {"roc_auc_ovo": RankingScore, "roc_auc_ovo_weighted": AnyScore}
    assert isinstance(resampled, kinds.get(scoring, LabelScore))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_every_scorer_of_classifiers_can_be_resampled() -> None:
    y, answers = make_answers(80)
    weights = first_weights(80, 2)
    for scoring in get_scorer_names():
        try:
            expected = Judge(scoring, y, answers).score_all()
        except (ValueError, AttributeError, TypeError):
            continue
        score = make_resampled(scoring, y, answers).score(np.ones((1, 80)))
        assert score == pytest.approx(expected, abs=1e-12), scoring
        assert np.isfinite(make_resampled(scoring, y, answers).score(weights)).all()


@pytest.mark.parametrize("scoring", ["roc_auc", "average_precision"])
def test_a_resample_that_lacks_a_class_has_no_ranking(scoring: str) -> None:
    y, answers = make_answers(50)
    weights = np.stack([(y == 0).astype(float), np.ones(50)])

    scores = make_resampled(scoring, y, answers).score(weights)

    assert np.isnan(scores).tolist() == [True, False]


def test_differences_of_too_few_resamples_tell_nothing() -> None:
    few = np.concatenate([np.full(60, np.nan), np.zeros(40)])

    assert find_percentiles(few) == Interval(-np.inf, np.inf)
    assert find_percentiles(np.zeros(100)) == Interval(0.0, 0.0)


def test_the_draws_are_the_same_whatever_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at_once = first_weights(100, 40)
    monkeypatch.setattr(bootstrap_module, "CHUNK_BYTES", 8 * 100 * 7)

    assert np.array_equal(first_weights(100, 40), at_once)
    assert (at_once.sum(axis=1) == 100).all()


def test_an_interval_is_that_of_scipy() -> None:
    """Both draw 2,000 resamples of their own, so the bounds differ by what 2,000 draws leave."""
    rng = np.random.default_rng(3)
    values = rng.normal(0.02, 0.3, 400)
    theirs = bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=rng
    ).confidence_interval

    (ours,) = find_intervals([(MeanScore(values), MeanScore(np.zeros(400)))], 400)

    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.05 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.05 * width)


@pytest.mark.parametrize("scoring", ["roc_auc", "average_precision"])
def test_an_interval_of_a_ranking_is_that_of_scipy(scoring: str) -> None:
    y, new = make_answers(120, seed=1)
    old = make_answers(120, seed=2)[1]
    judges = [Judge(scoring, y, one) for one in (new, old)]

    def difference(rows: NDArray[np.int64]) -> float:
        return judges[0].score(rows) - judges[1].score(rows)

    theirs = bootstrap(
        (np.arange(120),),
        difference,
        n_resamples=1000,
        method="percentile",
        vectorized=False,
        rng=np.random.default_rng(0),
    ).confidence_interval

    (ours,) = find_intervals(
        [(make_resampled(scoring, y, new), make_resampled(scoring, y, old))], 120
    )

    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.1 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.1 * width)


def count_covered(true: float, n_rows: int = 200, n_simulations: int = 1000) -> float:
    """Return the share of simulations whose interval holds the true mean difference."""
    rng = np.random.default_rng(5)
    # Pairs of losses that share most of their noise, as those of two models of the same rows.
    shared = rng.gamma(1.0, 1.0, (n_simulations, n_rows))
    noise = rng.normal(true, 0.2, (n_simulations, n_rows))
    new, old = shared + noise, shared
    weights = np.concatenate([*draw_weights(n_rows)])
    means = weights @ (new - old).T / n_rows
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    return float(((low < true) & (true < high)).mean())


@pytest.mark.parametrize("true", [0.0, 0.05])
def test_the_interval_covers_the_known_difference_of_a_mean(true: float) -> None:
    assert 0.93 <= count_covered(true) <= 0.97


def test_the_interval_covers_the_known_difference_of_two_areas() -> None:
    """Of normal scores d apart, the ROC AUC is the normal distribution's value at d / sqrt(2)."""
    from scipy.stats import norm

    rng, n_rows, covered = np.random.default_rng(6), 300, []
    apart = (1.4, 1.0)
    true = float(norm.cdf(apart[0] / 2**0.5) - norm.cdf(apart[1] / 2**0.5))
    weights = np.concatenate([*draw_weights(n_rows, 400)])
    y = np.arange(n_rows) % 2
    for _ in range(1000):
        shared, own = rng.normal(size=n_rows), rng.normal(size=(2, n_rows))
        noise = 0.8 * shared + 0.6 * own
        scores = []
        for part, distance in zip(noise, apart, strict=True):
            positive = norm.cdf(part + distance * y)
            both = np.column_stack([1 - positive, positive])
            answers = Answers((positive > 0.5).astype(np.int64), both)
            scores.append(make_resampled("roc_auc", y, answers).score(weights))
        interval = find_percentiles(scores[0] - scores[1])
        covered.append(interval.low < true < interval.high)

    assert 0.93 <= np.mean(covered) <= 0.97


def test_a_large_hold_out_takes_little_memory_and_time() -> None:
    y, new = make_answers(20_000, seed=1)
    old = make_answers(20_000, seed=2)[1]
    pairs = [
        (make_resampled(name, y, new), make_resampled(name, y, old))
        for name in ("roc_auc", "neg_log_loss")
    ]
    tracemalloc.start()
    start = time.monotonic()
    try:
        find_intervals(pairs, len(y))
        seconds, peak = time.monotonic() - start, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 400 * 2**20
    assert seconds < 60
