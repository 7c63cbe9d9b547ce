"""Ends a process that does not end itself when it is told to."""

import logging
import os
import threading
import time

from grpc_server.signals import Signals

# What a process may need to end, beyond the drain and grace times.
STOP_MARGIN_SECONDS = 10.0

_log = logging.getLogger(__name__)


def end_at_last(signals: Signals, drain_seconds: float, grace_seconds: float) -> None:
    """Watch, in a thread of its own, that the process ends in time once a signal has come.

    A model that hangs while it is loaded, or a serving thread that stands still, keeps the main
    thread from ever coming to its end.
    """

    def watch() -> None:
        signals.stop.wait()
        signals.hurry.wait(drain_seconds)
        time.sleep(grace_seconds + STOP_MARGIN_SECONDS)
        _log.critical("stop hangs, ended")
        os._exit(1)

    threading.Thread(target=watch, name="stop-limit", daemon=True).start()
