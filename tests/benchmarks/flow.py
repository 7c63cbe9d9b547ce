"""Times the flow on the embedded data set: as a command, and its steps without the imports."""

import contextlib
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
from benchmarks.tables import print_table

from prediction.artifact import FILE_NAME
from training.data.rows import Rows, open_rows
from training.models.families import FAMILIES
from training.models.family_search import FamilySearch
from training.models.search_values import SearchResult
from training.parameters import FlowParameters
from training.plan import FileStore, Plan, TrainingRequest, make_plan
from training.registry.store import prepare_store
from training.registry.tracking import register
from training.trained_model import train_model

from support import ROOT

PARAMETERS = FlowParameters()


class Stopwatch:
    """Keeps the wall time of calls by name, in seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def time(
        self, name: str, function: Callable[..., Any], *arguments: Any, **options: Any
    ) -> Any:
        """Call a function and keep how long it took."""
        begin = time.perf_counter()
        result = function(*arguments, **options)
        self.seconds[name] = time.perf_counter() - begin
        return result


def report(work: Path) -> dict[str, Path]:
    """Print the times of the flow; return a folder with a model for each family."""
    watch = Stopwatch()
    watch.time("as a command, with its imports", run_command, work)
    # MLflow makes its store in the working folder.
    with contextlib.chdir(work):
        model_dirs = watch.time("all steps, nothing to import", run_steps, work, watch)
    rows = [(name, f"{seconds:.2f}") for name, seconds in watch.seconds.items()]
    print_table(f"The flow on {PARAMETERS.data}", ("part", "seconds"), rows)
    return dict(model_dirs)


def run_command(work: Path) -> None:
    """Run the flow as its user does."""
    command = [sys.executable, str(ROOT / "flows" / "train_flow.py"), "run"]
    subprocess.run(command, cwd=work, check=True, capture_output=True)


def run_steps(work: Path, watch: Stopwatch) -> dict[str, Path]:
    """Run the work of all steps in one process, with the searches side by side."""
    mlflow.set_tracking_uri(f"sqlite:///{work}/mlflow.db")
    grids = tomllib.loads((ROOT / "flows" / "search.toml").read_text())
    request = TrainingRequest("TrainFlow/0", PARAMETERS, grids, "")
    plan = watch.time(
        "start", make_plan, request, FileStore(work, str, lambda url, folder: folder)
    )
    prepare_store("bench", "bench")
    train, holdout = (open_rows(ref, Path) for ref in (plan.train, plan.holdout))
    results = watch.time("both searches", search_both, plan, train, watch)
    rows = {"train": train, "holdout": holdout}
    trained = watch.time("select_best", train_model, plan, results, {}, **rows)
    names = {"experiment": "bench", "model_name": "bench"}
    watch.time("register", register, trained, holdout, **names)
    return write_models(work, plan, results, rows)


def search_both(plan: Plan, train: Rows, watch: Stopwatch) -> dict[str, SearchResult]:
    """Run both searches at once."""

    def search(family: str) -> SearchResult:
        search = FamilySearch(
            FAMILIES[family], plan.schema, plan.grids[family], plan.settings
        )
        result: SearchResult = watch.time(
            f"search_{family}", search.run, train, report=lambda line: None
        )
        return result

    with ThreadPoolExecutor() as pool:
        return dict(zip(FAMILIES, pool.map(search, FAMILIES), strict=True))


def write_models(
    work: Path,
    plan: Plan,
    results: Mapping[str, SearchResult],
    rows: Mapping[str, Rows],
) -> dict[str, Path]:
    """Write the best model of each family, winner or not."""
    folders = {}
    for family, result in results.items():
        trained = train_model(
            plan, {family: result}, {}, train=rows["train"], holdout=rows["holdout"]
        )
        folders[family] = work / family
        folders[family].mkdir()
        (folders[family] / FILE_NAME).write_bytes(trained.artifact)
    return folders
