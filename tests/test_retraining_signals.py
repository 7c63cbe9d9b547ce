"""When a model has to be trained again, by the pages of its servers and by files of outcomes."""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pandas as pd
import pytest
from scipy.stats import entropy

from training.errors import SignalError
from training.retraining.expected import (
    measure_expected_accuracy,
    measure_expected_roc_auc,
)
from training.retraining.outcomes import read_live_metric
from training.retraining.pages import Access, fetch_page, parse_page, read_token
from training.retraining.served import Served, add_up, read_served, subtract
from training.retraining.signals import (
    Measured,
    judge_age,
    judge_drift,
    judge_metric,
    measure_psi,
)

from stream_support import count_bins, make_table, sum_scores, write_page

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
LEARNED = make_table(4000)


def look(asked: pd.DataFrame, version: str = "3", url: str = "u") -> Served:
    counts, shares = count_bins(LEARNED, asked)
    return read_served(parse_page(url, write_page(version, counts, shares)), "wine")


def test_psi_is_the_sum_of_both_relative_entropies() -> None:
    counts, shares = {"0": 30.0, "1": 50.0, "2": 20.0}, {"0": 0.2, "1": 0.5, "2": 0.3}
    p, q = [0.3, 0.5, 0.2], [0.2, 0.5, 0.3]

    assert measure_psi(counts, shares) == pytest.approx(entropy(p, q) + entropy(q, p))


def test_an_empty_bin_and_a_new_one_leave_psi_finite() -> None:
    assert math.isfinite(measure_psi({"new": 5.0}, {"old": 1.0}))


def test_rows_of_the_same_world_are_no_drift() -> None:
    finding = judge_drift(look(make_table(4000, seed=1)), 0.2)

    assert not finding.is_due
    assert "not above 0.2 (4,000 rows, the worst of 2 features)" in finding.words


def test_shifted_rows_are_drift_of_the_feature_that_shifted() -> None:
    finding = judge_drift(look(make_table(4000, shift=1.0, seed=1)), 0.2)

    assert finding.is_due
    assert finding.words.startswith("PSI of a is ")
    assert finding.figures["psi"] > 0.2


def test_few_rows_say_nothing() -> None:
    finding = judge_drift(look(make_table(999, shift=3.0)), 0.2)

    assert not finding.is_due
    assert finding.words == "999 rows are too few to tell, --min-rows is 1,000"


def test_counts_of_servers_add_up() -> None:
    parts = [look(make_table(600, shift=1.0, seed=seed)) for seed in (1, 2)]

    assert [judge_drift(part, 0.2).is_due for part in parts] == [False, False]
    assert judge_drift(add_up(parts), 0.2).is_due


def test_what_was_counted_before_the_first_look_does_not_count() -> None:
    old, new = make_table(50_000, seed=1), make_table(2000, shift=1.0, seed=2)
    before, after = look(old), look(pd.concat([old, new]))

    assert not judge_drift(after, 0.2).is_due
    assert judge_drift(subtract(before, after), 0.2).is_due


def test_a_server_that_started_again_has_counted_all_since_then() -> None:
    before, after = look(make_table(50_000)), look(make_table(2000, shift=1.0))

    assert subtract(before, after) == after


@pytest.mark.parametrize("join", [lambda a, b: add_up([a, b]), subtract])
def test_two_versions_are_not_mixed(join: object) -> None:
    assert callable(join)
    with pytest.raises(SignalError, match="version 4"):
        join(look(LEARNED), look(LEARNED, "4"))


INFO = 'prediction_model_info{registered_model="wine",model_version="3"} 1\n'
BIN = 'prediction_feature_bin_total{feature="a",bin="0"} '


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names 0 models that answer"),
        ("<html>Not found</html>\n", "names 0 models"),
        (INFO.replace("wine", "beer"), "is of the model 'beer', not of 'wine'"),
        (INFO + INFO.replace('"3"', '"4"'), "names 2 models"),
        (INFO + INFO, "has a series twice"),
        (INFO.replace('"3"', '"3 or 1"'), "answers as version '3 or 1', which no reg"),
        (INFO.replace('"3"', '""'), "answers as version ''"),
        (INFO + BIN + "NaN\n", "is nan, which is no count"),
        (INFO + BIN + "+Inf\n", "is inf"),
        (INFO + BIN + "-1\n", "is -1, which cannot be"),
        (INFO + BIN + "1e300\n", "cannot be"),
        (INFO + BIN + "many\n", "no page of Prometheus' text format"),
        (INFO + BIN + "1", "cut off within a line"),
        (INFO + 'prediction_feature_bin_total{feature="a\n', "no page of Prom"),
        (
            INFO + 'prediction_feature_reference_ratio{feature="a",bin="0"} 0.4\n',
            "add up to 0.4, not 1",
        ),
        (
            INFO + 'prediction_feature_reference_ratio{feature="a",bin="0"} 2\n',
            "is 2, which cannot be",
        ),
    ],
)
def test_a_page_that_cannot_be_is_refused(text: str, message: str) -> None:
    with pytest.raises(SignalError, match=message):
        read_served(parse_page("http://s/metrics", text), "wine")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (INFO, "there is no prediction_feature_reference_ratio"),
        (
            INFO
            + BIN.replace('"a"', '"z"')
            + '1\nprediction_feature_reference_ratio{feature="a",bin="0"} 1\n',
            "has the feature 'z'",
        ),
    ],
)
def test_drift_needs_a_reference(text: str, message: str) -> None:
    with pytest.raises(SignalError, match=message):
        judge_drift(read_served(parse_page("u", text), "wine"), 0.2)


def test_a_name_with_commands_of_a_terminal_is_shown_escaped() -> None:
    text = INFO + BIN.replace('"a"', '"\x1b[2Ja"') + "2000\n"
    text += 'prediction_feature_reference_ratio{feature="\x1b[2Ja",bin="0"} 1\n'

    finding = judge_drift(read_served(parse_page("u", text), "wine"), 0.2)

    assert "\x1b" not in finding.words


class Hostile(BaseHTTPRequestHandler):
    """Answers by its path in a way that no server should."""

    answers: ClassVar[dict[str, bytes]] = {
        "/huge": b"# " + b"x" * (17 * 2**20),
        "/binary": b"\xff\xfe\n",
        "/half": INFO.encode(),
    }
    seen: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.seen.append(self.headers.get("Authorization", ""))
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/half")
            self.end_headers()
            return
        self.send_response(500 if self.path == "/broken" else 200)
        if self.path == "/half":
            self.send_header("Content-Length", "100000")
        self.end_headers()
        try:
            self.wfile.write(self.answers.get(self.path, b""))
            while self.path == "/slow":
                self.wfile.write(b"#")
                if threading.Event().wait(0.02):
                    return
        except OSError:
            pass  # the reader went away, as it should

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def hostile_server() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/huge", "larger than 16 MiB"),
        ("/slow", "did not end in time"),
        ("/binary", "not text in UTF-8"),
        ("/half", "cut off"),
        ("/broken", "answers 500"),
        ("/moved", "answers 302"),
    ],
)
def test_a_hostile_server_ends_in_one_line(path: str, message: str) -> None:
    with hostile_server() as url, pytest.raises(SignalError, match=message):
        fetch_page(url + path, Access(token="secret", seconds=1.0))


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://h/x", "metrics", ""])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(SignalError, match="no http:// or https:// URL"):
        fetch_page(url, Access())


def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(SignalError, match="--metrics http://127.0.0.1:1/metrics: "):
        fetch_page("http://127.0.0.1:1/metrics", Access())


@pytest.mark.parametrize("content", ["", "two words", "a\nb", "é"])
def test_a_token_file_has_one_token(content: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(content)

    with pytest.raises(SignalError, match="--token-file"):
        read_token(str(tmp_path / "token"))


def test_age_counts_from_the_registration() -> None:
    created = NOW - timedelta(days=31)

    assert judge_age("3", created, NOW, 30).words == (
        "version 3 is 31.0 days old, more than 30"
    )
    assert not judge_age("3", created, NOW, 32).is_due
    with pytest.raises(SignalError, match="in the future"):
        judge_age("3", NOW + timedelta(days=1), NOW, 30)


def test_expected_accuracy_is_the_share_of_the_diagonal() -> None:
    cells = {("a", "a"): 900.0, ("a", "b"): 100.0, ("b", "b"): 600.0, ("b", "a"): 400.0}
    served = Served("u", "3", {}, cells, {})

    assert measure_expected_accuracy(served) == (0.75, 2000)


def test_expected_outcomes_that_are_not_valid_count_for_nothing() -> None:
    text = INFO + 'prediction_expected_outcomes_total{predicted="a",actual="a"} 5\n'
    text += "prediction_expected_valid 0\n"

    text += sum_scores(9, 4.5, 3)
    served = read_served(parse_page("u", text), "wine")

    for measure in (measure_expected_accuracy, measure_expected_roc_auc):
        with pytest.raises(SignalError, match="give --outcomes"):
            measure(served)


def test_the_expected_roc_auc_of_one_bin_follows_from_its_variance() -> None:
    # Uniform between 0 and 1: of two rows p > q, (1 - p) * q is 1 / 12, so 1 of 6 pairs is wrong.
    text = INFO + sum_scores(1200, 600, 400)

    found = measure_expected_roc_auc(read_served(parse_page("u", text), "wine"))

    assert found == pytest.approx((5 / 6, 1200))


def test_bins_are_in_the_order_of_their_edges() -> None:
    text = INFO + sum_scores(10, 9, 8.1) + sum_scores(10, 1, 0.1, "1e-05")

    found = measure_expected_roc_auc(read_served(parse_page("u", text), "wine"))

    assert found == pytest.approx((0.9, 20))


def test_what_was_scored_before_the_first_look_does_not_count() -> None:
    before, after = (
        read_served(parse_page("u", INFO + sum_scores(*sums)), "wine")
        for sums in ((500, 450, 405), (1700, 1050, 805))
    )

    found = measure_expected_roc_auc(subtract(before, after))

    assert found == pytest.approx((5 / 6, 1200))


@pytest.mark.parametrize("edge", ["nan", "low"])
def test_a_bin_of_the_score_is_named_by_a_number(edge: str) -> None:
    page = parse_page("u", INFO + sum_scores(9, 4, 3, edge))

    with pytest.raises(SignalError, match=f"the bin '{edge}', not a number"):
        read_served(page, "wine")


def test_a_class_that_is_never_expected_has_no_roc_auc() -> None:
    page = parse_page("u", INFO + sum_scores(9, 0, 0))

    with pytest.raises(SignalError, match="is never expected"):
        measure_expected_roc_auc(read_served(page, "wine"))


@pytest.mark.parametrize(
    ("name", "live", "is_due"),
    [
        ("accuracy", 0.80, True),
        ("accuracy", 0.88, False),
        ("accuracy", 0.99, False),
        ("log_loss", 0.99, True),
        ("log_loss", 0.80, False),
    ],
)
def test_a_metric_falls_in_its_own_direction(
    name: str, live: float, is_due: bool
) -> None:
    assert judge_metric(Measured(name, live, 5000, 0.9, "live"), 0.05).is_due is is_due


def write_outcomes(folder: Path, **changes: object) -> str:
    row = {"version": "3", "n_rows": 2000, "metric": "accuracy", "value": 0.8}
    pd.DataFrame([row | changes]).to_parquet(folder / "live.parquet")
    return str(folder / "live.parquet")


def test_live_metrics_are_read_by_version_and_name(tmp_path: Path) -> None:
    path = write_outcomes(tmp_path)

    assert read_live_metric(path, "wine", "3", "accuracy") == (0.8, 2000)
    for version, metric in (("4", "accuracy"), ("3", "f1")):
        with pytest.raises(SignalError, match="0 rows"):
            read_live_metric(path, "wine", version, metric)


@pytest.mark.parametrize(
    "changes",
    [{"value": math.nan}, {"value": "high"}, {"n_rows": -1}, {"value": None}],
)
def test_live_metrics_that_are_none_are_refused(
    changes: dict[str, object], tmp_path: Path
) -> None:
    path = write_outcomes(tmp_path, **changes)

    with pytest.raises(SignalError, match="no finite value"):
        read_live_metric(path, "wine", "3", "accuracy")


def test_no_row_yet_is_no_error(tmp_path: Path) -> None:
    path = write_outcomes(tmp_path, n_rows=0, value=None)

    live, rows = read_live_metric(path, "wine", "3", "accuracy")

    assert math.isnan(live) and rows == 0


@pytest.mark.parametrize("content", [b"", b"PAR1", b"version,n_rows\n"])
def test_a_file_that_is_no_parquet_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "live").write_bytes(content)

    with pytest.raises(SignalError, match="cannot be read"):
        read_live_metric(str(tmp_path / "live"), "wine", "3", "accuracy")
