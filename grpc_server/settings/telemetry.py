"""What is told: logs of calls, traces, the revision and the log."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from grpc_server.settings.setting import setting
from grpc_server.settings.values import integer, path, positive_seconds, share_or_none

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


@dataclass(frozen=True, init=False, repr=False, eq=False)
class CallLogSettings:
    """Logs of calls."""

    prediction_log: Path | None = setting(
        None,
        path,
        "folder of the prediction log: what callers sent and were answered, in JSON Lines, written "
        "by a process of its own (default: no log)",
    )
    prediction_log_share: float = setting(
        1.0,
        share_or_none,
        "share of the calls to log, chosen by their x-request-id, so that a retry is chosen alike",
    )
    prediction_log_file_mib: int = setting(
        64, integer(1, 65_536), "size in MiB at which a file of the log is finished"
    )
    prediction_log_file_seconds: float = setting(
        3600.0, positive_seconds, "age at which a file of the log is finished"
    )
    prediction_log_total_mib: int = setting(
        1024,
        integer(1, 16_777_216),
        "most MiB of all files of the log; the oldest finished ones are deleted for new ones",
    )
    prediction_log_drop: str = setting(
        "",
        str,
        "features that are not logged: names with commas between, or @FILE with a name on each "
        "line",
    )
    prediction_log_hash: str = setting(
        "",
        str,
        "features of which a keyed hash is logged, as in --prediction-log-drop; needs "
        "--prediction-log-hash-key",
    )
    prediction_log_hash_key: Path | None = setting(
        None, path, "file of the key of the hashes, 16 to 64 bytes"
    )
    access_log_share: float | None = setting(
        None,
        share_or_none,
        "write calls to the log: all that failed, and this share of the others, [0, 1]; at most "
        "500 lines a second and process (default: no calls)",
    )


def _otlp_endpoint(text: str) -> str:
    """Return the address of a collector's traces; the usual path is added to one without a path."""
    allowed = (
        "an address such as http://localhost:4318, without user, query and fragment"
    )
    try:
        parts = urlsplit(text)
        is_valid = parts.port != 0 and bool(parts.hostname)
    except ValueError:
        raise ValueError(allowed) from None
    beyond = parts.username, parts.password, parts.query, parts.fragment
    if parts.scheme not in ("http", "https") or not is_valid or any(beyond):
        raise ValueError(allowed)
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError(allowed)
    own_path = parts.path.rstrip("/")
    return parts._replace(path=own_path or "/v1/traces").geturl()


def _name(text: str) -> str:
    if not re.fullmatch(r"[!-~]{1,100}", text):
        raise ValueError("1 to 100 visible ASCII characters")
    return text


def _log_level(text: str) -> str:
    if text.upper() not in LOG_LEVELS:
        raise ValueError("one of " + ", ".join(LOG_LEVELS))
    return text.upper()


@dataclass(frozen=True, init=False, repr=False, eq=False)
class TelemetrySettings:
    """Traces of calls, revision and log level."""

    otlp_endpoint: str | None = setting(
        None,
        _otlp_endpoint,
        "address of an OpenTelemetry collector that takes OTLP over HTTP, such as "
        "http://localhost:4318: traces of calls and of model swaps are sent there; needs the extra "
        "tracing (default: no traces)",
    )
    otlp_headers: Path | None = setting(
        None,
        path,
        "file of headers for the collector, NAME: VALUE on each line, such as a token; read at the "
        "start",
    )
    trace_share: float = setting(
        0.01,
        share_or_none,
        "share of the calls without a traceparent that are traced, [0, 1]; with one, its flag "
        "decides; at most 500 calls a second and process are traced",
    )
    trace_service: str = setting(
        "prediction-server", _name, "name of the service in traces"
    )
    revision: str = setting(
        "",
        str,
        "revision of the code, which prediction_build_info shows (default: unknown)",
    )
    log_level: str = setting(
        "INFO", _log_level, "lowest level to log: " + ", ".join(LOG_LEVELS)
    )
