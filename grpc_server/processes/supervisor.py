"""Keeps the processes of one server running, and serves the HTTP port for all of them.

::

    for each slot:

    start ──> loaded ── all are loaded ──> ready ──> beats, every second
      ^          │                           │          │ no beat for 10 s: kill
      │          v                           v          v
      └─ wait <── the process ends: signal, exit code, or error line
           0, 0.5, 1 ... 30 s       │
                                    └── no process has a model, and it sent an error or this is
                                        the third end in a row ──> stop the server

    stop ──> SIGTERM to all ──> drain and grace time ──> SIGKILL to the rest

The supervisor never imports gRPC: each process is a separate program.
"""

import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Self

from prometheus_client import CollectorRegistry, PlatformCollector

from grpc_server.access import Access
from grpc_server.drift.collector import DriftCollector
from grpc_server.drift.store import read_all
from grpc_server.errors import RegistryError, StartupError
from grpc_server.gateway.forward import ForwardDesk, Inlet
from grpc_server.gateway.paths import list_paths, make_bodies
from grpc_server.http_desk import HttpDesk
from grpc_server.http_endpoint import HttpEndpoint, make_app
from grpc_server.http_guard import HttpGuard
from grpc_server.ports import reserve
from grpc_server.processes.control import (
    BEAT,
    BEAT_UNCOUNTED,
    LEAVING,
    LOADED,
    READY,
    listen,
    read_abort,
    read_error,
    send_line,
)
from grpc_server.processes.merged_metrics import MergedMetrics, forget_gauges
from grpc_server.processes.metric_folder import enter_metric_folder
from grpc_server.processes.slot import Slot, wait_for_end
from grpc_server.rest.pages import make_pages
from grpc_server.security import open_access, open_certificates
from grpc_server.settings import Settings
from grpc_server.signals import Signals
from grpc_server.stop_limit import STOP_MARGIN_SECONDS

# Ends in a row, without a model in any process, after which further starts are hopeless.
MAX_FAILED_STARTS = 3
# Wait between the end of a process and the start of the next: none at first, then it doubles.
_FIRST_BACKOFF_SECONDS = 0.5
_MAX_BACKOFF_SECONDS = 30.0
# The end of a process that ran longer has nothing to do with its start.
_STEADY_SECONDS = 60.0
# Time between two looks for hanging processes, and how late a look may be on a busy machine.
_LOOK_SECONDS = 0.5
_LATE_SECONDS = 1.0
# Aborted canaries that are passed on to new processes; a stream holds as many lines unread.
_MAX_ABORTS = 50

_log = logging.getLogger(__name__)


class Supervisor:
    """The processes of one server, from `run` to the end of the context.

    The constructor binds both ports, so that a port in use fails before anything else happens.

    Parameters
    ----------
    settings : Settings
        Settings of the server.
    arguments : sequence of str
        Command line of the server, which each process gets.
    environ : mapping of str to str
        Environment of each process.
    signals : Signals
        When to stop.

    Raises
    ------
    StartupError
        If a port cannot be bound, or a file of TLS cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        signals: Signals,
    ) -> None:
        self._settings = settings
        self._arguments = arguments
        self._environ = dict(environ)
        self._signals = signals
        # Lines about canaries that must not serve, for all processes, also those to come.
        self._aborts: deque[str] = deque(maxlen=_MAX_ABORTS)
        self._slots = [Slot(number) for number in range(settings.processes)]
        # Held while a slot changes, and while a process is started or signalled.
        self._lock = threading.Lock()
        self._error: StartupError | None = None
        self._registry_error: RegistryError | None = None
        self._threads = [
            threading.Thread(
                target=self._keep, args=(slot,), name=f"keep-{slot.number}"
            )
            for slot in self._slots
        ]
        # Read here too, so that an error occurs once, not per process.
        store, access = open_certificates(settings), open_access(settings)
        with ExitStack() as stack:
            self._folder = enter_metric_folder(stack)
            self._inlets = [Inlet() for _ in self._slots]
            for inlet in self._inlets:
                stack.callback(inlet.listener.close)
            self._http = HttpEndpoint(
                settings.host,
                settings.http_port,
                # Always alive: a hanging process is replaced without a restart of the rest.
                make_app(
                    self._make_registry(),
                    self._why_not_ready,
                    lambda: None,
                    HttpGuard(access),
                    make_pages(settings, self._why_not_ready, lambda: None),
                ),
                tls=None if store is None else store.context,
                desks=self._make_desks(access),
            )
            stack.callback(self._http.stop)
            reservation = stack.enter_context(reserve(settings.host, settings.port))
            self.port: int = reservation.getsockname()[1]
            self.health_port = self._reserve_health_port(stack)
            self._stack = stack.pop_all()

    @property
    def http_port(self) -> int:
        """HTTP port that was bound."""
        return self._http.port

    def __enter__(self) -> Self:
        self._http.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()
        _log.info("stopped")

    def run(self, registry_error: RegistryError | None) -> None:
        """Keep the processes running until a signal arrives, then stop them cleanly.

        Parameters
        ----------
        registry_error : RegistryError or None
            Error of the registry, if it could not provide a model.

        Raises
        ------
        StartupError
            If no process can do its work.
        """
        self._registry_error = registry_error
        for thread in self._threads:
            thread.start()
        self._look_until_stopped()
        if self._error is None:
            fields = {"seconds": self._settings.drain_seconds}
            _log.info("draining", extra={"fields": fields})
        self._end_all()
        if self._error is not None:
            raise self._error

    def _reserve_health_port(self, stack: ExitStack) -> int | None:
        settings = self._settings
        if settings.health_port is None:
            return None
        reservation = stack.enter_context(
            reserve(settings.host, settings.health_port, flag="--health-port")
        )
        port: int = reservation.getsockname()[1]
        return port

    def _make_registry(self) -> CollectorRegistry:
        registry = CollectorRegistry()
        PlatformCollector(registry=registry)
        registry.register(
            MergedMetrics(
                self._folder,
                self._list_pids,
                self._count_ready,
                self._count_incomplete,
            )
        )
        registry.register(DriftCollector(partial(read_all, self._folder)))
        return registry

    def _make_desks(self, access: Access) -> tuple[HttpDesk, ...]:
        paths = list_paths(self._settings)
        if not paths:
            return ()
        bodies = make_bodies(self._settings, access)
        return (ForwardDesk(paths, bodies, self._list_inlets),)

    def _list_inlets(self) -> list[bytes]:
        with self._lock:
            return [self._inlets[s.number].address for s in self._slots if s.is_ready]

    def _list_pids(self) -> list[int]:
        with self._lock:
            return [slot.process.pid for slot in self._slots if slot.process]

    def _count_ready(self) -> int:
        with self._lock:
            return sum(slot.is_ready for slot in self._slots)

    def _count_incomplete(self) -> int:
        with self._lock:
            return sum(not slot.has_all_metrics for slot in self._slots)

    def _why_not_ready(self) -> str | None:
        if self._signals.stop.is_set():
            return "draining before the server stops"
        n_ready, n_slots = self._count_ready(), len(self._slots)
        if n_ready < n_slots:
            return f"{n_ready} of {n_slots} processes are ready"
        return None

    def _keep(self, slot: Slot) -> None:
        """Run one process after the other in a slot, until the server stops."""
        while not self._signals.stop.is_set():
            begin = time.monotonic()
            error, reason = self._run_one(slot)
            has_served = self._clear(slot)
            if self._signals.stop.is_set():
                return
            is_steady = has_served and time.monotonic() - begin > _STEADY_SECONDS
            slot.n_quick_ends = 0 if is_steady else slot.n_quick_ends + 1
            if not has_served:
                self._give_up_if_hopeless(slot, error, reason)
            wait_seconds = _backoff_seconds(slot.n_quick_ends)
            fields = {"process": slot.number, "reason": reason}
            fields["restart_seconds"] = wait_seconds
            _log.error("process ended", extra={"fields": fields})
            self._signals.stop.wait(wait_seconds)

    def _run_one(self, slot: Slot) -> tuple[str | None, str]:
        """Run a process to its end; return the error that it sent, if any, and how it ended."""
        try:
            process = self._start(slot)
        except OSError as failure:
            return None, f"a failure to start it: {failure.strerror}"
        if process is None:
            return None, "nothing begun"
        error = self._attend(slot)
        reason = wait_for_end(process)
        return error, error or reason

    def _start(self, slot: Slot) -> "subprocess.Popen[bytes] | None":
        with self._lock:
            # Checked under the lock, so that `_signal_all` misses no process.
            if self._signals.stop.is_set():
                return None
            ours, theirs = socket.socketpair()
            inlet = self._inlets[slot.number].listener
            command = [sys.executable, "-m", "grpc_server.processes.worker"]
            health_port = -1 if self.health_port is None else self.health_port
            command += [str(slot.number), str(self.port), str(health_port)]
            command += [str(theirs.fileno()), str(inlet.fileno())]
            command.append(str(self._folder))
            with theirs, ExitStack() as stack:
                stack.callback(ours.close)
                process = subprocess.Popen(
                    [*command, *self._arguments],
                    env=self._environ,
                    pass_fds=[theirs.fileno(), inlet.fileno()],
                    # Its own group: a terminal's Ctrl-C must reach the supervisor only.
                    process_group=0,
                )
                stack.pop_all()
            slot.fill(process, ours)
            for line in self._aborts:
                send_line(ours, line)
            return process

    def _attend(self, slot: Slot) -> str | None:
        """Handle the lines of a process until it ends; return the error that it sent, if any."""
        assert slot.control is not None
        error = None
        for line in listen(slot.control):
            error = read_error(line) or error
            self._hear(slot, line)
        return error

    def _hear(self, slot: Slot, line: str) -> None:
        with self._lock:
            slot.hear()
            if line in (BEAT, BEAT_UNCOUNTED):
                slot.has_all_metrics = line == BEAT
            slot.is_leaving |= line == LEAVING
        if line == LOADED:
            self._note_loaded(slot)
        if read_abort(line) is not None:
            self._spread_abort(slot, line)

    def _spread_abort(self, slot: Slot, line: str) -> None:
        """Tell the other processes, now and later, about a canary that must not serve."""
        with self._lock:
            self._aborts.append(line)
            for other in self._slots:
                if other is not slot and other.control is not None:
                    send_line(other.control, line)

    def _look_until_stopped(self) -> None:
        """Kill hanging processes until the server stops; `_keep` starts others."""
        looked_at = time.monotonic()
        while not self._signals.stop.wait(_LOOK_SECONDS):
            now = time.monotonic()
            late_seconds = now - looked_at - _LOOK_SECONDS
            looked_at = now
            with self._lock:
                for slot in self._slots:
                    # A late look means that the supervisor was paused too, and could not listen.
                    if late_seconds > _LATE_SECONDS:
                        slot.forgive(late_seconds)
                    if slot.is_hanging:
                        _kill_hanging(slot)

    def _note_loaded(self, slot: Slot) -> None:
        """Tell the processes to report ready once all have a model."""
        with self._lock:
            if slot.is_loaded:
                return
            slot.is_loaded = True
            if not all(other.is_loaded for other in self._slots):
                return
            for other in self._slots:
                assert other.control is not None
                send_line(other.control, READY)
        fields = {"processes": len(self._slots)}
        _log.info("all processes are ready", extra={"fields": fields})

    def _clear(self, slot: Slot) -> bool:
        """Clear the slot of a process that ended; return whether it had a model."""
        with self._lock:
            has_served = slot.is_loaded
            slot.clear()
        forget_gauges(self._folder, slot.number)
        return has_served

    def _give_up_if_hopeless(self, slot: Slot, error: str | None, reason: str) -> None:
        """Stop the server with the process's error, unless another process has a model."""
        with self._lock:
            if any(other.is_loaded for other in self._slots) or self._error is not None:
                return
            if error is None and slot.n_quick_ends < MAX_FAILED_STARTS:
                return
            if error is None:
                message = (
                    f"no process can start; process {slot.number} ended with {reason}"
                )
                self._error = StartupError(message)
            else:
                self._error = self._registry_error or StartupError(error)
        self._signals.stop.set()

    def _end_all(self) -> None:
        """Stop all processes as a signal stops one, and kill those that outlive their time."""
        settings = self._settings
        seconds = settings.drain_seconds + settings.grace_seconds + STOP_MARGIN_SECONDS
        end = time.monotonic() + seconds
        self._signal_all(signal.SIGTERM)
        must_hurry = False
        for thread in self._threads:
            while thread.is_alive() and time.monotonic() < end:
                thread.join(0.1)
                if not must_hurry and (self._error or self._signals.hurry.is_set()):
                    must_hurry = True
                    self._hurry_all()
        if any(thread.is_alive() for thread in self._threads):
            _log.error("processes killed", extra={"fields": {"seconds": seconds}})
            self._signal_all(signal.SIGKILL)
        for thread in self._threads:
            thread.join()

    def _signal_all(self, number: signal.Signals) -> None:
        with self._lock:
            for slot in self._slots:
                if slot.process is not None:
                    slot.process.send_signal(number)

    def _hurry_all(self) -> None:
        """Close the streams to the processes, which ends their drain.

        A second SIGTERM would not do: a process may see both as one signal.
        """
        with self._lock:
            for slot in self._slots:
                if slot.control is not None:
                    slot.control.shutdown(socket.SHUT_WR)


def _kill_hanging(slot: Slot) -> None:
    fields = {"process": slot.number, "silence_seconds": round(slot.silence_seconds)}
    _log.error("process hangs, killed", extra={"fields": fields})
    slot.kill()


def _backoff_seconds(n_quick_ends: int) -> float:
    if n_quick_ends < 2:
        return 0.0
    seconds = _FIRST_BACKOFF_SECONDS * 2.0 ** min(n_quick_ends - 2, 16)
    return min(seconds, _MAX_BACKOFF_SECONDS)
