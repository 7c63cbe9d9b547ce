"""Metrics of many processes as those of one server: what the supervisor's /metrics shows.

Each process writes its values into files of its own, which stay when it dies: what it has counted
stays counted, to the last call. The one that takes its place goes on with the same files.
"""

import logging
import os
import resource
from collections.abc import Callable, Iterable
from pathlib import Path

from prometheus_client import ProcessCollector, values
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

_log = logging.getLogger(__name__)

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
# What prometheus_client calls its files, before the number of the process.
_FILE_KINDS = ("counter", "histogram", "gauge_livemax")
# Room for some 20,000 series, of which labels of classes are the most.
_FILE_BYTES = 4 * 1024 * 1024
# The supervisor's own; the others are sums.
_NOT_SUMMED = ("process_start_time_seconds", "process_max_fds")


def write_values_as(number: int, folder: Path) -> None:
    """Keep the values of all metrics made from now on in the files of process `number`.

    Parameters
    ----------
    number : int
        Number of the process.
    folder : Path
        The one that `FOLDER_VARIABLE` names in the environment.
    """
    try:
        for kind in _FILE_KINDS:
            _reserve(folder / f"{kind}_{number}.db")
    except OSError as error:
        # Counters may be lost, calls may not.
        fields = {"reason": error.strerror, "folder": str(folder)}
        _log.error("metrics of this process are not shown", extra={"fields": fields})
        # Else prometheus_client takes files because the folder is in the environment.
        values.ValueClass = values.MutexValue
        return
    # By number, not by process id as prometheus_client does by default: else the files of all
    # processes that ever were pile up.
    values.ValueClass = values.MultiProcessValue(  # type: ignore[no-untyped-call]
        lambda: number
    )


def forget_gauges(folder: Path, number: int) -> None:
    """Remove what process `number` was; what it has counted stays."""
    mark_process_dead(number, str(folder))  # type: ignore[no-untyped-call]


def _reserve(path: Path) -> None:
    """Give a file its room on the disk.

    The values are written through memory. Where a page has no room on a disk that has become full,
    the kernel ends the process.
    """
    with open(path, "ab") as file:
        os.posix_fallocate(file.fileno(), 0, _FILE_BYTES)


class MergedMetrics(Collector):
    """Sums what the processes have written into a folder.

    Parameters
    ----------
    folder : Path
        The folder.
    list_pids : callable
        Returns the ids of the processes that run.
    count_ready : callable
        Returns how many of them are ready.
    """

    def __init__(
        self,
        folder: Path,
        list_pids: Callable[[], list[int]],
        count_ready: Callable[[], int],
    ) -> None:
        self._folder = folder
        self._list_pids = list_pids
        self._count_ready = count_ready
        self._cpu_seconds = 0.0

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of one server."""
        yield GaugeMetricFamily(
            "prediction_processes_ready",
            "Processes that answer calls.",
            value=self._count_ready(),
        )
        yield from self._collect_processes()
        paths = [str(path) for path in self._folder.glob("*.db") if _is_begun(path)]
        for metric in MultiProcessCollector.merge(paths):  # type: ignore[no-untyped-call]
            if metric.name.endswith("_info"):
                # A model that answers no more.
                metric.samples = [sample for sample in metric.samples if sample.value]
            yield metric

    def _collect_processes(self) -> Iterable[Metric]:
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        others = [metric for pid in self._list_pids() for metric in _measure(pid)]
        for metric in _measure("self"):
            (sample,) = metric.samples
            if metric.name not in _NOT_SUMMED:
                rest = [m.samples[0].value for m in others if m.name == metric.name]
                sample = sample._replace(value=sample.value + sum(rest))
            if metric.name == "process_cpu_seconds":
                total = sample.value + ended.ru_utime + ended.ru_stime
                # A process that ends just now is seen in neither place.
                self._cpu_seconds = max(self._cpu_seconds, total)
                sample = sample._replace(value=self._cpu_seconds)
            metric.samples = [sample]
            yield metric


def _measure(pid: int | str) -> Iterable[Metric]:
    """Return the metrics of one process, none if there is no such."""
    return ProcessCollector(pid=lambda: pid, registry=None).collect()


def _is_begun(path: Path) -> bool:
    """Return whether anything is in a file, which a process may just be making or have left."""
    try:
        return os.stat(path).st_size > 0
    except FileNotFoundError:
        return False
