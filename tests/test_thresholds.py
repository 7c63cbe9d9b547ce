"""Thresholds: parsed from the flag, compared with brute force, and applied by scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier

from training.data.schema import Feature, Schema
from training.errors import SearchError
from training.models.evaluation import decide
from training.models.final_model import PostFit
from training.models.thresholds import (
    EVEN,
    BestF1,
    BestYouden,
    Criterion,
    FixedThreshold,
    LowestCost,
    apply_threshold,
    check_classes,
    choose_threshold,
    count_by_threshold,
    parse_threshold,
)
from training.parameters import DEFAULTS

from training_support import make_rows

CRITERIA = [BestF1(), BestYouden(), LowestCost(5, 1), LowestCost(0.25, 3)]

# Few values, so that many are equal; the extremes 0 and 1; and neighbouring doubles.
scores_ = st.one_of(
    st.sampled_from([0.0, 0.25, 0.5, math.nextafter(0.5, 1), 0.75, 1.0]),
    st.floats(0, 1),
)
rows_ = st.lists(st.tuples(st.booleans(), scores_), min_size=2, max_size=30).filter(
    lambda rows: len({is_positive for is_positive, _ in rows}) == 2
)


def worth(
    criterion: Criterion, y: NDArray[np.bool_], above: NDArray[np.bool_]
) -> float:
    """Count errors row by row, and return the value of the criterion."""
    tp, fp = int((y & above).sum()), int((~y & above).sum())
    fn, tn = int((y & ~above).sum()), int((~y & ~above).sum())
    match criterion:
        case BestF1():
            return 2 * tp / (2 * tp + fp + fn)
        case BestYouden():
            return tp / (tp + fn) - fp / (fp + tn)
        case LowestCost():
            return -criterion.false_negative * fn - criterion.false_positive * fp


@pytest.mark.parametrize("criterion", CRITERIA, ids=str)
@settings(deadline=None)
@given(rows=rows_)
def test_the_choice_is_as_good_as_any_threshold(
    criterion: Criterion, rows: list[tuple[bool, float]]
) -> None:
    y = np.array([is_positive for is_positive, _ in rows])
    p = np.array([score for _, score in rows])

    chosen = choose_threshold(criterion, y, p)

    # Every other threshold decides like one of these.
    everywhere = np.unique([0, *p])
    best = max(worth(criterion, y, p > threshold) for threshold in everywhere)
    assert 0 <= chosen <= 1
    assert worth(criterion, y, p > chosen) == pytest.approx(best, abs=1e-12)


@settings(deadline=None)
@given(rows=rows_)
def test_decisions_are_counted_at_every_threshold(
    rows: list[tuple[bool, float]],
) -> None:
    y = np.array([is_positive for is_positive, _ in rows])
    p = np.array([score for _, score in rows])

    decisions = count_by_threshold(y, p)

    above = p[:, None] > decisions.thresholds
    assert (np.diff(decisions.thresholds) > 0).all()
    assert len({tuple(column) for column in above.T}) == len(decisions.thresholds)
    assert decisions.true_positives.tolist() == above[y].sum(axis=0).tolist()
    assert decisions.false_positives.tolist() == above[~y].sum(axis=0).tolist()
    assert decisions.false_negatives.tolist() == (~above)[y].sum(axis=0).tolist()


def test_the_choice_is_in_the_middle_between_probabilities() -> None:
    y, p = np.array([False, False, True, True]), np.array([0.1, 0.2, 0.3, 0.9])

    assert choose_threshold(BestF1(), y, p) == pytest.approx(0.25)


def test_ties_go_to_the_threshold_nearest_to_a_half() -> None:
    """There is one error at 0.25 and at 0.75, and two elsewhere; the lower threshold wins."""
    y = np.array([False, True, False, True])
    p = np.array([0.2, 0.3, 0.6, 0.9])

    assert choose_threshold(LowestCost(1, 1), y, p) == pytest.approx(0.25)
    assert choose_threshold(LowestCost(1, 1), y, p - 0.1) == pytest.approx(0.65)
    assert choose_threshold(LowestCost(1, 1), y, p + 0.1) == pytest.approx(0.35)


def test_a_costly_miss_lowers_the_threshold() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(20_000)
    y = rng.random(20_000) < p

    # With true probabilities, the best threshold is FP / (FN + FP).
    chosen = choose_threshold(LowestCost(9, 1), y, p)
    assert chosen == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("0.5", EVEN),
        ("0.25", FixedThreshold(0.25)),
        ("f1", BestF1()),
        ("youden", BestYouden()),
        ("cost:5:1", LowestCost(5, 1)),
        ("cost:0.5:2.25", LowestCost(0.5, 2.25)),
    ],
)
def test_the_flag_is_read_and_written_alike(text: str, rule: object) -> None:
    assert parse_threshold(text) == rule
    assert str(rule) == text


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "1",
        "1.5",
        "-0.1",
        "nan",
        "inf",
        "F1",
        "best",
        "cost",
        "cost:5",
        "cost:5:1:1",
    ]
    + ["cost:0:1", "cost:-1:1", "cost:inf:1", "cost:a:1"],
)
def test_a_wrong_threshold_is_refused_with_the_allowed_ones(text: str) -> None:
    with pytest.raises(SearchError, match=f"--threshold is '?{text}.*cost:FN:FP"):
        parse_threshold(text)


@pytest.mark.parametrize("text", ["0.3", "f1", "cost:5:1"])
def test_more_classes_have_no_threshold(text: str) -> None:
    schema = Schema((Feature("a"),), ("x", "y", "z"))

    check_classes(EVEN, schema)
    with pytest.raises(SearchError, match=f"--threshold is {text}, but .* 3 classes"):
        check_classes(parse_threshold(text), schema)


@pytest.mark.parametrize("threshold", [0.25, 0.75, 1.0, 0.0])
def test_scikit_learn_decides_as_the_server_does_at_the_threshold_too(
    threshold: float,
) -> None:
    """The thresholds are the attained probabilities and their neighbours on both sides."""
    _, train, _ = make_rows()
    labels = np.array(["no", "yes"])
    for p in (threshold, math.nextafter(threshold, 0), math.nextafter(threshold, 1)):
        model = DummyClassifier(strategy="prior").fit(train.X, labels[train.y])
        model.class_prior_ = np.array([1 - p, p])

        by_scikit_learn = apply_threshold(
            model, threshold, X=train.X, labels=labels[train.y]
        ).predict(train.X[:1])

        probabilities = model.predict_proba(train.X[:1])
        assert probabilities[0, 1] == p
        assert by_scikit_learn == labels[decide(probabilities, threshold)]


def test_the_default_parameters_ask_for_no_calibration_and_an_even_threshold() -> None:
    post_fit = PostFit(DEFAULTS.calibration, parse_threshold(DEFAULTS.threshold))

    assert post_fit == PostFit()
    assert not post_fit.needs_folds
