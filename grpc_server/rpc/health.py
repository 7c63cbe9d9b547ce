"""Health checks: alive as long as the process answers, ready while it has a model.

This module implements `grpc.health.v1.Health` itself. The servicer of grpcio-health-checking sends
to a watcher while it holds a lock. When another watcher leaves, the serving thread waits for that
lock, and the whole server stands still. Here no lock is held while anything is sent or awaited.
"""

import threading
from collections.abc import Callable

import grpc
from grpc_health.v1 import health_pb2 as pb

from grpc_server.errors import UnknownService
from prediction.v1 import prediction_service_pb2

SERVICE_NAME = prediction_service_pb2.DESCRIPTOR.services_by_name[
    "PredictionService"
].full_name
HEALTH_NAME = pb.DESCRIPTOR.services_by_name["Health"].full_name
LIVENESS_NAMES = ("", "liveness")
READINESS_NAMES = (SERVICE_NAME, "readiness")

_SERVING = pb.HealthCheckResponse.SERVING
_NOT_SERVING = pb.HealthCheckResponse.NOT_SERVING
_SERVICE_UNKNOWN = pb.HealthCheckResponse.SERVICE_UNKNOWN


class Health:
    """The one place that knows whether this server is ready, for gRPC and for HTTP."""

    def __init__(self) -> None:
        self._status_by_name = dict.fromkeys(LIVENESS_NAMES, _SERVING)
        self._watches: set[Watch] = set()
        # Held only while the set of watches changes or is copied.
        self._lock = threading.Lock()
        self._reason: str | None = None
        self.is_over = False
        self.set_not_ready("no model is loaded yet")

    def set_ready(self) -> None:
        """Report ready."""
        self._reason = None
        self._set_readiness(_SERVING)

    def set_not_ready(self, reason: str) -> None:
        """Report not ready, with the reason."""
        self._reason = reason
        self._set_readiness(_NOT_SERVING)

    def end_watches(self) -> None:
        """End all open and future watches: the server stops."""
        self.is_over = True
        self._notify_all()

    def why_not_ready(self) -> str | None:
        """Return the reason, None if the server is ready."""
        return self._reason

    def status_of(self, name: str) -> int | None:
        """Return the status of a service, None if the service is unknown."""
        return self._status_by_name.get(name)

    def list_all(self) -> dict[str, int]:
        """Return status by service name."""
        return dict(self._status_by_name)

    def add(self, watch: "Watch") -> None:
        """Notify `watch` of changes from now on."""
        with self._lock:
            self._watches.add(watch)

    def remove(self, watch: "Watch") -> None:
        """Stop notifying `watch`."""
        with self._lock:
            self._watches.discard(watch)

    def _set_readiness(self, status: int) -> None:
        # One assignment, so that `list_all` never sees half of the change.
        names = dict.fromkeys(READINESS_NAMES, status)
        self._status_by_name = {**self._status_by_name, **names}
        self._notify_all()

    def _notify_all(self) -> None:
        with self._lock:
            watches = list(self._watches)
        for watch in watches:
            watch.notify()


class Watch:
    """One caller's subscription to the status of one service."""

    def __init__(self, health: Health, name: str) -> None:
        self._health = health
        self._name = name
        self.notify: Callable[[], None] = lambda: None

    def open(self, notify: Callable[[], None]) -> None:
        """Call `notify`, from any thread, whenever there may be news."""
        self.notify = notify
        self._health.add(self)

    def read(self) -> pb.HealthCheckResponse | None:
        """Return the current status, None once the server stops."""
        if self._health.is_over:
            return None
        status = self._health.status_of(self._name)
        return pb.HealthCheckResponse(
            status=_SERVICE_UNKNOWN if status is None else status
        )

    def close(self) -> None:
        """Stop calling `notify`."""
        self._health.remove(self)


class HealthServicer:
    """Implements the standard health service with the status in `health`.

    Parameters
    ----------
    health : Health
        State of the health checks.
    why_not_alive : callable
        Returns the reason why the process does not answer calls, None if it does. A server whose
        own thread answers the check needs none.
    """

    def __init__(
        self, health: Health, why_not_alive: Callable[[], str | None] = lambda: None
    ) -> None:
        self._health = health
        self._why_not_alive = why_not_alive

    def Check(
        self, request: pb.HealthCheckRequest, context: grpc.ServicerContext
    ) -> pb.HealthCheckResponse:
        """Return the status of one service."""
        status = self._health.status_of(request.service)
        if status is None:
            known = ", ".join(map(repr, self._health.list_all()))
            asked = request.service[:100]
            raise UnknownService(
                f"service {asked!r} is unknown; known are {known}", service=asked
            )
        if request.service in LIVENESS_NAMES and self._why_not_alive() is not None:
            status = _NOT_SERVING
        return pb.HealthCheckResponse(status=status)

    def List(
        self, request: "pb.HealthListRequest", context: grpc.ServicerContext
    ) -> "pb.HealthListResponse":
        """Return the status of each service; exists from grpcio-health-checking 1.85 on."""
        statuses = self._health.list_all().items()
        return pb.HealthListResponse(
            statuses={
                name: pb.HealthCheckResponse(status=status) for name, status in statuses
            }
        )

    def Watch(
        self, request: pb.HealthCheckRequest, context: grpc.ServicerContext
    ) -> Watch:
        """Return a subscription to the status of one service."""
        return Watch(self._health, request.service)
