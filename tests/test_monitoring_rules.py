"""Each alert, by Prometheus itself: it fires on what it is for, and on no less."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from monitoring import drift, objectives
from monitoring.prometheus import list_alerts, list_groups, write_rules
from monitoring.values import PAGE, TICKET, Alert, Group

pytestmark = pytest.mark.skipif(
    not shutil.which("promtool"), reason="needs Debian's prometheus"
)

Series = Mapping[str, str]

POD = 'namespace="n",instance="pod:8080"'
OTHER_POD = 'namespace="n",instance="other:8080"'
CALL = 'grpc_service="prediction.v1.PredictionService"'
PREDICT = f'{POD},{CALL},grpc_method="Predict",grpc_type="unary"'
VERSION = 'namespace="n",model_version="3"'
FEATURE = f'{VERSION},feature="age"'


@dataclass(frozen=True, slots=True)
class Case:
    """Series on which an alert fires after a time, and neighbours on which it does not.

    A value of a series is in promtool's notation: "0+5x100" begins at 0 and grows by 5 a step.
    """

    name: str
    severity: str
    minutes: int
    firing: Series
    quiet: tuple[Series, ...]
    step_minutes: int = 1


def infer(method: str) -> str:
    """Return the labels of a method of the Open Inference Protocol."""
    service = 'grpc_service="inference.GRPCInferenceService"'
    return f'{POD},{service},grpc_method="{method}",grpc_type="unary"'


def calls(
    good: str, bad: str, code: str = "INTERNAL", method: str = PREDICT
) -> dict[str, str]:
    """Return the counters of calls that went well, and that did not."""
    handled = f"grpc_server_handled_total{{{method},grpc_code="
    return {f'{handled}"OK"}}': good, f'{handled}"{code}"}}': bad}


def times(every: str, fast: str, begun: str = "") -> dict[str, str]:
    """Return the histograms of all calls, and of those that took and waited within the objective.

    Without `begun`, none waited.
    """
    le = f'le="{objectives.SLOW_SECONDS}"'
    series = {}
    for name, within in (
        ("grpc_server_handling_seconds", fast),
        ("prediction_waiting_seconds", begun or every),
    ):
        series[f"{name}_count{{{PREDICT}}}"] = every
        series[f"{name}_bucket{{{PREDICT},{le}}}"] = within
    return series


def server(pod: str, *, up: str = "1x99", loaded: str = "1700000000x99") -> Series:
    """Return what a server shows; Prometheus adds `up`."""
    return {
        f"up{{{pod}}}": up,
        f'prediction_lane_info{{{pod},lane="fast",asked="fast"}}': "1x99",
        f"prediction_model_loaded_timestamp_seconds{{{pod}}}": loaded,
    }


def bins(first: str, second: str, **others: str) -> dict[str, str]:
    """Return the counts of the bins of a feature; in training, the first two had half each."""
    counter = "prediction_feature_bin_total"
    reference = "prediction_feature_reference_ratio"
    values = {"1.0": (first, "0.5"), "+Inf": (second, "0.5")}
    values |= {name: (value, "0") for name, value in others.items()}
    series = {}
    for name, (count, share) in values.items():
        series[f'{counter}{{{POD},{FEATURE},bin="{name}"}}'] = count
        series[f'{reference}{{{POD},{FEATURE},bin="{name}"}}'] = f"{share}x200"
    return {key.replace(',namespace="n",', ","): text for key, text in series.items()}


def scores(first: str, second: str) -> dict[str, str]:
    """Return the counts of two bins of the score, which had half of the hold-out each."""
    series = {}
    for name, value in (("0.5", first), ("+Inf", second)):
        labels = f'{POD},model_version="3",bin="{name}"'
        series[f"prediction_score_bin_total{{{labels}}}"] = value
        series[f"prediction_score_reference_ratio{{{labels}}}"] = "0.5x200"
    return series


def outcomes(right: str, wrong: str, valid: str = "1x200") -> dict[str, str]:
    """Return the expected outcomes of 600 rows in 5 minutes."""
    labels = f'{POD},model_version="3"'
    name = f"prediction_expected_outcomes_total{{{labels}"
    return {
        f'{name},predicted="no",actual="no"}}': right,
        f'{name},predicted="no",actual="yes"}}': wrong,
        f"prediction_drift_rows_total{{{labels}}}": "0+600x200",
        f'prediction_expected_valid{{{labels},reason=""}}': valid,
    }


def shadow(same: str, other: str) -> dict[str, str]:
    """Return the rows that a shadow scored; many more did not fit it."""
    name = f'prediction_shadow_rows_total{{{POD},model_version="4",agreement='
    values = {"same": same, "other": other, "misfit": "0+500x99"}
    return {f'{name}"{key}"}}': value for key, value in values.items()}


def info(pod: str, version: str) -> Series:
    """Return the metric of the model that answers."""
    labels = f'{pod},registered_model="wine",model_version="{version}"'
    return {f"prediction_model_info{{{labels}}}": "1x99"}


# A healthy series, then something that stays on the edge of it.
CASES = (
    Case(
        # The health checks of the other protocol, which go well, do not thin out its errors.
        "PredictionErrorBudgetBurn",
        PAGE,
        30,
        {
            **calls("0+98x99", "0+2x99", method=infer("ModelInfer")),
            **calls("0+99999x99", "0x99", method=infer("ServerLive")),
        },
        (calls("0x99", "0+9x99", method=infer("ServerReady")),),
    ),
    Case(
        "PredictionErrorBudgetBurn",
        PAGE,
        30,
        calls("0+98x99", "0+2x99"),
        (
            # 0.5 %: below 14.4 times and 6 times the allowed 0.1 %.
            calls("0+9950x99", "0+50x99"),
            # A caller's own mistakes.
            calls("0+50x99", "0+50x99", "INVALID_ARGUMENT"),
            # A quiet night: one call a minute, and one of them fails.
            calls("0+1x99", "0x20 1x99"),
        ),
    ),
    Case(
        "PredictionErrorBudgetBurn",
        TICKET,
        30,
        calls("0+9980x99", "0+20x99"),
        (calls("0+99950x99", "0+50x99"), calls("0+1x99", "0x20 1x99")),
    ),
    Case(
        "PredictionLatencyBudgetBurn",
        PAGE,
        30,
        times("0+100x99", "0+80x99"),
        (times("0+100x99", "0+95x99"), times("0+1x99", "0x1 0+1x98")),
    ),
    Case(
        # The calls are quick, and wait for their turn.
        "PredictionLatencyBudgetBurn",
        PAGE,
        30,
        times("0+100x99", "0+100x99", "0+80x99"),
        (times("0+100x99", "0+100x99", "0+95x99"),),
    ),
    Case(
        "PredictionLatencyBudgetBurn",
        TICKET,
        30,
        times("0+1000x99", "0+980x99"),
        (times("0+1000x99", "0+991x99"),),
    ),
    Case(
        "PredictionNotReady",
        PAGE,
        10,
        {**server(POD, loaded="0x99"), **server(OTHER_POD, up="0x99")},
        (
            {**server(POD), **server(OTHER_POD, up="0x99")},
            # What else is down is no server.
            {**server(POD), 'up{namespace="n",instance="database"}': "0x99"},
            server(POD, loaded="0x2 1700000000x99"),
        ),
    ),
    Case(
        "PredictionNotReady",
        TICKET,
        25,
        {**server(POD), **server(OTHER_POD, loaded="0x99")},
        ({**server(POD), **server(OTHER_POD, loaded="0x9 1700000000x99")},),
    ),
    Case(
        "PredictionOverload",
        TICKET,
        30,
        calls("0+980x99", "0+20x99", "RESOURCE_EXHAUSTED"),
        (
            calls("0+995x99", "0+5x99", "RESOURCE_EXHAUSTED"),
            calls("0+9x99", "0+1x99", "RESOURCE_EXHAUSTED"),
        ),
    ),
    Case(
        "PredictionNoTraffic",
        TICKET,
        8 * 24 * 60,
        calls("0+100x1050 105000x200", "0x1250"),
        (
            calls("0+100x1250", "0x1250"),
            # Nobody called at this time a week ago.
            calls("0x1250", "0x1250"),
        ),
        step_minutes=10,
    ),
    Case(
        "PredictionCertificateRefused",
        TICKET,
        10,
        {f"prediction_tls_reload_failures_total{{{POD}}}": "0x5 1x99"},
        ({f"prediction_tls_reload_failures_total{{{POD}}}": "3x99"},),
    ),
    Case(
        "PredictionCallersRefused",
        TICKET,
        10,
        {f"prediction_callers_reload_failures_total{{{POD}}}": "0x5 1x99"},
        ({f"prediction_callers_reload_failures_total{{{POD}}}": "3x99"},),
    ),
    Case(
        "PredictionModelLoadFailing",
        TICKET,
        10,
        {f'prediction_model_load_failures_total{{{POD},reason="corrupt"}}': "0x5 1x99"},
        ({f'prediction_model_load_failures_total{{{POD},reason="corrupt"}}': "2x99"},),
    ),
    Case(
        "PredictionModelRefused",
        TICKET,
        20,
        {f"prediction_model_refused{{{POD}}}": "1x99"},
        (
            {f"prediction_model_refused{{{POD}}}": "0x99"},
            {f"prediction_model_refused{{{POD}}}": "1x5 0x9 1x99"},
        ),
    ),
    Case(
        "PredictionModelStale",
        TICKET,
        # promtool's clock begins at 0.
        30,
        {f"prediction_registry_last_contact_timestamp_seconds{{{POD}}}": "60x99"},
        (
            {f"prediction_registry_last_contact_timestamp_seconds{{{POD}}}": "0+60x99"},
            # No registry at all.
            {f"prediction_registry_last_contact_timestamp_seconds{{{POD}}}": "0x99"},
        ),
    ),
    Case(
        "PredictionVersionSplit",
        TICKET,
        30,
        {**info(POD, "3"), **info(OTHER_POD, "4")},
        (
            {**info(POD, "3"), **info(OTHER_POD, "3")},
            # Another place may have another version.
            {**info(POD, "3"), **info(OTHER_POD.replace('"n"', '"m"'), "4")},
        ),
    ),
    Case(
        "PredictionFeatureDrift",
        TICKET,
        120,
        bins("0+90x200", "0+10x200"),
        (
            bins("0+60x200", "0+40x200"),
            # 480 rows in two hours.
            bins("0+18x200", "0+2x200"),
        ),
        step_minutes=5,
    ),
    Case(
        "PredictionFeatureDrift",
        TICKET,
        120,
        {f'prediction_feature_psi{{{POD},feature="age"}}': "0.3x200"},
        ({f'prediction_feature_psi{{{POD},feature="age"}}': "0.2x200"},),
        step_minutes=5,
    ),
    Case(
        "PredictionScoreDrift",
        TICKET,
        120,
        scores("0+90x200", "0+10x200"),
        (scores("0+60x200", "0+40x200"), scores("0+18x200", "0+2x200")),
        step_minutes=5,
    ),
    Case(
        "PredictionMissingRate",
        TICKET,
        120,
        bins("0+40x200", "0+40x200", missing="0+20x200"),
        (
            bins("0+48x200", "0+48x200", missing="0+4x200"),
            # A categorical feature, where missing stands for unknown too.
            bins("0+40x200", "0+40x200", missing="0+20x200", other="0x200"),
        ),
        step_minutes=5,
    ),
    Case(
        "PredictionUnknownCategories",
        TICKET,
        120,
        bins("0+40x200", "0+40x200", other="0+10x200", missing="0+10x200"),
        (
            bins("0+48x200", "0+48x200", other="0+2x200", missing="0+2x200"),
            bins("0+40x200", "0+40x200", missing="0+20x200"),
        ),
        step_minutes=5,
    ),
    Case(
        "PredictionExpectedPerformanceDrop",
        TICKET,
        900,
        outcomes("0+540x100 54000+420x100", "0+60x100 6000+180x100"),
        (
            outcomes("0+540x200", "0+60x200"),
            outcomes("0+540x100 54000+420x100", "0+60x100 6000+180x100", valid="0x200"),
        ),
        step_minutes=5,
    ),
    Case(
        "PredictionCanaryAborted",
        TICKET,
        10,
        {f'prediction_canary_state{{{POD},state="aborted"}}': "1x99"},
        (
            {f'prediction_canary_state{{{POD},state="aborted"}}': "0x99"},
            {f'prediction_canary_state{{{POD},state="serving"}}': "1x99"},
        ),
    ),
    Case(
        "PredictionShadowDisagreement",
        TICKET,
        90,
        shadow("0+90x99", "0+10x99"),
        (
            shadow("0+98x99", "0+2x99"),
            # 600 rows an hour.
            shadow("0+9x99", "0+1x99"),
        ),
    ),
    Case(
        "PredictionLogDropping",
        TICKET,
        40,
        {f'prediction_log_dropped_total{{{POD},reason="disk_full"}}': "0+5x99"},
        (
            {f'prediction_log_dropped_total{{{POD},reason="disk_full"}}': "7x99"},
            # A moment is no outage.
            {f'prediction_log_dropped_total{{{POD},reason="disk_full"}}': "0x35 4x99"},
        ),
    ),
)


def find_alert(name: str, severity: str) -> Alert:
    (found,) = [a for a in list_alerts() if (a.name, a.severity) == (name, severity)]
    return found


def write_needed_rules(alert: Alert) -> str:
    """Return the rules that an alert rests on, and itself."""
    recordings = {"slo:": objectives.list_groups(), "prediction:": drift.list_groups()}
    needed = [
        Group(group.name, tuple(r for r in group.rules if not isinstance(r, Alert)))
        for prefix, groups in recordings.items()
        for group in groups
        if prefix in alert.expression
    ]
    needed = [group for group in needed if group.rules]
    return write_rules((*needed, Group("alert", (alert,))))


def write_test(case: Case, series: Series, *, fires: bool) -> object:
    labels = f'{{severity="{case.severity}"}}'
    fired = f'ALERTS{{alertname="{case.name}",alertstate="firing"}}'
    check = {
        "expr": f"group by (severity) ({fired})",
        "eval_time": f"{case.minutes}m",
        "exp_samples": [{"labels": labels, "value": 1}] if fires else [],
    }
    return write_tests(f"{case.step_minutes}m", series, check)


def write_tests(step: str, series: Series, *checks: object) -> object:
    """Return a file of promtool's tests of `rules.yaml`."""
    return {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": step,
        "tests": [
            {
                "interval": step,
                "input_series": [
                    {"series": name, "values": values}
                    for name, values in series.items()
                ],
                "promql_expr_test": list(checks),
            }
        ],
    }


def run_promtool(folder: Path, tests: Sequence[object]) -> None:
    """Let promtool test the `rules.yaml` of a folder."""
    names = [f"test{number}.yaml" for number in range(len(tests))]
    for name, test in zip(names, tests, strict=True):
        (folder / name).write_text(yaml.safe_dump(test))
    result = subprocess.run(
        ["promtool", "test", "rules", *names],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.name} {c.severity}")
def test_an_alert_fires_on_what_it_is_for_and_on_no_less(
    case: Case, tmp_path: Path
) -> None:
    rules = write_needed_rules(find_alert(case.name, case.severity))
    (tmp_path / "rules.yaml").write_text(rules)
    every = (case.firing, *case.quiet)
    tests = [write_test(case, each, fires=each is case.firing) for each in every]

    run_promtool(tmp_path, tests)


def score_sums(pod: str, bin: str, rows: float, score: float, below: float) -> Series:
    """Return the sums of a fine bin of the score, by what comes to them in a minute."""
    labels = f'{{{pod},model_version="3",bin="{bin}"}}'
    steps = {
        "rows": rows,
        "probability": rows * score,
        "probability_squares": rows * score**2,
        "probability_below": below,
    }
    return {
        f"prediction_score_{name}_total{labels}": f"0+{step:.6g}x400"
        for name, step in steps.items()
    }


@pytest.mark.parametrize(
    ("rows", "valid", "is_shown"), [(10, 1, True), (10, 0, False), (1, 1, False)]
)
def test_the_expected_roc_auc_is_that_of_all_rows_of_a_fleet(
    rows: int, valid: int, is_shown: bool, tmp_path: Path
) -> None:
    """One server answers 0.2, the other 0.8: of 100 pairs, 64 + 8 + 8 are in the right order."""
    series: dict[str, str] = {}
    for pod, lower, upper in ((POD, rows, 0), (OTHER_POD, 0, rows)):
        series |= score_sums(pod, "0.5", lower, 0.2, 0.0)
        series |= score_sums(pod, "+Inf", upper, 0.8, 0.2 * lower)
        labels = f'{pod},model_version="3"'
        series[f"prediction_drift_rows_total{{{labels}}}"] = f"0+{rows}x400"
        series[f'prediction_expected_valid{{{labels},reason=""}}'] = f"{valid}x400"
    (tmp_path / "rules.yaml").write_text(write_rules(drift.list_groups()))
    query = f"abs({drift.ROC_AUC} - 0.8) < bool 1e-6"
    sample = {"labels": f"{{{VERSION}}}", "value": 1}
    check = {
        "expr": query,
        "eval_time": "390m",
        "exp_samples": [sample] if is_shown else [],
    }
    run_promtool(tmp_path, [write_tests("1m", series, check)])


@pytest.mark.parametrize("is_whole", [True, False])
def test_precision_and_recall_need_all_cells_of_the_table(
    is_whole: bool, tmp_path: Path
) -> None:
    """With more than 20 classes a server counts the diagonal alone, of which both would be 1."""
    cells = {("a", "a"): 6, ("a", "b"): 2, ("b", "a"): 1, ("b", "b"): 3}
    labels = f'{POD},model_version="3"'
    series = {
        f"prediction_drift_rows_total{{{labels}}}": "0+12x400",
        f'prediction_expected_valid{{{labels},reason=""}}': "1x400",
    } | {
        f'prediction_expected_outcomes_total{{{labels},predicted="{p}",actual="{a}"}}': f"0+{n}x400"
        for (p, a), n in cells.items()
        if is_whole or p == a
    }
    (tmp_path / "rules.yaml").write_text(write_rules(drift.list_groups()))
    of_class = f'{{class="a",{VERSION}}}'
    expected = {drift.PRECISION: 6 / 8, drift.RECALL: 6 / 7, drift.F1: 12 / 15}
    checks = [
        {
            "expr": f'abs({name}{{class="a"}} - {value}) < bool 1e-6',
            "eval_time": "390m",
            "exp_samples": [{"labels": of_class, "value": 1}] if is_whole else [],
        }
        for name, value in expected.items()
    ]
    accuracy = {
        "expr": f"abs({drift.ACCURACY} - 9 / 12) < bool 1e-6",
        "eval_time": "390m",
        "exp_samples": [{"labels": f"{{{VERSION}}}", "value": 1}],
    }
    run_promtool(tmp_path, [write_tests("1m", series, *checks, accuracy)])


def test_no_alert_is_left_out() -> None:
    assert {(c.name, c.severity) for c in CASES} == {
        (alert.name, alert.severity) for alert in list_alerts()
    }
    assert len(list_groups()) == len({group.name for group in list_groups()})
