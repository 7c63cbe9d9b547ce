"""`make monitoring-svg`: draws panels of the dashboards for docs/monitoring.md.

The day is simulated: calls are counted by the server's own metrics, a minute at a time. The
panels' queries are then answered by a real Prometheus that has the day in its store.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge

from grpc_server.metrics import Method, MethodMetrics, Metrics
from grpc_server.model import LoadedModel, load_model

from monitoring.boards import list_boards
from monitoring.prometheus import list_groups
from monitoring.values import Panel, Query, Recording
from prometheus_support import Prometheus, running_prometheus
from support import ROOT, lightgbm_artifact, write_version

PLOT = ROOT / "docs" / "monitoring.svg"
SHOWN = (
    "Calls",
    "Share of errors",
    "Predict",
    "Versions that answer",
    "Servers with another version",
    "Drift of features",
)
PODS = ("pod-a", "pod-b", "pod-c")
N_MINUTES, STEP_MINUTES = 24 * 60, 20
START = datetime(2026, 11, 27, tzinfo=UTC).timestamp()
# Hours of the day at which something happens.
ROLL_OUT, OVERLOAD, OVERLOAD_END, NEW_CALLER = 10.0, 13.0, 13.5, 15.0
BINS = ("20.0", "30.0", "40.0", "50.0", "+Inf")
FEATURES = ("age", "income", "region_code")


class Pod:
    """One simulated server: the project's own metrics, and those of drift.

    Parameters
    ----------
    models : tuple of LoadedModel
        The model of the morning, and the one that is rolled out.
    delay_hours : float
        How long after the first server it takes the new model, 0 or more.
    seed : int
        Of its random numbers.
    """

    def __init__(
        self, models: tuple[LoadedModel, LoadedModel], delay_hours: float, seed: int
    ) -> None:
        self.registry = CollectorRegistry()
        self._metrics = Metrics(self.registry)
        service = "prediction.v1.PredictionService"
        self._methods = {
            name: MethodMetrics(self._metrics, Method(service, name))
            for name in ("Predict", "BatchPredict")
        }
        labels = ("feature", "bin", "model_version")
        self._bins = Counter(
            "prediction_feature_bin", "As the server.", labels, registry=self.registry
        )
        self._shares = Gauge(
            "prediction_feature_reference_ratio",
            "As the server.",
            labels,
            registry=self.registry,
        )
        self._models, self._delay_hours = models, delay_hours
        self._random = np.random.default_rng(seed)
        self._metrics.show_model(models[0])

    def live(self, hour: float) -> None:
        """Count the calls of one minute."""
        is_late = hour >= ROLL_OUT + self._delay_hours
        self._metrics.show_model(self._models[is_late])
        is_refused = ROLL_OUT <= hour < ROLL_OUT + self._delay_hours
        self._metrics._wanted._refused.set(is_refused)
        load = 60 + 50 * np.sin((hour - 8) / 24 * 2 * np.pi)
        is_busy = OVERLOAD <= hour < OVERLOAD_END
        for name, share in (("Predict", 1.0), ("BatchPredict", 0.2)):
            for _ in range(self._random.poisson(share * load * (3 if is_busy else 1))):
                self._call(name, is_busy)
        self._see_rows(hour, int(load), self._models[is_late].source.version)

    def _call(self, name: str, is_busy: bool) -> None:
        method = self._methods[name]
        method.count_started()
        is_refused = is_busy and self._random.random() < 0.05
        scale = (0.002 if name == "BatchPredict" else 0.0003) * (4 if is_busy else 1)
        seconds = scale * float(self._random.lognormal(0, 0.5))
        method.record("RESOURCE_EXHAUSTED" if is_refused else "OK", seconds, 0.0)

    def _see_rows(self, hour: float, n_rows: int, version: str) -> None:
        for feature in FEATURES:
            shares = np.full(len(BINS), 1 / len(BINS))
            for name, share in zip(BINS, shares, strict=True):
                self._shares.labels(feature, name, version).set(share)
            if feature == "income" and hour >= NEW_CALLER:
                shares = np.array([0.6, 0.2, 0.1, 0.06, 0.04])
            counts = self._random.multinomial(n_rows, shares)
            for name, count in zip(BINS, counts, strict=True):
                self._bins.labels(feature, name, version).inc(int(count))


def simulate(folder: Path) -> str:
    """Return the day as text in OpenMetrics, a series after the other."""
    artifact = lightgbm_artifact(2)[0]
    first, second = (
        load_model(write_version(folder, artifact, version)) for version in ("3", "4")
    )
    pods = {
        name: Pod((first, second), delay, seed)
        for seed, (name, delay) in enumerate(zip(PODS, (0.0, 0.05, 1.5), strict=True))
    }
    lines: dict[str, list[str]] = {}
    for minute in range(N_MINUTES):
        for name, pod in pods.items():
            pod.live(minute / 60)
            for series, value in read_samples(pod.registry, name):
                at = f"{START + 60 * minute:.0f}"
                lines.setdefault(series, []).append(f"{series} {value} {at}")
    return "\n".join(line for some in lines.values() for line in some) + "\n# EOF\n"


def read_samples(registry: CollectorRegistry, pod: str) -> Iterator[tuple[str, float]]:
    """Yield name with labels, and value, of the samples as Prometheus would keep them."""
    for metric in registry.collect():
        for sample in metric.samples:
            if sample.name.endswith("_created"):
                continue
            labels = sample.labels | {"namespace": "shop", "instance": f"{pod}:8080"}
            text = ",".join(f'{key}="{value}"' for key, value in labels.items())
            yield f"{sample.name}{{{text}}}", sample.value


def expand(expression: str, recordings: Mapping[str, Recording]) -> str:
    """Put the expressions of recording rules in the place of their names."""
    name = re.search(r"prediction:[\w:]+(\{[^{}]*\})?", expression)
    while name:
        rule = recordings[name.group().partition("{")[0]]
        expression = expression.replace(name.group(), f"({rule.expression})")
        name = re.search(r"prediction:[\w:]+(\{[^{}]*\})?", expression)
    return expression


def ask(prometheus: Prometheus, query: Query) -> dict[str, list[tuple[float, float]]]:
    """Return the lines of a query over the day by legend: hours and values."""
    recordings = {
        rule.name: rule
        for group in list_groups()
        for rule in group.rules
        if isinstance(rule, Recording)
    }
    expression = expand(query.expression, recordings)
    for name in ("$namespace", "$model"):
        expression = expression.replace(name, ".*")
    answer = prometheus.ask(
        "query_range",
        query=expression.replace("$__rate_interval", f"{STEP_MINUTES}m"),
        start=str(START + 60 * STEP_MINUTES),
        end=str(START + 60 * (N_MINUTES - 1)),
        step=f"{STEP_MINUTES}m",
    )
    return {
        name_line(query.legend, line["metric"]): [
            ((float(at) - START) / 3600, float(value)) for at, value in line["values"]
        ]
        for line in answer["result"]
    }


def name_line(legend: str, labels: Mapping[str, str]) -> str:
    """Return the name of a line, with its labels in the places of the braces."""
    return re.sub(r"{{(\w+)}}", lambda match: labels[match[1]], legend)


def draw(panels: list[Panel], prometheus: Prometheus) -> None:
    """Draw the panels side by side into the picture of the page."""
    import matplotlib

    matplotlib.use("svg")
    # Text as text, and the same file for the same figures.
    matplotlib.rcParams["svg.fonttype"] = "none"
    matplotlib.rcParams["svg.hashsalt"] = "monitoring"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(3, 2, figsize=(10, 9), layout="constrained")
    for axis, panel in zip(axes.flat, panels, strict=True):
        draw_panel(axis, panel, prometheus)
    figure.savefig(PLOT, metadata={"Date": None})
    # A hundredth of a point is enough; matplotlib's digits double the size of the file.
    PLOT.write_text(re.sub(r"(\.\d\d)\d+", r"\1", PLOT.read_text()))


def draw_panel(axis: Any, panel: Panel, prometheus: Prometheus) -> None:
    """Draw one panel, with its unit on the axis."""
    units = {"reqps": "calls/s", "percentunit": "share", "s": "ms", "short": ""}
    scale = 1000 if panel.unit == "s" else 1
    for query in panel.queries:
        for legend, points in ask(prometheus, query).items():
            hours, values = zip(*points, strict=True)
            axis.plot(hours, [scale * value for value in values], label=legend, lw=1.2)
    axis.set_title(panel.title, fontsize=10, loc="left")
    axis.set_ylabel(units[panel.unit])
    axis.set_xlim(0, 24)
    axis.set_xticks(range(0, 25, 6), [f"{hour:02}:00" for hour in range(0, 25, 6)])
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, frameon=False)


def main() -> int:
    """Simulate the day, replay it and draw it; return the exit code."""
    panels = {p.title: p for b in list_boards() for row in b.rows for p in row.panels}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "day.txt").write_text(simulate(folder))
        load = ["promtool", "tsdb", "create-blocks-from", "openmetrics"]
        load += [str(folder / "day.txt"), str(folder / "data")]
        subprocess.run(load, check=True, stdout=subprocess.DEVNULL)
        (folder / "empty.yaml").write_text("{}")
        flags = ("--storage.tsdb.retention.time=100y",)
        with running_prometheus(folder, folder / "empty.yaml", *flags) as prometheus:
            draw([panels[title] for title in SHOWN], prometheus)
    return 0


if __name__ == "__main__":
    sys.exit(main())
