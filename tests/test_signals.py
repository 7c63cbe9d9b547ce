"""Signals end a program however many come, and whenever."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from server_process import running
from support import ROOT

# Waits for its signals as the server does, with the lock of `stop` taken most of the time.
CHILD = """
from grpc_server.signals import Signals
signals = Signals()
print("ready", flush=True)
while not signals.stop.is_set():
    signals.stop.wait(1e-6)
print("hurry" if signals.hurry.wait(0.2) else "stop", flush=True)
"""


def start_child() -> "subprocess.Popen[str]":
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_two_signals_within_a_moment_end_the_program(second: int) -> None:
    rng = random.Random(0)
    for _ in range(15):
        child = start_child()
        child.send_signal(signal.SIGTERM)
        end = time.perf_counter() + rng.uniform(0, 2e-4)
        while time.perf_counter() < end:
            pass
        child.send_signal(second)

        output, _ = child.communicate(timeout=30)

        assert child.returncode == 0
        assert output in ("hurry\n", "stop\n")  # two of one kind may be seen as one


def test_a_burst_of_signals_ends_the_program() -> None:
    child = start_child()
    for _ in range(500):
        child.send_signal(signal.SIGTERM)
        child.send_signal(signal.SIGINT)

    assert child.communicate(timeout=30)[0] == "hurry\n"


def test_one_signal_asks_to_stop_and_not_to_hurry() -> None:
    child = start_child()
    child.send_signal(signal.SIGTERM)

    assert child.communicate(timeout=30)[0] == "stop\n"


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_two_signals_end_a_real_server(model_dir: Path, second: int) -> None:
    rng = random.Random(1)
    for _ in range(30):
        arguments = ("--model-dir", str(model_dir), "--drain-seconds", "0")
        with running(*arguments) as process:
            process.wait_for("serving")
            process.signal(signal.SIGTERM)
            time.sleep(rng.uniform(0, 2e-4))
            process.signal(second)

            assert process.wait() == 0
