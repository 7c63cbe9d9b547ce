"""The metrics of a canary."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from grpc_server.canary.status import State, Status

_STATES = tuple(State)
# Versions whose series are shown. With several processes, series cannot be removed.
_MAX_VERSIONS = 20
_MAX_MERGED_VERSIONS = 100
_OTHER = "other"


class CanaryMetrics:
    """What the canary does.

    Parameters
    ----------
    registry : CollectorRegistry
        Registers the metrics.
    is_merged : bool
        As in `grpc_server.metrics.Metrics`.
    """

    def __init__(self, registry: CollectorRegistry, *, is_merged: bool) -> None:
        self._is_merged = is_merged
        self._calls = Counter(
            "prediction_canary_calls",
            "Calls while a canary serves, by the version that was chosen and by outcome: answered; "
            "misfit if they fit the champion only; failed if the version failed. The champion "
            "answered the last two.",
            ("model_version", "outcome"),
            registry=registry,
        )
        self._state = Gauge(
            "prediction_canary_state",
            "1 for the state of the canary; of several processes, for any of theirs.",
            ("state",),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._info = Gauge(
            "prediction_canary_info",
            "1 for the version that is the canary, whatever its state.",
            ("model_version",),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._share = Gauge(
            "prediction_canary_share",
            "Share of the calls that the canary gets now; 0 unless it serves.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._aborts = Counter(
            "prediction_canary_aborts",
            "Versions that left their bounds and were aborted.",
            registry=registry,
        )
        self._load_failures = Counter(
            "prediction_canary_load_failures",
            "Files that were refused as a canary; GetModel has the reason.",
            registry=registry,
        )
        # In the order of their first call.
        self._versions: dict[str, None] = {}
        self._shown_version = ""

    def count_calls(self, version: str, outcome: str, n_calls: int) -> None:
        """Count calls that a version was chosen for."""
        self._calls.labels(self._label(version), outcome).inc(n_calls)

    def count_abort(self) -> None:
        """Count one abort."""
        self._aborts.inc()

    def count_load_failure(self, error: str) -> None:
        """Count one file that was refused."""
        self._load_failures.inc()

    def show(self, status: Status) -> None:
        """Show the status as the only one."""
        for state in _STATES:
            self._state.labels(state.value).set(state is status.state)
        self._share.set(status.share if status.state is State.SERVING else 0.0)
        if status.version != self._shown_version:
            self._hide_version()
        if status.version:
            self._info.labels(self._label(status.version)).set(1)
        self._shown_version = status.version

    def _hide_version(self) -> None:
        if not self._is_merged:
            self._info.clear()
        elif self._shown_version:
            self._info.labels(self._label(self._shown_version)).set(0)

    def _label(self, version: str) -> str:
        if version in self._versions:
            return version
        if len(self._versions) >= self._find_limit():
            if self._is_merged:
                return _OTHER
            self._forget(next(iter(self._versions)))
        self._versions[version] = None
        return version

    def _find_limit(self) -> int:
        return _MAX_MERGED_VERSIONS if self._is_merged else _MAX_VERSIONS

    def _forget(self, version: str) -> None:
        """Remove the series of the version that came first."""
        del self._versions[version]
        for outcome in ("answered", "misfit", "failed"):
            try:
                self._calls.remove(version, outcome)
            except KeyError:  # this version had no such call
                continue
