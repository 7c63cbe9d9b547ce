"""`python -m grpc_server.processes.worker`: one of several processes that answer on one port.

The supervisor starts it. The arguments are its number, the port, the health port or -1, the file
descriptors of its stream to the supervisor and of its socket for requests of the HTTP port, the
folder of metrics, and the server's own command line. It ends when the supervisor does.
"""

import logging
import os
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from prometheus_client import CollectorRegistry

from grpc_server.canary.start import make_keeper, make_watcher
from grpc_server.canary.status import Abort
from grpc_server.drift.monitor import DriftMonitor
from grpc_server.drift.store import CountStore
from grpc_server.errors import StartupError
from grpc_server.gateway.start import open_gateway
from grpc_server.logs import configure_logging
from grpc_server.metrics import Metrics
from grpc_server.model import LoadedModel
from grpc_server.model.watch import ModelWatcher
from grpc_server.processes.control import (
    BEAT,
    BEAT_UNCOUNTED,
    LEAVING,
    LOADED,
    READY,
    listen,
    read_abort,
    send_error,
    send_line,
    write_abort,
)
from grpc_server.processes.metric_files import MetricFiles
from grpc_server.rest.start import make_sites
from grpc_server.rpc.health import Health
from grpc_server.rpc.pulse import Pulse, PulsePoint
from grpc_server.security import open_access, open_certificates
from grpc_server.server import GrpcEndpoint
from grpc_server.serving import load_first, serve_until_stopped
from grpc_server.settings import Settings, parse_command_line
from grpc_server.signals import Signals
from grpc_server.stop_limit import end_at_last
from prediction_common.secrets import find_secrets

_log = logging.getLogger(__name__)


class Worker:
    """The gRPC endpoint of one process, which reports ready when the supervisor says so.

    Parameters
    ----------
    settings : Settings
        Settings of the server, with the shared port.
    control : socket.socket
        Stream to and from the supervisor.
    signals : Signals
        When to stop; also set when the supervisor closes the stream.
    files : MetricFiles
        Files of the metrics.
    drift : DriftMonitor or None
        Counts the answered rows; None counts none.
    inlet : socket.socket
        Socket on which the supervisor passes requests of the HTTP port on.
    """

    def __init__(
        self,
        settings: Settings,
        control: socket.socket,
        signals: Signals,
        files: MetricFiles,
        drift: DriftMonitor | None,
        inlet: socket.socket,
    ) -> None:
        self._control = control
        self._files = files
        self._was_incomplete = False
        self._signals = signals
        self._settings = settings
        self._health = Health()
        registry = CollectorRegistry()
        metrics = Metrics(registry, is_merged=True)
        self._canary = make_keeper(settings, registry, self._announce)
        point = PulsePoint()
        self._pulse = Pulse(point, self._beat)
        self._inlet = inlet
        access = open_access(settings, metrics.access.count_callers_failure)
        sites = make_sites(lambda: self._grpc.get_model(), access, settings)
        self._gateway = open_gateway(settings, point, sites, access)
        self._grpc = GrpcEndpoint(
            settings,
            metrics,
            self._health,
            point,
            certificates=open_certificates(
                settings, metrics.access.count_certificate_failure
            ),
            access=access,
            why_not_alive=self._pulse.why_not_alive,
            drift=drift,
            shares_port=True,
            canary=self._canary,
        )

    def run(self) -> None:
        """Answer until a signal arrives or the supervisor closes the stream."""
        settings = self._settings
        watcher = ModelWatcher(
            settings.model_folder,
            settings.model_uri,
            self._serve,
            self._grpc.count_load_failure,
            show_standing=self._grpc.show_standing,
            trust=settings.trust,
            steps=self._grpc.follow_steps(),
        )
        threading.Thread(target=self._listen, name="control", daemon=True).start()

        def begin() -> None:
            # In this order, a connection made meanwhile waits for the model instead of failing.
            load_first(watcher, settings, None, self._signals.stop)
            self._grpc.start()
            self._pulse.start()
            if self._gateway is not None:
                self._gateway.listen(self._inlet)

        serve_until_stopped(
            self,
            watcher,
            begin,
            self._signals,
            settings.drain_seconds,
            make_watcher(settings, self._canary, self._grpc.follow_steps()),
        )

    def drain(self, wake: threading.Event) -> None:
        """Report not ready and keep answering, for the drain time or until `wake` is set."""
        self._grpc.drain(wake)

    def stop(self) -> None:
        """Take no new calls and requests, and finish those in flight."""
        # First: the socket of the inlet stays open in the supervisor, and nobody would answer.
        send_line(self._control, LEAVING)
        self._grpc.stop()
        if self._gateway is not None:
            self._gateway.stop()

    def _serve(self, model: LoadedModel) -> None:
        self._grpc.serve(model)
        send_line(self._control, LOADED)

    def _announce(self, abort: Abort) -> None:
        send_line(self._control, write_abort(abort))

    def _beat(self) -> None:
        self._files.retry()
        reason = self._files.why_incomplete()
        is_incomplete = reason is not None
        if is_incomplete != self._was_incomplete:
            self._was_incomplete = is_incomplete
            _log_metrics(reason)
        send_line(self._control, BEAT_UNCOUNTED if is_incomplete else BEAT)

    def _listen(self) -> None:
        for line in listen(self._control):
            if line == READY and not self._signals.stop.is_set():
                self._health.set_ready()
            abort = read_abort(line)
            if abort is not None and self._canary is not None:
                self._canary.abort(abort)
        self._signals.hurry.set()
        self._signals.stop.set()


def _log_metrics(reason: str | None) -> None:
    if reason is None:
        _log.info("metrics are complete again")
    else:
        fields = {"reason": reason}
        _log.error("metrics are incomplete", extra={"fields": fields})


def _make_drift(settings: Settings, folder: Path, number: int) -> DriftMonitor | None:
    if not settings.drift_features:
        return None
    return DriftMonitor(settings.drift_features, CountStore(folder, number))


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the program and return its exit code."""
    number, port, health_port, control_fd, inlet_fd = map(int, arguments[:5])
    folder = Path(arguments[5])
    files = MetricFiles(folder, number)
    settings = parse_command_line(arguments[6:], environ).settings
    settings = replace(
        settings, port=port, health_port=health_port if health_port >= 0 else None
    )
    configure_logging(settings.log_level, find_secrets(environ), process=number)
    files.keep_all_values()
    signals = Signals()
    end_at_last(signals, settings.drain_seconds, settings.grace_seconds)
    with socket.socket(fileno=control_fd) as control, socket.socket(
        fileno=inlet_fd
    ) as inlet:
        try:
            drift = _make_drift(settings, folder, number)
            Worker(settings, control, signals, files, drift, inlet).run()
        except StartupError as error:
            # The supervisor knows whether the error concerns the whole server.
            send_error(control, str(error))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
