"""All settings of one server: the groups, put together."""

from dataclasses import dataclass

from grpc_server.settings.calls import CapacitySettings, LimitSettings, ServiceSettings
from grpc_server.settings.models import CanarySettings, ShadowSettings
from grpc_server.settings.network import (
    LifetimeSettings,
    ListeningSettings,
    SecuritySettings,
)
from grpc_server.settings.telemetry import CallLogSettings, TelemetrySettings


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
