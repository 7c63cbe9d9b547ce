"""What health checks are told: alive as long as the process answers, ready while a model does."""

from grpc_health.v1 import health, health_pb2

from prediction.v1 import prediction_service_pb2

SERVICE_NAME = prediction_service_pb2.DESCRIPTOR.services_by_name[
    "PredictionService"
].full_name
LIVENESS_NAMES = ("", "liveness")
READINESS_NAMES = (SERVICE_NAME, "readiness")


class Health:
    """The one place that knows whether this server is ready, for gRPC and for HTTP.

    Attributes
    ----------
    servicer : grpc_health.v1.health.HealthServicer
        The standard servicer.
    """

    def __init__(self) -> None:
        # Non-blocking: else each open Watch holds one of the few workers for as long as it is open.
        self.servicer = health.HealthServicer(experimental_non_blocking=True)
        self._set(LIVENESS_NAMES, serving=True)
        self._reason: str | None = None
        self.set_not_ready("no model is loaded yet")

    def set_ready(self) -> None:
        """Tell that calls will be answered."""
        self._reason = None
        self._set(READINESS_NAMES, serving=True)

    def set_not_ready(self, reason: str) -> None:
        """Tell that calls should go elsewhere, and why."""
        self._reason = reason
        self._set(READINESS_NAMES, serving=False)

    def why_not_ready(self) -> str | None:
        """Return the reason, or None if the server is ready."""
        return self._reason

    def _set(self, names: tuple[str, ...], *, serving: bool) -> None:
        status = health_pb2.HealthCheckResponse
        for name in names:
            self.servicer.set(name, status.SERVING if serving else status.NOT_SERVING)
