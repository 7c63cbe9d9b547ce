"""What health checks are told: alive as long as the process answers, ready while a model does.

It answers `grpc.health.v1.Health` itself. The servicer of grpcio-health-checking sends to a watcher
while it holds a lock that the serving thread waits for when another watcher leaves, which stops the
whole server. Here no lock is held while anything is sent or waited for.
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
        # Held while the set of watches changes or is copied, and never longer.
        self._lock = threading.Lock()
        self._reason: str | None = None
        self.is_over = False
        self.set_not_ready("no model is loaded yet")

    def set_ready(self) -> None:
        """Tell that calls will be answered."""
        self._reason = None
        self._set_readiness(_SERVING)

    def set_not_ready(self, reason: str) -> None:
        """Tell that calls should go elsewhere, and why."""
        self._reason = reason
        self._set_readiness(_NOT_SERVING)

    def end_watches(self) -> None:
        """End the watches that are open, and those that come: the server stops."""
        self.is_over = True
        self._tell_all()

    def why_not_ready(self) -> str | None:
        """Return the reason, or None if the server is ready."""
        return self._reason

    def status_of(self, name: str) -> int | None:
        """Return the status of a service, None for one that is not known."""
        return self._status_by_name.get(name)

    def list_all(self) -> dict[str, int]:
        """Return the status of each service that is known."""
        return dict(self._status_by_name)

    def add(self, watch: "Watch") -> None:
        """Tell `watch` of news from now on."""
        with self._lock:
            self._watches.add(watch)

    def remove(self, watch: "Watch") -> None:
        """Tell `watch` no more."""
        with self._lock:
            self._watches.discard(watch)

    def _set_readiness(self, status: int) -> None:
        # One assignment, so that whoever lists all never sees a half of it.
        names = dict.fromkeys(READINESS_NAMES, status)
        self._status_by_name = {**self._status_by_name, **names}
        self._tell_all()

    def _tell_all(self) -> None:
        with self._lock:
            watches = list(self._watches)
        for watch in watches:
            watch.tell()


class Watch:
    """One caller's view of one service; what it reads is always the newest."""

    def __init__(self, health: Health, name: str) -> None:
        self._health = health
        self._name = name
        self.tell: Callable[[], None] = lambda: None

    def open(self, tell: Callable[[], None]) -> None:
        """Let `tell` be called, by any thread, whenever there may be news."""
        self.tell = tell
        self._health.add(self)

    def read(self) -> pb.HealthCheckResponse | None:
        """Return the response as of now, None once the server stops."""
        if self._health.is_over:
            return None
        status = self._health.status_of(self._name)
        return pb.HealthCheckResponse(
            status=_SERVICE_UNKNOWN if status is None else status
        )

    def close(self) -> None:
        """Call `tell` no more."""
        self._health.remove(self)


class HealthServicer:
    """Answers the standard health service from what `health` knows."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def Check(
        self, request: pb.HealthCheckRequest, context: grpc.ServicerContext
    ) -> pb.HealthCheckResponse:
        """Return the status of one service."""
        status = self._health.status_of(request.service)
        if status is None:
            known = ", ".join(map(repr, self._health.list_all()))
            asked = request.service[:100]
            raise UnknownService(
                f"service {asked!r} is not known; known are {known}", service=asked
            )
        return pb.HealthCheckResponse(status=status)

    def List(
        self, request: "pb.HealthListRequest", context: grpc.ServicerContext
    ) -> "pb.HealthListResponse":
        """Return the status of each service; from grpcio-health-checking 1.85 on."""
        statuses = self._health.list_all().items()
        return pb.HealthListResponse(
            statuses={
                name: pb.HealthCheckResponse(status=status) for name, status in statuses
            }
        )

    def Watch(
        self, request: pb.HealthCheckRequest, context: grpc.ServicerContext
    ) -> Watch:
        """Return what tells of one service, now and whenever its status changes."""
        return Watch(self._health, request.service)
