"""The rows of the dashboard of canary, shadow and prediction log."""

from monitoring.alerts import CANARY_NEEDS, LOG_NEEDS, SHADOW_NEEDS
from monitoring.selectors import IN, by, increase, rate
from monitoring.values import Panel, Query, Row, draw

TRACES_NEED = "--otlp-endpoint"


def list_rows() -> tuple[Row, ...]:
    """Return the rows, from top to bottom."""
    return (_show_canary(), _show_shadow(), _show_log(), _show_traces())


def _show_canary() -> Row:
    calls = by("model_version, outcome", rate("prediction_canary_calls_total"))
    state = f"sum by (state) (prediction_canary_state{{{IN}}}) > 0"
    return Row(
        "Canary",
        (
            draw(
                "Calls by version",
                "Calls while a canary serves, by chosen version and outcome. The champion "
                "answers those that the canary could not.",
                "reqps",
                calls,
                "version {{model_version}} {{outcome}}",
                CANARY_NEEDS,
            ),
            draw(
                "State of the canary",
                "Servers in each state; aborted means that it left its bounds.",
                "short",
                state,
                "{{state}}",
                CANARY_NEEDS,
            ),
            draw(
                "Share of the canary",
                "Share of the calls that the canary gets; 0 unless it serves.",
                "percentunit",
                f"max(prediction_canary_share{{{IN}}})",
                "share",
                CANARY_NEEDS,
            ),
            Panel(
                "Aborts",
                "Canaries that were aborted, and files that were refused.",
                "short",
                tuple(
                    Query(f"sum({increase(name)})", legend)
                    for name, legend in (
                        ("prediction_canary_aborts_total", "aborted"),
                        ("prediction_canary_load_failures_total", "refused"),
                    )
                ),
                CANARY_NEEDS,
            ),
        ),
    )


def _show_shadow() -> Row:
    parts = [
        rate(f"prediction_shadow_absolute_difference_{p}") for p in ("sum", "count")
    ]
    rows = by("model_version, agreement", rate("prediction_shadow_rows_total"))
    dropped = by("reason", rate("prediction_shadow_dropped_total"))
    times = by("le", rate("prediction_shadow_seconds_bucket"))
    return Row(
        "Shadow",
        (
            draw(
                "Rows that the shadow scored",
                "Rows per second: the same label as the champion's, another one, rows that do "
                "not fit the shadow, and rows at which it failed.",
                "cps",
                rows,
                "version {{model_version}} {{agreement}}",
                SHADOW_NEEDS,
            ),
            draw(
                "Difference of probabilities",
                "Mean absolute difference between the probabilities of shadow and champion.",
                "percentunit",
                f"sum({parts[0]}) / sum({parts[1]})",
                "mean",
                SHADOW_NEEDS,
            ),
            draw(
                "Missing in the shadow",
                "Answered calls per second that the shadow did not score, by reason. It drops "
                "calls when it is behind; callers do not wait for it.",
                "cps",
                dropped,
                "{{reason}}",
                SHADOW_NEEDS,
            ),
            draw(
                "Time of the shadow",
                "99 % of what the shadow scores takes less time.",
                "s",
                f"histogram_quantile(0.99, {times})",
                "99 %",
                SHADOW_NEEDS,
            ),
        ),
    )


def _show_log() -> Row:
    age = f"time() - max by (instance) (prediction_log_last_write_timestamp_seconds{{{IN}}} > 0)"
    return Row(
        "Prediction log",
        (
            draw(
                "Logged rows",
                "Rows per second that are written to the prediction log.",
                "cps",
                f"sum({rate('prediction_log_rows_total')})",
                "rows",
                LOG_NEEDS,
            ),
            draw(
                "Bytes of the log",
                "Bytes per second that are written.",
                "Bps",
                f"sum({rate('prediction_log_bytes_total')})",
                "bytes",
                LOG_NEEDS,
            ),
            draw(
                "Missing in the log",
                "Answered calls per second that are not whole in the log, by reason.",
                "cps",
                by("reason", rate("prediction_log_dropped_total")),
                "{{reason}}",
                LOG_NEEDS,
            ),
            draw(
                "Time since the last write",
                "How long ago each server last wrote rows.",
                "s",
                age,
                "{{instance}}",
                LOG_NEEDS,
            ),
        ),
    )


def _show_traces() -> Row:
    return Row(
        "Traces",
        (
            draw(
                "Traces that the collector took",
                "Traces per second, of calls and of model swaps.",
                "cps",
                f"sum({rate('prediction_traces_sent_total')})",
                "traces",
                TRACES_NEED,
            ),
            draw(
                "Missing traces",
                "Traces per second that the collector should have and has not, by reason.",
                "cps",
                by("reason", rate("prediction_traces_dropped_total")),
                "{{reason}}",
                TRACES_NEED,
            ),
        ),
    )
