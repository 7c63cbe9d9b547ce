"""The service level objectives: recording rules and burn rates, as Sloth writes them.

A budget of 30 days that burns 14.4 times too fast has lost 2 % after an hour. Each alert asks two
windows: the long one says that it matters, the short one that it still goes on.
"""

from dataclasses import dataclass
from decimal import Decimal

from grpc_server.metrics import ERROR_CODES

from monitoring.values import PAGE, TICKET, Alert, Group, Recording

# Both protocols. The health checks of the second would thin out its errors.
SERVICE = (
    'grpc_service=~"prediction.v1.PredictionService|inference.GRPCInferenceService",'
    'grpc_method!~"ServerLive|ServerReady|ModelReady"'
)
ERRORS = f'{SERVICE},grpc_code=~"{"|".join(ERROR_CODES)}"'
# Batches take long by right, and have no objective.
SINGLE = f'{SERVICE},grpc_method="Predict"'
# Bound of a bucket of the histograms, in seconds.
SLOW_SECONDS = "0.0256"
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
PERIOD = "30d"
# Calls in the long window that have to fail, so that one call of a quiet night wakes nobody.
MIN_BAD_CALLS = 10


@dataclass(frozen=True, slots=True)
class Pair:
    """Two windows and the burn rate that neither may exceed."""

    short: str
    long: str
    rate: str


PAIRS = {
    PAGE: (Pair("5m", "1h", "14.4"), Pair("30m", "6h", "6")),
    TICKET: (Pair("2h", "1d", "3"), Pair("6h", "3d", "1")),
}


@dataclass(frozen=True, slots=True)
class Objective:
    """A share of calls that have to go well.

    Parameters
    ----------
    name : str
        Its name in labels.
    alert : str
        Name of its alerts.
    share : str
        The share of good calls, (0, 1).
    bad, total : str
        PromQL of the calls per second that went badly, and of all, by namespace; WINDOW stands
        for the window.
    summary : str
        What the alerts say.
    """

    name: str
    alert: str
    share: str
    bad: str
    total: str
    summary: str

    @property
    def sloth_id(self) -> str:
        """The label by which Sloth's dashboards find it."""
        return f"prediction-server-{self.name}"

    @property
    def budget(self) -> str:
        """The share of calls that may go badly."""
        return str(1 - Decimal(self.share))


def _slow(metric: str) -> str:
    """Return the calls per second that took longer than SLOW_SECONDS by one histogram."""
    return (
        f"sum by (namespace) (rate({metric}_count{{{SINGLE}}}[WINDOW])) - sum by (namespace) "
        f'(rate({metric}_bucket{{{SINGLE},le="{SLOW_SECONDS}"}}[WINDOW]))'
    )


# A call that both waits and works for long counts twice, which is rare.
_SLOW = (
    f"{_slow('grpc_server_handling_seconds')} + ({_slow('prediction_waiting_seconds')})"
)

OBJECTIVES = (
    Objective(
        "errors",
        "PredictionErrorBudgetBurn",
        "0.999",
        f"sum by (namespace) (rate(grpc_server_handled_total{{{ERRORS}}}[WINDOW]))",
        f"sum by (namespace) (rate(grpc_server_handled_total{{{SERVICE}}}[WINDOW]))",
        "{{ $value | humanizePercentage }} of the calls in {{ $labels.namespace }} fail.",
    ),
    Objective(
        "latency",
        "PredictionLatencyBudgetBurn",
        "0.99",
        _SLOW,
        "sum by (namespace) "
        f"(rate(grpc_server_handling_seconds_count{{{SINGLE}}}[WINDOW]))",
        "{{ $value | humanizePercentage }} of Predict in {{ $labels.namespace }} waits or takes "
        f"more than {SLOW_SECONDS} s.",
    ),
)


def list_groups() -> tuple[Group, ...]:
    """Return the groups of all objectives."""
    return tuple(
        Group(f"sloth-slo-{kind}-{objective.sloth_id}", rules)
        for objective in OBJECTIVES
        for kind, rules in (
            ("sli-recordings", _list_windows(objective)),
            ("meta-recordings", _list_facts(objective)),
            ("alerts", _list_alerts(objective)),
        )
    )


def _labels(objective: Objective) -> dict[str, str]:
    return {
        "sloth_id": objective.sloth_id,
        "sloth_service": "prediction-server",
        "sloth_slo": objective.name,
    }


def _selector(objective: Objective) -> str:
    labels = _labels(objective).items()
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels) + "}"


def _list_windows(objective: Objective) -> tuple[Recording, ...]:
    ratio = f"({objective.bad})\n/\n({objective.total} > 0)"
    windows = tuple(
        Recording(
            f"slo:sli_error:ratio_rate{window}",
            ratio.replace("WINDOW", window),
            {**_labels(objective), "sloth_window": window},
        )
        for window in WINDOWS
    )
    # A mean of what is recorded: 30 days of raw series would cost too much.
    of_period = "avg without (sloth_window) (avg_over_time({name}{selector}[{period}]))"
    period = Recording(
        f"slo:sli_error:ratio_rate{PERIOD}",
        of_period.format(
            name="slo:sli_error:ratio_rate5m",
            selector=_selector(objective),
            period=PERIOD,
        ),
        {**_labels(objective), "sloth_window": PERIOD},
    )
    return (*windows, period)


def _list_facts(objective: Objective) -> tuple[Recording, ...]:
    labels, selector = _labels(objective), _selector(objective)
    fresh = f"slo:sli_error:ratio_rate5m{selector}"
    whole = f"slo:sli_error:ratio_rate{PERIOD}{selector}"
    formulas = {
        "slo:objective:ratio": f"vector({objective.share})",
        "slo:error_budget:ratio": f"vector(1 - {objective.share})",
        "slo:time_period:days": f"vector({PERIOD.removesuffix('d')})",
        "slo:current_burn_rate:ratio": _without_window(f"{fresh} / {objective.budget}"),
        "slo:period_burn_rate:ratio": _without_window(f"{whole} / {objective.budget}"),
        "slo:period_error_budget_remaining:ratio": "1 - "
        + _without_window(f"{whole} / {objective.budget}"),
    }
    return tuple(Recording(name, text, labels) for name, text in formulas.items())


def _without_window(expression: str) -> str:
    return f"max without (sloth_window) ({expression})"


def _list_alerts(objective: Objective) -> tuple[Alert, ...]:
    return tuple(
        Alert(
            objective.alert,
            "\nor\n".join(_burns(objective, pair) for pair in pairs),
            "2m",
            severity,
            objective.summary,
        )
        for severity, pairs in PAIRS.items()
    )


def _burns(objective: Objective, pair: Pair) -> str:
    bad = objective.bad.replace("rate(", "increase(").replace("WINDOW", pair.long)
    limits = [
        _without_window(
            f"slo:sli_error:ratio_rate{window}{_selector(objective)} > "
            f"({pair.rate} * {objective.budget})"
        )
        for window in (pair.short, pair.long)
    ]
    enough = f"on (namespace) ({bad}) > {MIN_BAD_CALLS}"
    return f"(\n{limits[0]}\nand\n{limits[1]}\nand {enough}\n)"
