"""The kubelet's gRPC probes, replayed: its questions, their times and its conclusions.

After Kubernetes' own code: pkg/probe/grpc/grpc.go asks, pkg/kubelet/prober/worker.go counts.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub


@dataclass(frozen=True, slots=True)
class Probe:
    """One probe of a container, as a manifest writes it."""

    service: str
    period_seconds: float
    timeout_seconds: float
    failure_threshold: int

    @classmethod
    def parse(cls, manifest: Mapping[str, Any]) -> "Probe":
        """Read a manifest's probe, with Kubernetes' own defaults."""
        return cls(
            manifest["grpc"].get("service", ""),
            manifest.get("periodSeconds", 10),
            manifest.get("timeoutSeconds", 1),
            manifest.get("failureThreshold", 3),
        )

    def succeeds(self, address: str) -> bool:
        """Ask once: a new connection, and one timeout for it and for the answer."""
        end = time.monotonic() + self.timeout_seconds
        options = [
            ("grpc.primary_user_agent", "kube-probe/1.33"),
            ("grpc.enable_http_proxy", 0),
            # Otherwise channels of this process to the same address would share a connection.
            ("grpc.use_local_subchannel_pool", 1),
        ]
        with grpc.insecure_channel(address, options) as channel:
            try:
                grpc.channel_ready_future(channel).result(self.timeout_seconds)
                rest = max(0.001, end - time.monotonic())
                request = HealthCheckRequest(service=self.service)
                answer = HealthStub(channel).Check(request, timeout=rest)
            except (grpc.FutureTimeoutError, grpc.RpcError):
                return False
        return bool(answer.status == HealthCheckResponse.SERVING)


class Worker:
    """Repeats one probe. Its conclusion changes after enough equal answers in a row."""

    def __init__(self, probe: Probe, address: str, speedup: float) -> None:
        self._probe = probe
        self._address = address
        self._period_seconds = probe.period_seconds / speedup
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.succeeded = False
        self.failed = False
        self.n_probes = 0

    def start(self) -> None:
        """Start probing."""
        self._thread.start()

    def stop(self) -> None:
        """Stop probing."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        n_failures = 0
        while not self._stop.is_set():
            if self._probe.succeeds(self._address):
                n_failures, self.succeeded, self.failed = 0, True, False
            else:
                n_failures += 1
                if n_failures >= self._probe.failure_threshold:
                    self.succeeded, self.failed = False, True
            self.n_probes += 1
            self._stop.wait(self._period_seconds)


class Kubelet:
    """The kubelet for one container: probes its start, then its liveness and readiness.

    Parameters
    ----------
    container : mapping
        The container of a manifest; its three probes are of the kind grpc.
    address : str
        HOST:PORT of the container.
    speedup : float
        How much more often it asks than the manifest says. Thresholds and timeouts stay.
    """

    def __init__(
        self, container: Mapping[str, Any], address: str, speedup: float
    ) -> None:
        self._startup, self._liveness, self._readiness = (
            Worker(Probe.parse(container[kind]), address, speedup)
            for kind in ("startupProbe", "livenessProbe", "readinessProbe")
        )

    @property
    def would_restart(self) -> bool:
        """Whether the kubelet would end the container now."""
        return self._startup.failed or self._liveness.failed

    @property
    def is_ready(self) -> bool:
        """Whether Services would send calls."""
        return self._readiness.succeeded

    @property
    def n_probes(self) -> int:
        """How many times liveness was asked for."""
        return self._liveness.n_probes

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Probe during a block, after waiting for the container's start."""
        try:
            self._startup.start()
            while not (self._startup.succeeded or self._startup.failed):
                time.sleep(0.01)
            # The start-up probe ends for good once it has succeeded.
            self._startup.stop()
            self._liveness.start()
            self._readiness.start()
            yield
        finally:
            for worker in (self._startup, self._liveness, self._readiness):
                worker.stop()
