"""Metrics on the hold-out, compared with short calculations by hand."""

from math import log

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from training.models.evaluation import (
    Bin,
    decide,
    evaluate,
    expected_calibration_error,
    measure_reliability,
)
from training.report.figures import draw_reliability
from training.report.vega import summarize

from training_support import make_rows, train_family

Y = np.array([0, 0, 1, 1])
P1 = np.array([0.1, 0.6, 0.5, 0.9])
PROBABILITIES = np.column_stack([1 - P1, P1])


def test_two_classes() -> None:
    metrics = evaluate(Y, PROBABILITIES, [0, 1])

    assert metrics["holdout_accuracy"] == 0.5
    assert metrics["holdout_roc_auc"] == 0.75
    assert metrics["holdout_log_loss"] == pytest.approx(-log(0.9 * 0.4 * 0.5 * 0.9) / 4)
    assert metrics["holdout_brier_score"] == pytest.approx(
        (0.01 + 0.36 + 0.25 + 0.01) / 4
    )
    assert metrics["holdout_average_precision"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_decisions_are_scored_at_the_threshold() -> None:
    at_half = evaluate(Y, PROBABILITIES, [0, 1])
    lower = evaluate(Y, PROBABILITIES, [0, 1], 0.3)
    never = evaluate(Y, PROBABILITIES, [0, 1], 0.95)

    names = [f"holdout_{name}" for name in ("accuracy", "precision", "recall", "f1")]
    assert [at_half[name] for name in names] == [0.5, 0.5, 0.5, 0.5]
    assert [lower[name] for name in names] == pytest.approx([0.75, 2 / 3, 1, 0.8])
    assert [never[name] for name in names] == [0.5, 0, 0, 0]
    assert at_half["holdout_roc_auc"] == lower["holdout_roc_auc"]


def test_more_classes() -> None:
    y = np.array([0, 1, 2])
    probabilities = np.array([[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7]])

    metrics = evaluate(y, probabilities, [0, 1, 2])

    assert metrics["holdout_accuracy"] == metrics["holdout_roc_auc"] == 1
    assert metrics["holdout_log_loss"] == pytest.approx(-log(0.8 * 0.5 * 0.7) / 3)
    assert len(metrics) == 6


def test_the_calibration_error_of_two_classes_is_that_of_the_second() -> None:
    """The bins are (0, 0.1], (0.4, 0.5], (0.5, 0.6] and (0.8, 0.9] of a row each."""
    bins = measure_reliability(Y, PROBABILITIES)

    assert bins == (Bin(0.1, 0, 1), Bin(0.5, 1, 1), Bin(0.6, 0, 1), Bin(0.9, 1, 1))
    expected = (0.1 + 0.5 + 0.6 + 0.1) / 4
    assert expected_calibration_error(bins) == pytest.approx(expected)
    assert evaluate(Y, PROBABILITIES, [0, 1])[
        "holdout_expected_calibration_error"
    ] == pytest.approx(expected)


def test_the_calibration_error_of_more_classes_is_that_of_the_most_probable() -> None:
    y = np.array([0, 1, 2, 0])
    probabilities = np.array(
        [[0.75, 0.15, 0.1], [0.72, 0.2, 0.08], [0.2, 0.3, 0.5], [0.3, 0.36, 0.34]]
    )

    bins = measure_reliability(y, probabilities)

    assert [group.n_rows for group in bins] == [1, 1, 2]
    assert [group.frequency for group in bins] == [0, 1, 0.5]
    assert expected_calibration_error(bins) == pytest.approx(
        (0.36 + 0.5 + 2 * (0.735 - 0.5)) / 4
    )


def test_the_reliability_curve_of_two_classes_is_as_in_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    p = np.concatenate([rng.random(500), np.arange(11) / 10])
    y = (rng.random(511) < p).astype(np.int64)

    bins = measure_reliability(y, np.column_stack([1 - p, p]))

    frequency, confidence = calibration_curve(y, p, n_bins=10)
    np.testing.assert_allclose([b.frequency for b in bins], frequency, rtol=1e-12)
    np.testing.assert_allclose([b.confidence for b in bins], confidence, rtol=1e-12)


def test_the_image_of_the_reliability_curve_shows_its_points() -> None:
    bins = measure_reliability(Y, PROBABILITIES)

    curve, rows = draw_reliability(bins, 2).axes

    diagonal, line = curve.get_lines()
    assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]  # type: ignore[union-attr]
    assert line.get_xydata().tolist() == [  # type: ignore[union-attr]
        [group.confidence, group.frequency] for group in bins
    ]
    assert [bar.get_height() for bar in rows.patches] == [1, 1, 1, 1]  # type: ignore[attr-defined]
    assert curve.get_ylabel() == "share of the second class"


def test_a_probability_at_the_threshold_is_the_first_class() -> None:
    assert decide(PROBABILITIES, 0.5).tolist() == [0, 1, 0, 1]
    assert decide(PROBABILITIES, 0.6).tolist() == [0, 0, 0, 1]


def test_equal_probabilities_decide_for_the_first_class() -> None:
    assert decide(np.array([[0.2, 0.4, 0.4]]), 0.3).tolist() == [1]


def test_the_summary_names_the_winner_its_score_and_the_hold_out() -> None:
    schema, train, holdout = make_rows()

    text = summarize(train_family("lightgbm", schema, train, holdout))

    assert "The best is LightGBM with {" in text
    assert "On the hold-out: accuracy 0." in text
