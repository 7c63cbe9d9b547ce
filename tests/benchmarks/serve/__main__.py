"""`make bench-serve`: measures what is asked for, and writes all that is kept as a page."""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.serve.batches import measure_batches
from benchmarks.serve.lanes import measure_lanes
from benchmarks.serve.logged import measure_logged
from benchmarks.serve.models import Model, make_models
from benchmarks.serve.oip import measure_open_inference
from benchmarks.serve.overload import TIMES, measure_overload
from benchmarks.serve.peers import PEERS, PeerAbsent, measure_peer
from benchmarks.serve.report import describe_machine, write_report
from benchmarks.serve.soak import measure_soak

from support import ROOT

KEPT = ROOT / "build" / "bench-serve"
_OF_PEERS = ("Logistic Regression", "LightGBM 100")


class Bench:
    """The parts of the benchmark, each of which returns what JSON can hold."""

    def __init__(self, h2load: str, work: Path, soak_seconds: int) -> None:
        self._h2load = h2load
        self._work = work
        self._soak_seconds = soak_seconds
        self._models: dict[str, Model] = {}

    @property
    def parts(self) -> Mapping[str, Callable[[], list[Any]]]:
        """The parts by name, in their order."""
        return {
            "lanes": lambda: list(self._measure_lanes()),
            "peers": lambda: list(self._measure_peers()),
            "batches": lambda: [
                asdict(one) for one in measure_batches(self._h2load, self._work)
            ],
            "overload": lambda: list(self._measure_overload()),
            "log": lambda: list(self._measure_logged()),
            "oip": lambda: list(self._measure_open_inference()),
            "soak": lambda: [
                asdict(
                    measure_soak(
                        self._h2load,
                        self._model("LightGBM 100"),
                        self._work,
                        self._soak_seconds,
                    )
                )
            ],
        }

    def _model(self, name: str) -> Model:
        self._models = self._models or make_models(self._work)
        return self._models[name]

    def _measure_lanes(self) -> Iterator[dict[str, Any]]:
        self._model("LightGBM 100")
        for name, model in self._models.items():
            print(f"lanes: {name}", flush=True)
            result = measure_lanes(self._h2load, model, self._work)
            yield {"model": name, **asdict(result)}

    def _measure_peers(self) -> Iterator[dict[str, Any]]:
        for family in _OF_PEERS:
            for name in PEERS:
                print(f"peers: {name}, {family}", flush=True)
                model = self._model(family)
                try:
                    result = measure_peer(self._h2load, name, family, model, self._work)
                except PeerAbsent as error:
                    print(f"{name}: skipped: {error}", file=sys.stderr)
                    yield {"model": family, "peer": name, "absent": str(error)}
                else:
                    yield {"model": family, "peer": name, **asdict(result)}

    def _measure_logged(self) -> Iterator[dict[str, Any]]:
        for name in _OF_PEERS:
            result = asdict(measure_logged(self._h2load, self._model(name), self._work))
            print(f"log: {name}: {json.dumps(result)}", flush=True)
            yield {"model": name, **result}

    def _measure_open_inference(self) -> Iterator[dict[str, Any]]:
        for name in _OF_PEERS:
            print(f"oip: {name}", flush=True)
            model = self._model(name)
            result = measure_open_inference(self._h2load, name, model, self._work)
            yield {"model": name, **asdict(result)}

    def _measure_overload(self) -> Iterator[dict[str, Any]]:
        for times in TIMES:
            print(f"overload: {times} times", flush=True)
            model = self._model("LightGBM 500")
            result = measure_overload(self._h2load, model, self._work, times)
            yield {"times": times, **asdict(result)}


def main() -> None:
    """Run the parts that are named, all of them by default."""
    names = ("lanes", "peers", "batches", "overload", "log", "oip", "soak")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(names))
    parser.add_argument("--soak-seconds", type=int, default=600)
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.parts) - set(names))
    h2load = shutil.which("h2load")
    if unknown or h2load is None:
        parser.error(
            f"{unknown[0]} is not a part; there are {', '.join(names)}"
            if unknown
            else "h2load is not here: apt-get install nghttp2-client"
        )
    KEPT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        bench = Bench(h2load, Path(folder), arguments.soak_seconds)
        for name in arguments.parts or names:
            kept = {"machine": describe_machine(), "results": bench.parts[name]()}
            (KEPT / f"{name}.json").write_text(json.dumps(kept))
    found = {path.stem: json.loads(path.read_text()) for path in KEPT.glob("*.json")}
    write_report(found, ROOT / "docs")


if __name__ == "__main__":
    main()
