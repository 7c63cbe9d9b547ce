"""Ends a process that does not stop in time."""

import logging
import os
import threading
import time

from grpc_server.signals import Signals

# Time for a process to end, beyond the drain and grace times.
STOP_MARGIN_SECONDS = 10.0

_log = logging.getLogger(__name__)


def end_at_last(signals: Signals, drain_seconds: float, grace_seconds: float) -> None:
    """Start a thread that ends the process if it does not stop in time after a signal.

    The main thread never ends if a load hangs or the serving thread blocks.
    """

    def watch() -> None:
        signals.stop.wait()
        signals.hurry.wait(drain_seconds)
        time.sleep(grace_seconds + STOP_MARGIN_SECONDS)
        _log.critical("stop hangs, ended")
        os._exit(1)

    threading.Thread(target=watch, name="stop-limit", daemon=True).start()
