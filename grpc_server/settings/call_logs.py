"""What is written about calls: the prediction log, and lines of the log."""

from dataclasses import dataclass
from pathlib import Path

from grpc_server.settings.setting import setting
from grpc_server.settings.values import integer, path, positive_seconds, share_or_none


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
