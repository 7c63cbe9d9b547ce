"""Makes the way of answered calls to the shadow."""

from prometheus_client import CollectorRegistry

from grpc_server.model import ModelSlot
from grpc_server.observe.backlog import Backlog
from grpc_server.observe.channel import Channel
from grpc_server.observe.process import ObserverProgram
from grpc_server.settings import Settings
from grpc_server.shadow.metrics import ShadowMetrics
from grpc_server.shadow.options import ShadowOptions

# 2,000 calls a second, more than any comparison needs. Where all processors are busy, even a
# process of the lowest priority takes time from the server.
MAX_RECORDS_PER_FEED = 100


def open_shadow(
    settings: Settings, registry: CollectorRegistry, slot: ModelSlot
) -> tuple[Channel, ...]:
    """Make the channel to the shadow's process, and let GetModel describe the shadow.

    Parameters
    ----------
    settings : Settings
        Settings of the server.
    registry : CollectorRegistry
        Registers the metrics.
    slot : ModelSlot
        Holds the champion.

    Returns
    -------
    tuple of Channel
        One channel, not started; none without a shadow.

    Raises
    ------
    SettingsError
        If the shadow's folder is the model's.
    """
    options = ShadowOptions.from_settings(settings)
    if options is None:
        return ()
    metrics = ShadowMetrics(registry, settings.shadow_share)
    slot.read_shadow = lambda: metrics.status
    program = ObserverProgram(
        "shadow",
        "grpc_server.shadow",
        (options.encode(), settings.log_level),
        settings.shadow_share,
    )
    channel = Channel(
        program,
        metrics.take_report,
        metrics.count_dropped,
        metrics.count_restart,
        Backlog(max_records=MAX_RECORDS_PER_FEED),
    )
    return (channel,)
