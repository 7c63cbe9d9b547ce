"""The alerts that are no budgets: on servers, models, drift, other versions and the log."""

from monitoring.drift import ACCURACY, MIN_ROWS
from monitoring.drift import NEEDS as DRIFT_NEEDS
from monitoring.drift import index_of, share_of
from monitoring.objectives import SERVICE
from monitoring.values import PAGE, TICKET, Alert, Group

CANARY_NEEDS = "--canary-uri or --canary-dir"
SHADOW_NEEDS = "--shadow-uri"
LOG_NEEDS = "--prediction-log"
# By the convention of credit scoring, an index of 0.1 is little and one of 0.25 is much.
MAX_INDEX = "0.2"
# A share of a bin that is this much larger than in training, in units of the share.
MAX_MORE = "0.1"
MAX_DROP = "0.05"
MAX_DISAGREEMENT = "0.05"
_IN = "in {{ $labels.namespace }}"
_VERSION = "version {{ $labels.model_version }} " + _IN


def list_groups() -> tuple[Group, ...]:
    """Return the groups, one for each part of the runbook."""
    return (
        Group(
            "prediction-servers", (*_list_readiness(), *_list_traffic(), *_list_files())
        ),
        Group("prediction-models", _list_models()),
        Group("prediction-drift-alerts", _list_drift()),
        Group("prediction-rollout", _list_rollout()),
    )


def _calls(window: str, labels: str = "") -> str:
    selector = f"{SERVICE},{labels}" if labels else SERVICE
    return (
        f"sum by (namespace) (rate(grpc_server_handled_total{{{selector}}}[{window}]))"
    )


def _list_readiness() -> tuple[Alert, ...]:
    # A server that is gone for Prometheus shows nothing but `up`; it is known by its past.
    known = "max by (namespace, instance) (last_over_time(prediction_lane_info[1d]))"
    without = "prediction_model_loaded_timestamp_seconds == 0"
    idle = "prediction_processes_ready == 0"
    away = f"up == 0 and on (namespace, instance) {known}"
    broken = (
        f"count by (namespace) ({without} or on (namespace, instance) {idle} or on (namespace, "
        f"instance) ({away}))"
    )
    every = f"count by (namespace) (up and on (namespace, instance) {known})"
    return (
        Alert(
            "PredictionNotReady",
            f"{broken}\n== {every}",
            "3m",
            PAGE,
            f"None of the {{{{ $value }}}} servers {_IN} is ready.",
        ),
        Alert(
            "PredictionNotReady",
            f"{broken} > 0",
            "15m",
            TICKET,
            f"{{{{ $value }}}} servers {_IN} are not ready.",
        ),
    )


def _list_traffic() -> tuple[Alert, ...]:
    refused = _calls("5m", 'grpc_code="RESOURCE_EXHAUSTED"')
    return (
        Alert(
            "PredictionOverload",
            f"{refused}\n/ {_calls('5m')} > 0.01\nand {_calls('5m')} > 1",
            "10m",
            TICKET,
            f"Servers {_IN} refuse {{{{ $value | humanizePercentage }}}} of the calls.",
        ),
        Alert(
            "PredictionNoTraffic",
            f"{_calls('30m')} == 0\nand {_calls('30m').replace('[30m]', '[30m] offset 1w')} > "
            f"1 / 60",
            "5m",
            TICKET,
            f"Nobody calls the servers {_IN}; a week ago somebody did at this time.",
        ),
    )


def _list_files() -> tuple[Alert, ...]:
    return (
        Alert(
            "PredictionCertificateRefused",
            "sum by (namespace, instance) (increase(prediction_tls_reload_failures_total[1h])) > 0",
            "0m",
            TICKET,
            f"{{{{ $labels.instance }}}} {_IN} refused a changed certificate and keeps the old.",
        ),
        Alert(
            "PredictionCallersRefused",
            "sum by (namespace, instance) "
            "(increase(prediction_callers_reload_failures_total[1h])) > 0",
            "0m",
            TICKET,
            f"{{{{ $labels.instance }}}} {_IN} refused a changed file of callers.",
        ),
    )


def _list_models() -> tuple[Alert, ...]:
    contact = "prediction_registry_last_contact_timestamp_seconds"
    versions = "count by (namespace, registered_model, model_version) (prediction_model_info == 1)"
    return (
        Alert(
            "PredictionModelLoadFailing",
            "sum by (namespace, reason) "
            "(increase(prediction_model_load_failures_total[15m])) > 0",
            "0m",
            TICKET,
            f"Servers {_IN} refused a model: {{{{ $labels.reason }}}}.",
        ),
        Alert(
            "PredictionModelRefused",
            "sum by (namespace) (prediction_model_refused == 1) > 0",
            "10m",
            TICKET,
            f"{{{{ $value }}}} servers {_IN} do not answer with the version that they should.",
        ),
        Alert(
            "PredictionModelStale",
            f"max by (namespace) (time() - ({contact} > 0)) > 600",
            "5m",
            TICKET,
            f"A server {_IN} has not heard from the registry for "
            "{{ $value | humanizeDuration }}.",
        ),
        Alert(
            "PredictionVersionSplit",
            f"count by (namespace, registered_model) ({versions}) > 1",
            "15m",
            TICKET,
            f"{{{{ $value }}}} versions of {{{{ $labels.registered_model }}}} answer {_IN}.",
        ),
    )


def _list_drift() -> tuple[Alert, ...]:
    keys = "namespace, model_version, feature"
    others = f"max by ({keys}) (prediction_feature_psi)"
    # The server counts a category that the model does not know as missing.
    categories = 'prediction_feature_reference_ratio{bin="other"}'
    feature = f"of {{{{ $labels.feature }}}}, {_VERSION}"
    return (
        Alert(
            "PredictionFeatureDrift",
            f"({index_of('feature')} or {others}) > {MAX_INDEX}",
            "30m",
            TICKET,
            f"The values {feature}, have drifted: index {{{{ $value }}}}.",
            DRIFT_NEEDS,
        ),
        Alert(
            "PredictionScoreDrift",
            f"{index_of('score')} > {MAX_INDEX}",
            "30m",
            TICKET,
            f"The scores of {_VERSION} have drifted: index {{{{ $value }}}}.",
            DRIFT_NEEDS,
        ),
        Alert(
            "PredictionMissingRate",
            f"{_more_of('missing', keys)}\nunless on ({keys}) {categories}",
            "30m",
            TICKET,
            f"Missing values {feature}: {{{{ $value | humanizePercentage }}}} more than in "
            "training.",
            DRIFT_NEEDS,
        ),
        Alert(
            "PredictionUnknownCategories",
            f"{_more_of('missing|other', keys)}\nand on ({keys}) {categories}",
            "30m",
            TICKET,
            f"Unknown, rare or missing categories {feature}: "
            "{{ $value | humanizePercentage }} more than in training.",
            DRIFT_NEEDS,
        ),
        Alert(
            "PredictionExpectedPerformanceDrop",
            f"avg_over_time({ACCURACY}[7d] offset 6h) - {ACCURACY} > {MAX_DROP}",
            "1h",
            TICKET,
            f"The expected accuracy of {_VERSION} is {{{{ $value }}}} below its own past.",
            DRIFT_NEEDS,
        ),
    )


def _more_of(names: str, keys: str) -> str:
    """Return by how much the share of bins is above that of training, if it is much."""
    each = f"{keys}, bin"
    share = f'max by ({each}) ({share_of("feature")}{{bin=~"{names}"}})'
    known = f'max by ({each}) (prediction_feature_reference_ratio{{bin=~"{names}"}})'
    return f"sum by ({keys}) ({share}\n- {known})\n> {MAX_MORE}"


def _list_rollout() -> tuple[Alert, ...]:
    keys = "namespace, model_version"
    rows = (
        f"sum by ({keys}) (increase(prediction_shadow_rows_total{{agreement=~%s}}[1h]))"
    )
    different, compared = rows % '"other"', rows % '"same|other"'
    return (
        Alert(
            "PredictionCanaryAborted",
            'max by (namespace) (prediction_canary_state{state="aborted"}) == 1',
            "0m",
            TICKET,
            f"A canary {_IN} left its bounds; the champion answers all calls.",
            CANARY_NEEDS,
        ),
        Alert(
            "PredictionShadowDisagreement",
            f"{different}\n/ ({compared} >= {MIN_ROWS}) > {MAX_DISAGREEMENT}",
            "30m",
            TICKET,
            f"The shadow, {_VERSION}, gives another label to "
            "{{ $value | humanizePercentage }} of the rows.",
            SHADOW_NEEDS,
        ),
        Alert(
            "PredictionLogDropping",
            "sum by (namespace, reason) (increase(prediction_log_dropped_total[15m])) > 0",
            "10m",
            TICKET,
            f"{{{{ $value }}}} calls {_IN} are missing in the prediction log: "
            "{{ $labels.reason }}.",
            LOG_NEEDS,
        ),
    )
