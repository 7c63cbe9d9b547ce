"""The process that tries a model ends with the server that asked, and leaves memory to others."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from grpc_server.model.memory_room import find_room
from grpc_server.trial_load import TRIAL_SECONDS

from support import lightgbm_artifact, wait_for, write_artifact

MIB = 1024 * 1024


def children_of(pid: int) -> list[int]:
    """Return the processes that a thread of `pid` has started."""
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in files for child in file.read_text().split()]


def is_limited(pid: int) -> bool:
    limits = Path(f"/proc/{pid}/limits").read_text()
    return f"Max cpu time {TRIAL_SECONDS:.0f} " in " ".join(limits.split())


def is_there(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    return False


def test_a_trial_ends_with_the_process_that_asked(tmp_path: Path) -> None:
    """A hanging one would stay behind for ever: it is stopped here, and cannot end of itself."""
    artifact, _, _ = lightgbm_artifact(2)
    artifact.golden_examples.extend(list(artifact.golden_examples) * 1000)
    write_artifact(tmp_path, artifact)
    program = f"""
from pathlib import Path
from grpc_server.trial_load import try_to_load
try_to_load(Path({str(tmp_path)!r}), lambda: False)
"""
    asking = subprocess.Popen([sys.executable, "-c", program])
    try:
        wait_for(lambda: children_of(asking.pid) != [])
        [trial] = children_of(asking.pid)
        wait_for(lambda: is_limited(trial))
        os.kill(trial, signal.SIGSTOP)
        assert is_there(trial)
    finally:
        asking.kill()
        asking.wait()

    wait_for(lambda: not is_there(trial))


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """The files of a machine that has 1000 MiB left."""
    (tmp_path / "proc" / "self").mkdir(parents=True)
    available = 1000 * MIB // 1024
    (tmp_path / "proc" / "meminfo").write_text(
        f"MemTotal: 9999999 kB\nMemAvailable: {available} kB\nHugePages_Total: 0\n"
    )
    (tmp_path / "proc" / "self" / "cgroup").write_text("0::/app\n")
    return tmp_path / "proc"


def write_group(folder: Path, limit: str, used: int, cached: int) -> Path:
    """Write the files of a control group, and return the root of all groups."""
    (folder / "app").mkdir(parents=True)
    (folder / "app" / "memory.max").write_text(limit + "\n")
    (folder / "app" / "memory.current").write_text(f"{used}\n")
    (folder / "app" / "memory.stat").write_text(
        f"anon 1\ninactive_file {cached}\nactive_file 0\n"
    )
    return folder


def test_a_trial_takes_no_more_than_its_container_has_left(
    proc: Path, tmp_path: Path
) -> None:
    """Beyond the limit, the kernel ends the process that serves as well."""
    groups = write_group(tmp_path / "cgroup", str(384 * MIB), 100 * MIB, 20 * MIB)

    assert find_room(proc, groups) == 304 * MIB


@pytest.mark.parametrize("limit", ["max", str(10_000 * MIB)])
def test_a_trial_takes_no_more_than_the_machine_has_left(
    limit: str, proc: Path, tmp_path: Path
) -> None:
    groups = write_group(tmp_path / "cgroup", limit, 100 * MIB, 0)

    assert find_room(proc, groups) == 1000 * MIB


def test_a_full_container_has_no_room(proc: Path, tmp_path: Path) -> None:
    groups = write_group(tmp_path / "cgroup", str(100 * MIB), 101 * MIB, 0)

    assert find_room(proc, groups) == 0


def test_this_machine_has_room() -> None:
    assert find_room() > 0
