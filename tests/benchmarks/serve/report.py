"""Writes what was measured as docs/benchmarks.md, with a picture."""

import importlib.metadata
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from benchmarks.serve.lanes import IN_IMAGE, OURS, POOL
from benchmarks.serve.oip import BATCH, INFER, MLSERVER, PREDICT
from benchmarks.serve.servers import ECHOES, QUEUE
from benchmarks.tables import format_table
from matplotlib import pyplot

PAGE = "benchmarks.md"
PLOT = "serving.svg"
_PACKAGES = ("grpcio", "protobuf", "lightgbm", "scikit-learn", "numpy")
_FIELDS = ("calls_per_second", "p50_ms", "p99_ms", "cpu_us")
_HEADER = ("calls/s", "p50 ms", "p99 ms", "CPU µs/call")
_INTRODUCTION = """# How fast it serves

`make bench-serve` measures and writes this page. It needs h2load (Debian's nghttp2-client).

All figures are of one run on one machine. The servers of a table take turns, round by round.
Compare ratios, not absolute figures, because the load generator shares the cores with the server.
Calls are answered with everything on: checks of the input, metrics, health, deadlines and limits.

![Calls per second of this server, bare grpcio and other model servers](serving.svg)
"""
_LANES = """## One row a call, beside bare grpcio

An echo parses the request and returns a constant, so it shows what grpcio costs without a model.
The completion queue is grpcio's core without its server, in one loop.

The last three columns are in units of the better echo at the same load. *As in its image* sets
what grpc_server/Dockerfile sets. `--lane pool` is the slower [lane](../README.md#words).
"""
_PEERS = """## One row a call, beside other model servers

Each peer runs in an environment of its own, with scikit-learn or LightGBM as its users have it,
and with one worker. It takes turns with this server.

*Times* after a rate is this server's calls per second in units of the peer's. *Times* after the
first reply and after MiB is the peer's figure in units of this server's. One answer in twenty
milliseconds was checked: *wrong* counts answers that differed from the model's or were missing.
"""
_BATCHES = """## Batches

Rows per second of `BatchPredict` over gRPC, with one and two calls in flight. *In process*
computes the same rows in the benchmark's own process: with LightGBM's Python package on one
thread, or with one matrix product of NumPy. Transport limits wide rows: 1,000 rows of 500 numbers
are 4 MB. The forms are those of [batches](batches.md#three-forms).
"""
_OPEN_INFERENCE = """## The Open Inference Protocol

`ModelInfer` of one raw tensor with one row of doubles, and of 1,000 rows, beside the same rows in
`Predict` and `BatchPredict`, in bare grpcio and in MLServer's `ModelInfer`.
"""
_OVERLOAD = """## Overload

The model is LightGBM with 500 trees, and every call asks for an explanation. Such calls take long
enough for a load generator to send many times the capacity. It sends them at a fixed rate,
answered or not.

*Good* is in units of the capacity with 64 calls in flight. *Refused* calls got RESOURCE_EXHAUSTED
with a time to wait.
"""
_SOAK = """## Soak at full load

LightGBM 100 answered {n_calls:,} calls in {seconds} s, with 64 in flight. Beside them,
{n_checked:,} good and bad calls ran one after the other, and every answer was checked: {n_wrong}
wrong.

Memory was {early:.1f} MiB after a fifth of the time and {late:.1f} MiB at the end. The slope is
{slope:+.2f} ± {slope_error:.2f} MiB per hour (95 %).

The growth is in glibc's caches of free memory, one for each thread, and ends when they are full.
`GLIBC_TUNABLES=glibc.malloc.tcache_count=0` turns them off. Memory then stood still: 53.3 MiB
before and after 773,120 refused calls.
"""


def describe_machine() -> str:
    """Return what the figures depend on, in one line."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES]
    parts = [f"{os.cpu_count()} cores", model, f"Python {platform.python_version()}"]
    return ", ".join([*parts, *versions])


def write_report(found: Mapping[str, Any], docs: Path) -> None:
    """Write the page, and the picture if the peers are there."""
    writers = {
        "lanes": _write_lanes,
        "peers": _write_peers,
        "batches": _write_batches,
        "oip": _write_open_inference,
        "overload": _write_overload,
        "soak": _write_soak,
    }
    sections = [_INTRODUCTION]
    for name, write in writers.items():
        if name in found:
            sections.append("\n".join(write(found[name]["results"])))
            sections.append(f"Measured on {found[name]['machine']}.\n")
    (docs / PAGE).write_text("\n".join(sections))
    if "lanes" in found and "peers" in found:
        _draw(found["lanes"]["results"], found["peers"]["results"], docs / PLOT)


def _write_lanes(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield _LANES
    for result in results:
        figures = result["figures"]
        for load in ("64", "1"):
            best = max(ECHOES, key=lambda name: figures[name][load]["calls_per_second"])
            rows = [
                _row(name, figures[name][load], figures[best][load])
                for name in (OURS, IN_IMAGE, POOL, *ECHOES, QUEUE)
            ]
            yield f"**{result['model']}**, {load} in flight:\n"
            yield format_table(("server", *_HEADER, "rate of echo", "p50", "p99"), rows)
        yield f"\nResident memory of this server under load: {result['resident_mib']:.0f} MiB.\n"


def _row(name: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    cells = [f"{one[field]:.2f}" for field in _FIELDS[1:]]
    ratios = [f"{one[field] / other[field]:.2f}" for field in _FIELDS[:3]]
    return [name, f"{one['calls_per_second']:.0f}", *cells, *ratios]


def _write_peers(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield _PEERS
    header = ["peer", "speaks", *_HEADER, "times", "times at 1", "first reply s"]
    header += ["times", "MiB", "times", "wrong"]
    for family in dict.fromkeys(result["model"] for result in results):
        of_family = [result for result in results if result["model"] == family]
        rows = [_peer_row(one) for one in of_family if "absent" not in one]
        yield f"**{family}**, 64 in flight:\n"
        yield format_table(header, rows) + "\n"
        for one in of_family:
            if "absent" in one:
                yield f"{one['peer']} was not to be had.\n"


def _peer_row(result: Mapping[str, Any]) -> list[str]:
    peer, figures = result["peer"], result["figures"]
    one, ours = figures[peer]["64"], figures[OURS]["64"]
    alone = (
        figures[OURS]["1"]["calls_per_second"] / figures[peer]["1"]["calls_per_second"]
    )
    seconds, memory = result["first_reply_seconds"], result["resident_mib"]
    wrong = sum(figures[peer][load]["n_wrong"] for load in ("64", "1"))
    return [
        f"{peer} {result['version']}",
        result["protocol"],
        f"{one['calls_per_second']:.0f}",
        *(f"{one[field]:.2f}" for field in _FIELDS[1:]),
        f"{ours['calls_per_second'] / one['calls_per_second']:.1f}",
        f"{alone:.1f}",
        f"{seconds[peer]:.2f}",
        f"{seconds[peer] / seconds[OURS]:.0f}",
        f"{memory[peer]:.0f}",
        f"{memory[peer] / memory[OURS]:.1f}",
        str(wrong),
    ]


def _write_batches(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield _BATCHES
    header = ["model", "features", "rows a call", "in process", "form"]
    header += ["served, 1", "ratio", "served, 2", "ratio"]
    rows = []
    for one in results:
        in_process = one["in_process"]
        for form, served in one["served"].items():
            cells = [f"{one['n_rows']:,}", f"{in_process:,.0f}", form]
            for load in ("1", "2"):
                cells += [f"{served[load]:,.0f}", f"{served[load] / in_process:.2f}"]
            rows.append([one["family"], one["n_features"], *cells])
    yield format_table(header, rows) + "\n"


def _write_open_inference(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield _OPEN_INFERENCE
    for result in results:
        figures = result["figures"]
        names = [
            name for name in (PREDICT, INFER, *ECHOES, MLSERVER) if name in figures
        ]
        for load in ("64", "1"):
            own = figures[INFER][load]["calls_per_second"]
            rows = [
                [
                    name,
                    *(f"{figures[name][load][field]:.2f}" for field in _FIELDS),
                    f"{own / figures[name][load]['calls_per_second']:.2f}",
                    figures[name][load]["n_wrong"],
                ]
                for name in names
            ]
            yield f"**{result['model']}**, one row, {load} in flight:\n"
            header = ("call", *_HEADER, "ModelInfer's rate in its units", "wrong")
            yield format_table(header, rows)
        rates = result["batch_rows_per_second"]
        yield (
            f"\nBatches of 1,000 rows: {rates[INFER]:,.0f} rows/s by ModelInfer, "
            f"{rates[BATCH]:,.0f} by BatchPredict: {rates[INFER] / rates[BATCH]:.2f} times.\n"
        )
        if result["absent"]:
            yield f"MLServer is not here: {result['absent'][:200]}\n"


def _write_overload(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield _OVERLOAD
    header = ["sent, times the capacity", "capacity/s", "sent/s", "good", "refused/s"]
    header += ["refusal p99 ms", "health p99 ms", "health failed", "a call before ms"]
    header += ["the first after ms", "MiB before", "MiB at most"]
    rows = [
        [
            one["times"],
            f"{one['capacity']:.0f}",
            f"{one['offered']:.0f}",
            f"{one['good'] / one['capacity']:.2f}",
            f"{one['refused']:.0f}",
            f"{one['refused_ms']:.0f}",
            f"{one['health_ms']:.0f}",
            one["n_unhealthy"],
            f"{one['normal_ms']:.1f}",
            f"{one['first_ms']:.1f}",
            f"{one['resident_mib']:.0f}",
            f"{one['peak_mib']:.0f}",
        ]
        for one in results
    ]
    yield format_table(header, rows) + "\n"


def _write_soak(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for one in results:
        memory = one["resident_mib"]
        early, late = memory[len(memory) // 5], memory[-1]
        yield _SOAK.format(**one, seconds=len(memory), early=early, late=late)


def _draw(
    lanes: Sequence[Mapping[str, Any]], peers: Sequence[Mapping[str, Any]], path: Path
) -> None:
    """Plot the calls per second of all, a bar each, for both models that peers serve."""
    matplotlib.use("svg")
    # The same picture for the same figures: no random names, no date.
    matplotlib.rcParams["svg.hashsalt"] = "serving"
    families = list(dict.fromkeys(result["model"] for result in peers))
    figure, axes = pyplot.subplots(1, len(families), figsize=(10, 4), sharey=True)
    for family, axis in zip(families, axes, strict=True):
        rates = {}
        for result in lanes:
            if result["model"] == family:
                named = result["figures"].items()
                rates = {name: by["64"]["calls_per_second"] for name, by in named}
        for result in peers:
            if result["model"] == family and "absent" not in result:
                by_load = result["figures"][result["peer"]]
                rates[result["peer"]] = by_load["64"]["calls_per_second"]
        names = sorted(rates, key=rates.__getitem__)
        colors = ["C1" if name == OURS else "C0" for name in names]
        axis.barh(names, [rates[name] for name in names], color=colors)
        axis.set(title=family, xlabel="calls/s, 64 in flight", xscale="log")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
