"""The rows of the dashboard of the service: traffic, errors, latency and saturation."""

from monitoring.objectives import ERRORS, SERVICE
from monitoring.selectors import IN, by, of_model, rate
from monitoring.values import Panel, Query, Row, draw

_REFUSED = f'{SERVICE},grpc_code="RESOURCE_EXHAUSTED"'
_SLO = 'sloth_service="prediction-server",' + IN


def list_rows() -> tuple[Row, ...]:
    """Return the rows, from top to bottom."""
    return (
        _show_traffic(),
        _show_errors(),
        _show_latency(),
        _show_saturation(),
        _show_resources(),
    )


def _handled(labels: str) -> str:
    return rate("grpc_server_handled_total", labels)


def _show_traffic() -> Row:
    rows = [rate(f"prediction_batch_rows_{part}") for part in ("sum", "count")]
    return Row(
        "Traffic",
        (
            draw(
                "Calls",
                "Calls that ended, by method.",
                "reqps",
                by("grpc_method", _handled(SERVICE)),
                "{{grpc_method}}",
            ),
            draw(
                "Predicted labels",
                "Instances predicted, by label, in calls of all kinds.",
                "cps",
                by("label", rate("prediction_instances_total")),
                "{{label}}",
            ),
            draw(
                "Rows of a batch",
                "Mean number of rows of batches and of chunks of streams.",
                "short",
                f"sum({rows[0]}) / sum({rows[1]})",
                "rows",
            ),
            draw(
                "Callers",
                "Calls that ended, by the caller's name in the files of callers.",
                "reqps",
                by("caller", rate("prediction_calls_by_caller_total")),
                "{{caller}}",
                "--tokens-file or --allowed-identities",
            ),
        ),
    )


def _show_errors() -> Row:
    failed = _handled(f'{SERVICE},grpc_code!="OK"')
    ratio = f"sum({_handled(ERRORS)}) / sum({_handled(SERVICE)})"
    return Row(
        "Errors",
        (
            draw(
                "Calls that failed",
                "Calls without an answer, by status; those of callers' own mistakes too.",
                "reqps",
                by("grpc_code", failed),
                "{{grpc_code}}",
            ),
            draw(
                "Share of errors",
                "Share of the calls that failed by the server's fault. The objective is below "
                "0.1 %.",
                "percentunit",
                ratio,
                "errors",
            ),
            draw(
                "Burn rate",
                "How many times faster than allowed the budget of 30 days is spent, over 5 "
                "minutes. Alerts begin at 14.4.",
                "short",
                f"slo:current_burn_rate:ratio{{{_SLO}}}",
                "{{sloth_slo}}",
            ),
            draw(
                "Budget left",
                "Share of the budget of 30 days that is left; negative once it is spent.",
                "percentunit",
                f"slo:period_error_budget_remaining:ratio{{{_SLO}}}",
                "{{sloth_slo}}",
            ),
        ),
    )


def _quantile(
    share: str,
    labels: str,
    keys: str = "le",
    metric: str = "grpc_server_handling_seconds",
) -> str:
    buckets = rate(f"{metric}_bucket", labels)
    return f"histogram_quantile({share}, {by(keys, buckets)})"


def _show_latency() -> Row:
    predict = f'{SERVICE},grpc_method="Predict"'
    unary = f'{SERVICE},grpc_type="unary"'
    return Row(
        "Latency",
        (
            Panel(
                "Predict",
                "Time that the server worked on a call, without the wait for its turn.",
                "s",
                tuple(
                    Query(_quantile(share, predict), name)
                    for share, name in (
                        ("0.5", "median"),
                        ("0.95", "95 %"),
                        ("0.99", "99 %"),
                    )
                ),
            ),
            draw(
                "Slowest hundredth by method",
                "99 % of the unary calls of a method take less time.",
                "s",
                _quantile("0.99", unary, "le, grpc_method"),
                "{{grpc_method}}",
            ),
            draw(
                "Wait",
                "99 % of the unary calls of a method wait less for their turn. It grows first when "
                "a server is too busy.",
                "s",
                _quantile(
                    "0.99", unary, "le, grpc_method", "prediction_waiting_seconds"
                ),
                "{{grpc_method}}",
            ),
        ),
    )


def _show_saturation() -> Row:
    started = of_model(f"grpc_server_started_total{{{SERVICE},{IN}}}")
    handled = of_model(f"grpc_server_handled_total{{{SERVICE},{IN}}}")
    in_flight = f"{by('grpc_method', started)} - {by('grpc_method', handled)}"
    return Row(
        "Saturation",
        (
            draw(
                "Refused",
                "Share of the calls that were refused because a limit was reached.",
                "percentunit",
                f"sum({_handled(_REFUSED)}) / sum({_handled(SERVICE)})",
                "refused",
            ),
            draw(
                "Calls in flight",
                "Calls that began and did not end yet, by method; open streams count as one.",
                "short",
                in_flight,
                "{{grpc_method}}",
            ),
            draw(
                "Processes",
                "Processes of each server that answer calls.",
                "short",
                of_model(f"prediction_processes_ready{{{IN}}}"),
                "{{instance}}",
                "--processes above 1",
            ),
        ),
    )


def _show_resources() -> Row:
    # The metrics of processes have the same names everywhere.
    ours = f"and on (namespace, instance) prediction_lane_info{{{IN}}}"
    cpu = f"{rate('process_cpu_seconds_total')} {ours}"
    memory = of_model(f"process_resident_memory_bytes{{{IN}}} {ours}")
    files = of_model(f"process_open_fds{{{IN}}} / process_max_fds{{{IN}}} {ours}")
    return Row(
        "Resources",
        (
            draw(
                "CPU",
                "Cores that each server uses, all its processes together.",
                "short",
                cpu,
                "{{instance}}",
            ),
            draw(
                "Memory",
                "Resident memory of each server, all its processes together.",
                "bytes",
                memory,
                "{{instance}}",
            ),
            draw(
                "Open files",
                "Share of the file descriptors in use; each connection takes one.",
                "percentunit",
                files,
                "{{instance}}",
            ),
        ),
    )
