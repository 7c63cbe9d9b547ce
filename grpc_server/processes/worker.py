"""`python -m grpc_server.processes.worker`: one of several processes that answer on one port.

The supervisor starts it. The arguments are its number, the port, the file descriptor of its stream
to the supervisor, the folder of metrics, and the server's own command line. It ends when the
supervisor does.
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

from grpc_server.errors import StartupError
from grpc_server.logs import configure_logging
from grpc_server.metrics import Metrics
from grpc_server.model import LoadedModel
from grpc_server.model.watch import ModelWatcher
from grpc_server.processes.control import (
    BEAT,
    BEAT_UNCOUNTED,
    LOADED,
    READY,
    listen,
    send_error,
    send_line,
)
from grpc_server.processes.metric_files import MetricFiles
from grpc_server.rpc.health import Health
from grpc_server.rpc.pulse import Pulse, PulsePoint
from grpc_server.secrets import find_secrets
from grpc_server.server import GrpcEndpoint
from grpc_server.serving import load_first, serve_until_stopped
from grpc_server.settings import Settings, parse_command_line
from grpc_server.signals import Signals
from grpc_server.stop_limit import end_at_last

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
    """

    def __init__(
        self,
        settings: Settings,
        control: socket.socket,
        signals: Signals,
        files: MetricFiles,
    ) -> None:
        self._control = control
        self._files = files
        self._was_incomplete = False
        self._signals = signals
        self._settings = settings
        self._health = Health()
        metrics = Metrics(CollectorRegistry(), is_merged=True)
        point = PulsePoint()
        self._pulse = Pulse(point, self._beat)
        self._grpc = GrpcEndpoint(
            settings, metrics, self._health, point, shares_port=True
        )

    def run(self) -> None:
        """Answer until a signal arrives or the supervisor closes the stream."""
        settings = self._settings
        watcher = ModelWatcher(
            settings.model_folder,
            settings.model_uri,
            self._serve,
            self._grpc.count_load_failure,
        )
        threading.Thread(target=self._listen, name="control", daemon=True).start()

        def begin() -> None:
            # In this order, a connection made meanwhile waits for the model instead of failing.
            load_first(watcher, settings, None, self._signals.stop)
            self._grpc.start()
            self._pulse.start()

        serve_until_stopped(
            self._grpc, watcher, begin, self._signals, settings.drain_seconds
        )

    def _serve(self, model: LoadedModel) -> None:
        self._grpc.serve(model)
        send_line(self._control, LOADED)

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
        self._signals.hurry.set()
        self._signals.stop.set()


def _log_metrics(reason: str | None) -> None:
    if reason is None:
        _log.info("metrics are complete again")
    else:
        fields = {"reason": reason}
        _log.error("metrics are incomplete", extra={"fields": fields})


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the program and return its exit code."""
    number, port, control_fd = (int(argument) for argument in arguments[:3])
    files = MetricFiles(Path(arguments[3]), number)
    settings = parse_command_line(arguments[4:], environ).settings
    configure_logging(settings.log_level, find_secrets(environ), process=number)
    files.keep_all_values()
    signals = Signals()
    end_at_last(signals, settings.drain_seconds, settings.grace_seconds)
    with socket.socket(fileno=control_fd) as control:
        try:
            Worker(replace(settings, port=port), control, signals, files).run()
        except StartupError as error:
            # The supervisor knows whether the error concerns the whole server.
            send_error(control, str(error))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
