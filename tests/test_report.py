"""The report of a run: every part from plain data, whatever the table and its names are."""

import re
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from training.data.rows import Rows
from training.data.schema import Feature, Kind, Schema
from training.models.calibration import CORRECTION
from training.models.final_model import PostFit
from training.models.scored_twin import ScoredTwin
from training.models.thresholds import LowestCost
from training.parameters import FlowParameters
from training.report.contributions import explain, find_model
from training.report.decisions import draw_thresholds
from training.report.document import MAX_BYTES, Artist, draw_parts, make_report
from training.report.drawing import WIDTH, Frame, line, make_axis, share_axis
from training.report.markup import Section
from training.report.material import gather
from training.report.outcome import Outcome
from training.report.page import make_frame
from training.report.strength import SUSPECT, measure_strengths
from training.trained_model import TrainedModel

from mixed_support import make_mixed_rows
from training_support import make_rows, train_family

HOSTILE = "<script>alert(1)</script>\"'&\n\u202e" + "x" * 10_000
VOID = {"meta", "rect", "circle", "line", "polyline", "path", "br", "link"}
OUTCOME = Outcome(
    "churn",
    "2",
    "challenger",
    "a reason",
    "1",
    {
        "rows": 60,
        "score_difference": 0.01,
        "score_low": -0.02,
        "score_high": 0.03,
        "log_loss_difference": 0.01,
        "log_loss_low": 0.001,
        "log_loss_high": 0.02,
        "calibration_new": 0.1,
        "calibration_old": 0.2,
    },
)


class Checker(HTMLParser):
    """Checks that elements are closed in order, and collects what a reader meets."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[int] = []
        self.tags: list[tuple[str, Mapping[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("h1", "h2", "h3", "h4"):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check(page: str) -> Checker:
    """Check a page as a whole: well-formed, small, accessible, and on its own."""
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert not checker.open
    assert len(page.encode()) < MAX_BYTES
    names = [tag for tag, _ in checker.tags]
    assert not {"script", "img", "link", "iframe", "object"} & set(names)
    assert names.count("table") == names.count("caption") > 0
    steps = zip(checker.headings, checker.headings[1:], strict=False)
    assert all(after - before <= 1 for before, after in steps)
    for tag, attributes in checker.tags:
        assert not any(key.startswith("on") for key in attributes)
        assert (attributes.get("href") or "#").startswith("#")
        if tag == "svg":
            assert attributes.get("aria-label") or attributes.get("aria-hidden")
    keys = [attributes["id"] for _, attributes in checker.tags if "id" in attributes]
    assert len(keys) == len(set(keys))
    return checker


def draw(trained: TrainedModel, train: Rows, holdout: Rows) -> str:
    """Draw a whole report; no part may fail."""
    told: list[str] = []
    parts = draw_parts(trained, {}, train, holdout, told.append)
    page = make_report(trained, parts, OUTCOME)
    assert told == []
    assert "could not be drawn" not in page
    return page


def check_labels(page: str) -> None:
    """Check that labels below an axis are within their picture, and that dates are not seconds."""
    labels = re.findall(r'<text class="mid" x="([\d.]+)" y="[\d.]+">([^<]*)<', page)
    assert any(re.fullmatch(r"\d{4}-\d\d-\d\d", label) for _, label in labels)
    for x, label in labels:
        half = 3.2 * len(label)
        assert half <= float(x) <= WIDTH - half, label
        assert not re.fullmatch(r"\d{9,}|[\d.]+e\+\d+", label), label


def test_a_curve_leaves_out_what_is_not_defined() -> None:
    frame = Frame(share_axis("threshold"), share_axis("precision"))

    curve = line(frame, [(0.0, 0.5), (0.5, 1.0), (1.0, float("nan"))])

    assert curve == line(frame, [(0.0, 0.5), (0.5, 1.0)])


@pytest.mark.parametrize("family", ["logistic_regression", "lightgbm"])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("kind", [{"missing": True}, {"sparse": True}])
def test_each_family_and_table_has_a_page(
    family: str, n_classes: int, kind: dict[str, bool]
) -> None:
    schema, train, holdout = make_rows(n_classes, **kind)

    page = draw(train_family(family, schema, train, holdout), train, holdout)

    checker = check(page)
    assert sum(tag == "figure" for tag, _ in checker.tags) >= 15 - 3 * (n_classes - 2)
    assert "Version 2 of <bdi>churn</bdi> is <strong>challenger</strong>" in page
    assert ("Gain and lift rank the rows of one class" in page) == (n_classes == 3)


@pytest.mark.parametrize("family", ["logistic_regression", "lightgbm"])
def test_dates_and_categories_are_shown_as_their_users_write_them(family: str) -> None:
    _, schema, train, holdout = make_mixed_rows(2)

    page = draw(train_family(family, schema, train, holdout), train, holdout)

    check(page)
    labels = [f.name for f in schema.features if f.kind == Kind.CATEGORICAL]
    assert labels and all(label in page for label in labels)
    check_labels(page)


def test_hostile_names_stay_text_and_are_cut() -> None:
    schema, train, holdout = make_rows(2)
    features = (replace(schema.features[0], name=HOSTILE), *schema.features[1:])
    labels = ("<img src=x onerror=alert(1)>", HOSTILE)
    schema = Schema(features, labels)
    trained = train_family("logistic_regression", schema, train, holdout)

    page = draw(trained, train, holdout)

    check(page)
    assert "<script" not in page and "<img" not in page
    assert "\u202e" not in page and "x" * 700 not in page
    assert "&lt;script&gt;" in page
    frame = make_frame(page)
    assert "\n" not in frame and frame.count('"') == 6 and "<script" not in frame


def wide_model(trained: TrainedModel, n_features: int, n_classes: int) -> Any:
    """Return a model of many columns and classes, with its rows, without a fit."""
    rng = np.random.default_rng(0)
    labels = tuple(f"{i} {HOSTILE}" for i in range(n_classes))
    features = tuple(Feature(f"{i} {HOSTILE}") for i in range(n_features))
    schema = Schema(features, labels, is_sparse=True)
    X = csr_matrix(rng.random((4 * n_classes, n_features)))
    y = np.arange(4 * n_classes) % n_classes
    classifier = LogisticRegression()
    classifier.classes_ = np.arange(n_classes)
    classifier.coef_ = rng.normal(size=(n_classes, n_features)) / n_features
    classifier.intercept_ = np.zeros(n_classes)
    classifier.n_features_in_ = n_features
    pipeline = Pipeline([("preprocess", "passthrough"), ("classifier", classifier)])
    twin = ScoredTwin(pipeline, 0.5, trained.twin.learned)
    plan = replace(trained.plan, schema=schema, summary=f"{HOSTILE}\n" * 5000)
    return replace(trained, plan=plan, twin=twin), Rows(X, y)


@pytest.mark.parametrize(("n_features", "n_classes"), [(10_000, 100), (1, 10)])
def test_a_page_of_any_table_is_small(n_features: int, n_classes: int) -> None:
    schema, train, holdout = make_rows(3)
    small = train_family("logistic_regression", schema, train, holdout)
    trained, rows = wide_model(small, n_features, n_classes)

    page = draw(trained, rows, rows)

    check(page)
    assert ("would take too long" in page) == (n_features > 1)


def test_a_part_that_fails_says_so_and_the_others_stay() -> None:
    schema, train, holdout = make_rows(2)
    trained = train_family("lightgbm", schema, train, holdout)
    trained = replace(trained, cv_table=trained.cv_table.drop(columns="family"))
    told: list[str] = []

    page = make_report(
        trained, draw_parts(trained, {}, train, holdout, told.append), None
    )

    check(page)
    assert len(told) == 2 and "the report has no leaderboard: KeyError" in told[0]
    assert page.count("This part could not be drawn: KeyError") == 2
    assert "ROC on the hold-out" in page
    assert "It is not registered yet" in page


def test_a_model_that_does_not_answer_leaves_a_page_that_says_so() -> None:
    schema, train, holdout = make_rows(2)
    trained = train_family("lightgbm", schema, train, holdout)
    broken = replace(
        trained, twin=replace(trained.twin, estimator=Pipeline([("a", None)]))
    )
    told: list[str] = []

    parts = draw_parts(broken, {}, train, holdout, told.append)

    assert len(told) == 1
    assert "This part could not be drawn" in make_report(broken, parts, OUTCOME)


def test_a_page_that_is_too_large_leaves_its_largest_part_out() -> None:
    schema, train, holdout = make_rows(2)
    trained = train_family("lightgbm", schema, train, holdout)
    report = draw_parts(trained, {}, train, holdout)
    large = replace(report, sections=(*report.sections, Section("x", "X", "é" * 10**6)))

    page = make_report(trained, large, None)

    assert len(page.encode()) < MAX_BYTES
    assert "ROC on the hold-out" in page and "is too large" in page


def test_contributions_are_those_of_lightgbm_and_add_up_to_the_raw_score() -> None:
    schema, train, holdout = make_rows(2, missing=True)
    trained = train_family(
        "lightgbm", schema, train, holdout, post_fit=PostFit(CORRECTION)
    )

    found = explain(trained.twin.estimator, holdout.X, schema, 1)

    booster = find_model(trained.twin.estimator).named_steps["classifier"].booster_
    expected = booster.predict(np.asarray(holdout.X)[found.rows], pred_contrib=True)
    np.testing.assert_array_equal(found.values, expected[:, :-1])
    np.testing.assert_allclose(found.sizes, np.abs(expected[:, :-1]).mean(axis=0))


@pytest.mark.parametrize("n_classes", [2, 3])
def test_contributions_of_a_linear_model_add_up_by_column(n_classes: int) -> None:
    """Also where a category has an indicator for each value, and a date several numbers."""
    _, schema, train, holdout = make_mixed_rows(n_classes)
    trained = train_family("logistic_regression", schema, train, holdout)
    material = gather(trained, {}, train, holdout)

    one, other = (
        explain(trained.twin.estimator, holdout.X, schema, code) for code in (1, 0)
    )

    model = find_model(trained.twin.estimator)
    base = model.named_steps["classifier"].intercept_
    log_odds = np.log(material.probabilities[:, 1] / material.probabilities[:, 0])
    if n_classes == 2:
        total = one.values.sum(axis=1) + base[0]
    else:
        total = (one.values - other.values).sum(axis=1) + base[1] - base[0]
    np.testing.assert_allclose(total, log_odds[one.rows], atol=1e-9)


@pytest.mark.parametrize("n_rows", [100, 160, 300, 600, 2000])
def test_a_column_that_is_the_label_in_disguise_is_a_suspect(n_rows: int) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, n_rows)
    noise = rng.normal(size=n_rows)
    gaps = np.where(y == 1, np.nan, noise)
    codes = (y + 2 * rng.integers(0, 3, n_rows)).astype(float)
    X = np.column_stack([noise, y * 3.0 + noise / 10, gaps, codes, noise + y])
    features = [Feature(f"c{i}") for i in range(5)]
    features[3] = Feature("c3", Kind.CATEGORICAL, categories=tuple("abcdef"))
    schema = Schema(tuple(features), (0, 1))

    strengths = measure_strengths(Rows(X, y), schema)

    assert (strengths > SUSPECT).tolist() == [False, True, True, True, False]
    assert strengths[0] < 0.05 and strengths[4] < 0.4
    assert strengths[4] > 0.05 or n_rows < 300
    # Gaps that say nothing make no suspect.
    X[rng.random(n_rows) < 0.5, 0] = np.nan
    assert measure_strengths(Rows(X, y), schema)[0] < 0.05


def test_the_costs_of_a_threshold_are_counted_by_hand() -> None:
    schema, train, holdout = make_rows(2)
    trained = train_family(
        "logistic_regression",
        schema,
        train,
        holdout,
        post_fit=PostFit(threshold=LowestCost(5.0, 1.0)),
    )
    material = gather(trained, {}, train, holdout)

    told = draw_thresholds(material)

    is_positive, answered = holdout.y == 1, material.probabilities[:, 1] > 0.3
    missed, alarms = (is_positive & ~answered).sum(), (~is_positive & answered).sum()
    cells = (
        f'{alarms}</td><td class="n">{missed}</td><td class="n">{5 * missed + alarms:g}'
    )
    row = next(part for part in told.split("<tr>") if ">0.3<" in part)
    assert cells in row
    assert "are those of --threshold" in told


def test_segments_are_scored_and_small_ones_are_left_out() -> None:
    _, schema, train, holdout = make_mixed_rows(2)
    column = next(f for f in schema.features if f.kind == Kind.BOOLEAN)
    parameters = FlowParameters(segment=column.name)
    trained = train_family(
        "logistic_regression", schema, train, holdout, parameters=parameters
    )

    page = draw(trained, train, holdout)

    assert "Scores of each segment on the hold-out" in page
    assert "<bdi>true</bdi>" in page and "<bdi>false</bdi>" in page


@pytest.mark.parametrize(
    "values",
    [(), (1.0,), (0.0, 0.0), (-1e300, 1e300), (1e-300, 2e-300), (np.nan, np.inf)]
    + [(1e-310, 3e-310), (5e-324, 0.0)],
)
def test_an_axis_holds_any_values(values: tuple[float, ...]) -> None:
    axis = make_axis("x", values)

    assert np.isfinite([axis.low, axis.high]).all() and axis.low < axis.high
    assert np.isfinite(Frame(axis, axis).place_x(axis.high))
    assert 2 <= len(axis.ticks) <= 12


def test_what_failed_is_said_in_one_line() -> None:
    told: list[str] = []
    artist = Artist(told.append)

    section = artist.draw("a", "A part", lambda: str(1 / 0))

    assert "division by zero" in section.body
    assert told == [
        "WARNING: the report has no a part: ZeroDivisionError: division by zero"
    ]
