"""Metrics of one process of many in files, on a disk that has room and on one that has none."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.multiprocess import MultiProcessCollector

from support import ROOT

# Counts some labels once each, so that the file grows again and again, and the first one as often.
COUNT_LABELS = """
import sys
from pathlib import Path
from prometheus_client import CollectorRegistry, Counter
from grpc_server.processes.metric_files import MetricFiles
files = MetricFiles(Path(sys.argv[1]), int(sys.argv[2]))
files.keep_all_values()
counter = Counter("calls", "Calls.", ("label",), registry=CollectorRegistry())
for number in range(int(sys.argv[3])):
    counter.labels(f"label-{number}").inc()
    counter.labels("label-0").inc()
print(files.why_incomplete())
"""
N_LABELS = 10_000


def count_labels(folder: Path, number: int = 0, n_labels: int = N_LABELS) -> str:
    """Return what a process prints that counts."""
    arguments = [str(folder), str(number), str(n_labels)]
    return run([sys.executable, "-c", COUNT_LABELS, *arguments])


def run(command: list[str]) -> str:
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def read_counts(folder: Path) -> dict[str, float]:
    """Return what all files of a folder hold, by label."""
    paths = [str(path) for path in folder.glob("*.db")]
    (metric,) = MultiProcessCollector.merge(paths)  # type: ignore[no-untyped-call]
    return {sample.labels["label"]: sample.value for sample in metric.samples}


def expected_counts(n_times: int = 1) -> dict[str, float]:
    counts = {f"label-{number}": 1.0 * n_times for number in range(N_LABELS)}
    return counts | {"label-0": (N_LABELS + 1.0) * n_times}


def test_processes_are_summed_and_their_successors_go_on(tmp_path: Path) -> None:
    for number in (0, 1, 0):
        assert count_labels(tmp_path, number) == "None\n"

    assert len(list(tmp_path.iterdir())) == 2
    assert read_counts(tmp_path) == expected_counts(3)


@pytest.mark.parametrize("n_labels", [1, N_LABELS])
def test_a_file_has_the_room_that_it_needs_on_the_disk(
    n_labels: int, tmp_path: Path
) -> None:
    """Little at first; nothing is left to be found when the disk has become full."""
    count_labels(tmp_path, n_labels=n_labels)

    (file,) = tmp_path.iterdir()
    n_bytes = file.stat().st_blocks * 512
    assert n_bytes >= file.stat().st_size
    assert n_bytes <= 128 * 1024 + 512 * n_labels


@contextmanager
def disk(place: Path, size: str) -> Iterator[Path]:
    """A disk of its own, which only root can make."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a disk of its own needs root: mount is not permitted")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_file_that_cannot_grow_ends_no_process(tmp_path: Path) -> None:
    """What has found room is counted on."""
    with disk(tmp_path / "disk", "256k") as place:
        assert count_labels(place) == "No space left on device\n"
        counts = read_counts(place)

    assert counts["label-0"] == N_LABELS + 1
    assert 100 < len(counts) < N_LABELS


def test_what_had_no_room_is_written_once_there_is_some(tmp_path: Path) -> None:
    """The limit on the size of files stands for a disk that is full, and then is not."""
    program = COUNT_LABELS + """
import resource, time
from grpc_server.processes.metric_files import RETRY_SECONDS
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
time.sleep(RETRY_SECONDS)
files.retry()
print(files.why_incomplete())
"""
    limited = 'ulimit -S -f 100 && exec "$0" -c "$@"'
    arguments = [sys.executable, program, str(tmp_path), "0", str(N_LABELS)]

    assert run(["bash", "-c", limited, *arguments]) == "File too large\nNone\n"

    assert read_counts(tmp_path) == expected_counts()
