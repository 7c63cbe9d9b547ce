"""Merges the metrics of several processes into those of one server, for the supervisor's /metrics.

Each process writes its values into its own files, which outlive it: no call is lost from the
counts. Its successor continues with the same files.
"""

import logging
import os
import resource
from collections.abc import Callable, Iterable
from pathlib import Path

from prometheus_client import ProcessCollector
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from grpc_server import processing_seconds

# Metrics of the supervisor alone; all others are sums.
_NOT_SUMMED = ("process_start_time_seconds", "process_max_fds")

_log = logging.getLogger(__name__)


def forget_gauges(folder: Path, number: int) -> None:
    """Remove the gauges of process `number`; its counters stay."""
    try:
        mark_process_dead(number, str(folder))  # type: ignore[no-untyped-call]
    except OSError as error:
        # The successor continues with the same file.
        fields = {"folder": str(folder), "reason": error.strerror}
        _log.warning("metrics not removed", extra={"fields": fields})


class MergedMetrics(Collector):
    """Sums the values that the processes have written into a folder.

    Parameters
    ----------
    folder : Path
        The folder.
    list_pids : callable
        Returns the IDs of the running processes.
    count_ready : callable
        Returns how many of them are ready.
    count_incomplete : callable
        Returns how many of them have no disk space for some of their values.
    """

    def __init__(
        self,
        folder: Path,
        list_pids: Callable[[], list[int]],
        count_ready: Callable[[], int],
        count_incomplete: Callable[[], int],
    ) -> None:
        self._folder = folder
        self._list_pids = list_pids
        self._count_ready = count_ready
        self._count_incomplete = count_incomplete
        self._cpu_seconds = 0.0

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of one server."""
        yield GaugeMetricFamily(
            "prediction_processes_ready",
            "Processes that answer calls.",
            value=self._count_ready(),
        )
        yield GaugeMetricFamily(
            "prediction_processes_metrics_incomplete",
            "Processes with values that are not shown, because the disk is full.",
            value=self._count_incomplete(),
        )
        yield from self._collect_processes()
        paths = [str(path) for path in self._folder.glob("*.db") if _is_begun(path)]
        for metric in MultiProcessCollector.merge(paths):  # type: ignore[no-untyped-call]
            if metric.name.endswith("_info"):
                # 0 stands for a model that no longer answers.
                metric.samples = [sample for sample in metric.samples if sample.value]
            yield metric
            if metric.name == processing_seconds.SOURCE:
                yield processing_seconds.derive(metric)

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
                # A process that is just ending is missing from both terms.
                self._cpu_seconds = max(self._cpu_seconds, total)
                sample = sample._replace(value=self._cpu_seconds)
            metric.samples = [sample]
            yield metric


def _measure(pid: int | str) -> Iterable[Metric]:
    """Return the metrics of one process; none if the process does not exist."""
    return ProcessCollector(pid=lambda: pid, registry=None).collect()


def _is_begun(path: Path) -> bool:
    """Return whether a file has content; a process may be creating or removing it."""
    try:
        return os.stat(path).st_size > 0
    except FileNotFoundError:
        return False
