"""Makes the parts of a canary from the settings."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry

from grpc_server.canary.judge import Bounds
from grpc_server.canary.keeper import CanaryKeeper
from grpc_server.canary.metrics import CanaryMetrics
from grpc_server.canary.status import Abort
from grpc_server.model.steps import Steps
from grpc_server.model.watch import ModelWatcher
from grpc_server.settings import Settings

ROLE = "canary"


def make_keeper(
    settings: Settings,
    registry: CollectorRegistry,
    announce: Callable[[Abort], None] | None = None,
) -> CanaryKeeper | None:
    """Make the keeper of one process; None if the settings name no canary.

    Parameters
    ----------
    settings : Settings
        Settings of the server.
    registry : CollectorRegistry
        Registers the metrics.
    announce : callable or None
        Tells the other processes about an abort; None if there are none.

    Returns
    -------
    CanaryKeeper or None
        The keeper, not started.

    Raises
    ------
    SettingsError
        If the canary's folder is the model's.
    """
    if settings.canary_folder is None:
        return None
    return CanaryKeeper(
        settings.canary_share,
        Bounds(settings.canary_max_errors, settings.canary_max_shift),
        CanaryMetrics(registry, is_merged=announce is not None),
        settings.processes,
        announce or (lambda abort: None),
    )


def make_watcher(
    settings: Settings, keeper: CanaryKeeper | None, steps: Steps | None = None
) -> ModelWatcher | None:
    """Make the watcher of the canary's folder; None without a canary.

    It tries each file in another process, the first one too: a bad canary must not end the server.

    Parameters
    ----------
    settings : Settings
        Settings of the server.
    keeper : CanaryKeeper or None
        Takes the canary; None without one.
    steps : Steps or None
        Follows each swap; None if nothing does.
    """
    folder = settings.canary_folder
    if keeper is None or folder is None:
        return None
    return ModelWatcher(
        folder,
        settings.canary_uri,
        keeper.serve,
        keeper.count_load_failure,
        show_standing=keeper.show_standing,
        trust=settings.canary_trust,
        on_missing=keeper.drop,
        role=ROLE,
        steps=steps,
    )
