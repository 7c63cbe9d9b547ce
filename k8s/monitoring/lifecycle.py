"""The rows of the dashboard of the model and its versions."""

from monitoring.selectors import IN, by, increase, of_model
from monitoring.values import Panel, Query, Row, draw

_INFO = f'prediction_model_info{{registered_model=~"$model",{IN}}} == 1'


def list_rows() -> tuple[Row, ...]:
    """Return the rows, from top to bottom."""
    return (_show_versions(), _show_refusals(), _show_files())


def _show_versions() -> Row:
    wanted = of_model(f"prediction_model_wanted_info{{{IN}}} == 1")
    loaded = of_model(f"prediction_model_loaded_timestamp_seconds{{{IN}}} > 0")
    labels = "registered_model, model_version, family, run_id"
    return Row(
        "Versions",
        (
            draw(
                "Versions that answer",
                "Servers by the version that they answer with. Two for longer than a roll-out "
                "are a split.",
                "short",
                f"count by (registered_model, model_version) ({_INFO})",
                "{{registered_model}} {{model_version}}",
            ),
            draw(
                "Versions that should answer",
                "Servers by the version that the registry, or the link, names.",
                "short",
                f"count by (model_version) ({wanted})",
                "version {{model_version}}",
            ),
            Panel(
                "Models now",
                "Servers by model, version, family and run.",
                "short",
                (Query(f"count by ({labels}) ({_INFO})", ""),),
                is_table=True,
            ),
            draw(
                "Age of the model",
                "Time since each server loaded its model.",
                "s",
                f"time() - {loaded}",
                "{{instance}}",
            ),
        ),
    )


def _show_refusals() -> Row:
    refused = of_model(f"prediction_model_refused{{{IN}}}")
    empty = of_model(f"prediction_model_loaded_timestamp_seconds{{{IN}}} == bool 0")
    contact = of_model(
        f"prediction_registry_last_contact_timestamp_seconds{{{IN}}} > 0"
    )
    failures = increase("prediction_model_load_failures_total")
    return Row(
        "What keeps a version from answering",
        (
            draw(
                "Refused models",
                "Models that were refused, by reason; the one before kept answering.",
                "short",
                by("reason", failures),
                "{{reason}}",
            ),
            Panel(
                "Servers with another version",
                "Servers that something keeps from the version that should answer, and servers "
                "without any model.",
                "short",
                (
                    Query(f"sum({refused})", "refuse the wanted version"),
                    Query(f"sum({empty})", "have no model"),
                ),
            ),
            draw(
                "Time since the registry answered",
                "How long ago the registry last named the wanted version, of each server.",
                "s",
                f"time() - {contact}",
                "{{instance}}",
                "model-sync beside the server",
            ),
        ),
    )


def _show_files() -> Row:
    changes = {
        "prediction_tls_reload_failures_total": "certificates",
        "prediction_callers_reload_failures_total": "callers",
    }
    lanes = of_model(f"prediction_lane_info{{{IN}}}")
    builds = of_model(f"prediction_build_info{{{IN}}}")
    return Row(
        "Files and settings",
        (
            Panel(
                "Refused changes of files",
                "Changes of certificates and of callers that were refused; the files before "
                "stay in force.",
                "short",
                tuple(
                    Query(f"sum({increase(name)})", legend)
                    for name, legend in changes.items()
                ),
            ),
            draw(
                "Lanes",
                "Servers by the lane that answers, with the lane of the settings.",
                "short",
                f"count by (lane, asked) ({lanes})",
                "{{lane}} of {{asked}}",
            ),
            Panel(
                "Builds now",
                "Servers by version, revision, Python and grpcio.",
                "short",
                (
                    Query(
                        f"count by (version, revision, python, grpcio) ({builds})", ""
                    ),
                ),
                is_table=True,
            ),
        ),
    )
