"""The observers of one server process."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from grpc_server.model import LoadedModel
from grpc_server.observe.channel import Channel
from grpc_server.observe.log.options import LogOptions
from grpc_server.observe.metrics import PredictionLogMetrics
from grpc_server.observe.process import ObserverProgram
from grpc_server.observe.records import ModelFacts
from grpc_server.observe.tap import Tap
from grpc_server.settings import Settings


class Observers:
    """All observers of a server, and the taps that feed them.

    Parameters
    ----------
    channels : sequence of Channel
        One for each observer.
    tells_id : bool
        Whether callers are told the identifiers of their calls.
    """

    def __init__(self, channels: Sequence[Channel], tells_id: bool) -> None:
        self.channels = tuple(channels)
        self._tells_id = tells_id

    def tap(self, kind: int) -> Tap | None:
        """Return a tap for the calls of one kind, None if nobody observes them."""
        if not self.channels:
            return None
        outlets = (channel.outlet for channel in self.channels)
        return Tap(kind, outlets, self._tells_id)

    def start(self) -> None:
        """Start the observers."""
        for channel in self.channels:
            channel.start()

    def announce(self, model: LoadedModel, *, is_canary: bool = False) -> None:
        """Tell the observers of a model, before the first call that it answers in its role."""
        if self.channels:
            facts = ModelFacts.of(model, is_canary)
            for channel in self.channels:
                channel.announce(facts)

    def close(self) -> None:
        """Bring the observers what is left, and end them, in a bounded time."""
        for channel in self.channels:
            channel.close()


def open_observers(
    settings: Settings, registry: CollectorRegistry, others: Sequence[Channel] = ()
) -> Observers:
    """Make the observers that the settings ask for, besides others.

    Raises
    ------
    SettingsError
        If the options of one cannot be used.
    """
    channels = list(others)
    options = LogOptions.from_settings(settings)
    if options is not None:
        channels.append(_make_log_channel(options, settings, registry))
    # Without the log, nobody looks a call up.
    return Observers(channels, tells_id=options is not None)


def _make_log_channel(
    options: LogOptions, settings: Settings, registry: CollectorRegistry
) -> Channel:
    metrics = PredictionLogMetrics(registry)
    program = ObserverProgram(
        "prediction log",
        "grpc_server.observe.log",
        (options.encode(), settings.log_level),
        settings.prediction_log_share,
    )
    return Channel(
        program,
        metrics.take_report,
        metrics.count_dropped,
        metrics.count_restart,
    )
