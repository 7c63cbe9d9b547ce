"""The policy judges the evidence, and the verdict says why."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from training.data.rows import Rows
from training.data.schema import Feature, Kind, Schema
from training.errors import SearchError
from training.models.champion_policy import ChampionPolicy, find_segment
from training.models.served_latency import ServedLatency
from training.registry.answers import Answers
from training.registry.bootstrap import Interval
from training.registry.evidence import (
    Difference,
    Evidence,
    Segment,
    compare_answers,
    compare_segments,
)
from training.registry.registration import CHALLENGER, CHAMPION
from training.registry.verdict import judge, make_figures, tell_evidence


def differ(low: float, high: float) -> Difference:
    return Difference(0.8 + (low + high) / 2, 0.8, Interval(low, high))


EVEN = Evidence(
    "roc_auc", 500, differ(-0.002, 0.002), differ(-0.002, 0.002), (0.03, 0.03)
)


@pytest.mark.parametrize(
    ("promotion", "changes", "fault"),
    [
        ("not_worse", {}, ""),
        (
            "not_worse",
            {"score": differ(-0.02, 0.05)},
            "roc_auc may be worse by more than 0.01",
        ),
        ("better", {"score": differ(-0.0, 0.05)}, "roc_auc is not surely better"),
        ("better", {"score": differ(0.001, 0.05)}, ""),
        (
            "better",
            {"score": differ(0.001, 0.05), "log_loss": differ(-0.02, 0)},
            "log loss may be worse by more than 0.01",
        ),
        (
            "not_worse",
            {"calibration": (0.06, 0.03)},
            "the calibration error is worse by more",
        ),
        ("not_worse", {"calibration": (0.045, 0.03)}, ""),
        ("not_worse", {"score": differ(-np.inf, np.inf)}, "roc_auc may be worse"),
    ],
)
def test_a_policy_asks_for_its_evidence(
    promotion: str, changes: dict[str, Any], fault: str
) -> None:
    alias, reason = judge(replace(EVEN, **changes), ChampionPolicy(promotion))

    assert alias == (CHALLENGER if fault else CHAMPION)
    assert fault in reason


def test_a_better_mean_does_not_hide_a_worse_group() -> None:
    segments = (
        Segment("'north'", 300, differ(0.01, 0.1)),
        Segment("'sou\x1bth'", 120, differ(-0.09, -0.02)),
        Segment("'west'", 110, differ(-0.09, -0.005)),
        Segment("missing", 9, None),
    )
    evidence = replace(EVEN, score=differ(0.01, 0.02), segments=segments)

    alias, reason = judge(evidence, ChampionPolicy(segment="region"))

    assert alias == CHALLENGER
    assert (
        r"roc_auc is surely worse for region 'sou\u001bth' (120 rows, -0.055 in [-0.09, -0.02])"
        in reason
    )
    assert "west" not in reason
    told = tell_evidence(evidence, "region")
    assert "3 segments of region compared, 1 with too few rows; the lowest diff" in told


def make_pair(n_rows: int = 400) -> tuple[NDArray[np.int64], Answers, Answers]:
    """Return labels, and two models of which the second says what the labels are not."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, n_rows)
    positive = np.clip(0.3 + 0.4 * y + rng.normal(0, 0.15, n_rows), 0.01, 0.99)
    return y, as_answers(positive), as_answers(1 - positive)


def as_answers(positive: NDArray[np.float64]) -> Answers:
    both = np.column_stack([1 - positive, positive])
    return Answers((positive > 0.5).astype(np.int64), both)


def test_evidence_is_the_same_again_and_turns_its_sign() -> None:
    y, good, bad = make_pair()

    one, again = (compare_answers("roc_auc", y, good, bad) for _ in range(2))
    other = compare_answers("roc_auc", y, bad, good)

    assert one == again
    assert one.score.interval.low > 0 > other.score.interval.high
    assert one.score.interval.low == pytest.approx(-other.score.interval.high)
    assert make_figures(one)["rows"] == 400
    assert judge(one, ChampionPolicy("better"))[0] == CHAMPION
    assert judge(other, ChampionPolicy())[0] == CHALLENGER


def test_the_log_loss_is_not_said_twice() -> None:
    y, good, bad = make_pair()

    evidence = compare_answers("neg_log_loss", y, good, bad)

    assert evidence.score is evidence.log_loss
    assert "Log loss" not in tell_evidence(evidence, "")


REGION = Feature("region", Kind.CATEGORICAL, True, ("north", "south", "west"))


def test_each_segment_with_enough_rows_is_compared() -> None:
    y, good, bad = make_pair()
    cells = np.repeat([0.0, 1.0, 2.0, np.nan], [150, 120, 30, 100])
    # The new model is worse in the south alone.
    rows = Rows(np.column_stack([np.zeros(400), cells]), y)
    is_south = (cells == 1)[:, np.newaxis]
    new = Answers(
        np.where(cells == 1, bad.codes, good.codes),
        np.where(is_south, bad.probabilities, good.probabilities),
    )

    segments = compare_segments("accuracy", rows, (new, good), (1, REGION))

    assert [(one.label, one.n_rows) for one in segments] == [
        ("'north'", 150),
        ("'south'", 120),
        ("'west'", 30),
        ("missing", 100),
    ]
    north, south, west, missing = (one.score for one in segments)
    assert west is None
    assert north is not None and north.interval == Interval(0.0, 0.0)
    assert missing is not None and missing.value == 0
    assert south is not None and south.interval.high < -0.5


def test_a_segment_without_ten_rows_of_a_class_is_not_compared() -> None:
    y, good, bad = make_pair()
    kinds = Feature("smoker", Kind.BOOLEAN)
    rows = Rows(y[:, np.newaxis].astype(np.float64), y)

    segments = compare_segments("roc_auc", rows, (good, bad), (0, kinds))

    assert [(one.label, one.score) for one in segments] == [
        ("false", None),
        ("true", None),
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"promotion": "maybe"},
            "--promotion is 'maybe'; it has to be better, not_worse or ne",
        ),
        ({"tolerance": -0.1}, "--promotion_tolerance is -0.1; it has to be 0 or more"),
        ({"tolerance": float("nan")}, "--promotion_tolerance is nan"),
        ({"max_artifact_mib": float("inf")}, "--max_artifact_mib is inf"),
        (
            {"max_latency_us": -5.0},
            r"--max_latency_us is -5.0; it has to be 0 \(no limit\) or more",
        ),
    ],
)
def test_a_senseless_policy_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SearchError, match=words):
        ChampionPolicy(**changes)


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (0.0, ""),
        (12.5, ""),
        (
            12.4,
            "one row takes 12.5 µs (median), 90 µs (99th percentile), more in the median than "
            "--max_latency_us 12.4",
        ),
    ],
)
def test_the_limit_is_that_of_the_median(limit: float, words: str) -> None:
    latency = ServedLatency(median_us=12.5, p99_us=90.0, n_calls=5000)

    assert ChampionPolicy(max_latency_us=limit).find_excess(1, latency) == words


def test_a_limit_without_a_measurement_is_an_error() -> None:
    with pytest.raises(
        SearchError, match="--max_latency_us is 12.4, and .* measure it"
    ):
        ChampionPolicy(max_latency_us=12.4).find_excess(1, None)
    assert ChampionPolicy().find_excess(1, None) == ""


@pytest.mark.parametrize("name", ["age", "nowhere"])
def test_a_segment_is_a_column_of_few_values(name: str) -> None:
    schema = Schema((Feature("age"), REGION), (0, 1))

    assert find_segment("region", schema) == (1, REGION)
    with pytest.raises(
        SearchError, match=f"--segment '{name}' is not .* it may be 'region'"
    ):
        find_segment(name, schema)


def test_a_flow_checks_its_policy_before_it_searches(tmp_path: Path) -> None:
    from test_final_fit import refuse_final_fit

    assert "--promotion is 'x'" in refuse_final_fit(tmp_path, promotion="x")
    assert "--segment 'x' is not" in refuse_final_fit(tmp_path, segment="x")
