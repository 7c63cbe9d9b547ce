"""All settings of one server: the groups, put together."""

from dataclasses import dataclass

from grpc_server.settings.call_logs import CallLogSettings
from grpc_server.settings.capacity import CapacitySettings
from grpc_server.settings.lifetime import LifetimeSettings
from grpc_server.settings.limits import LimitSettings
from grpc_server.settings.listening import ListeningSettings
from grpc_server.settings.second_models import CanarySettings, ShadowSettings
from grpc_server.settings.security import SecuritySettings
from grpc_server.settings.services import ServiceSettings
from grpc_server.settings.telemetry import TelemetrySettings


# A dataclass takes the fields of its last base first, so the groups are in the reverse order of
# --help. ModelSettings, which begin it, are the base of both models beside the champion.
@dataclass(frozen=True)
class Settings(
    TelemetrySettings,
    CallLogSettings,
    LifetimeSettings,
    LimitSettings,
    ServiceSettings,
    CapacitySettings,
    SecuritySettings,
    ListeningSettings,
    ShadowSettings,
    CanarySettings,
):
    """Settings of one server; the metadata of each field has its help text."""
