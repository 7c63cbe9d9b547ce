"""Train a tabular classifier and register it: `python flows/train_flow.py run --help`."""

import os
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metaflow import Config, FlowSpec, Parameter, card, catch, current, resources, step
from metaflow.cards import Markdown, VegaChart
from metaflow.exception import MetaflowException

from run_files import RunFiles

FLOW_FOLDER = Path(__file__).resolve().parent
PARAMETERS = (
    *(
        "data",
        "target",
        "test_fraction",
        "folds",
        "seed",
        "scoring",
        "early_stopping_rounds",
    ),
    *("experiment", "model_name"),
)


class UserError(MetaflowException):
    """A mistake that the user can mend: Metaflow prints its message without a traceback."""

    headline = "The run stops here"


def parse_toml(text: str) -> dict[str, Any]:
    """Read what a configuration file holds."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"a file of --config is no TOML: {error}") from None


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what training foresees into what Metaflow prints as one line."""
    from training.errors import TrainingError

    try:
        yield
    except TrainingError as error:
        raise UserError(str(error)) from None


def sort_out(searches: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the results of the searches that worked, and why the others did not, by family."""
    results = {
        name: task.result for name, task in searches.items() if task.failure is None
    }
    failures = {
        name: getattr(task.failure, "exception", None) or str(task.failure)
        for name, task in searches.items()
        if task.failure is not None
    }
    return results, failures


def find_code_version_here(context: Any) -> str:
    """Return the git commit of this folder, empty if there is no git."""
    from training.provenance import find_code_version

    return find_code_version(FLOW_FOLDER)


def count_branches_here() -> int:
    """Return how many branches share this machine: in a cluster each has a pod of its own."""
    return 1 if "METAFLOW_KUBERNETES_WORKLOAD" in os.environ else 2


class TrainFlow(FlowSpec):
    """
    Train a tabular classifier and register it in MLflow.

    1. start: load the table, lock the hold-out away, check grids and scoring.
    2. search_logistic_regression and search_lightgbm, side by side: cross-validate every candidate.
    3. select_best: fit the better family's best candidate, score it once on the hold-out.
    4. register: log it, register it, and make it champion if it beats the champion.
    5. end: say what came out.
    """

    search = Config(
        "search",
        default=str(FLOW_FOLDER / "search.toml"),
        parser=parse_toml,
        help="TOML file with the grid of each family",
    )
    cluster = Config(
        "cluster",
        default=str(FLOW_FOLDER / "cluster.toml"),
        parser=parse_toml,
        help="TOML file with what each step asks of a cluster; without one it does nothing",
    )
    data = Parameter(
        "data",
        default="breast_cancer",
        help="breast_cancer, or the path of a .csv, .csv.gz, .parquet or .svmlight file",
    )
    target = Parameter("target", default="target", help="name of the label column")
    test_fraction = Parameter(
        "test_fraction",
        default=0.2,
        type=float,
        help="share of the rows in the hold-out, (0, 1)",
    )
    folds = Parameter(
        "folds", default=5, type=int, help="folds of the cross-validation, 2 or more"
    )
    seed = Parameter(
        "seed", default=0, type=int, help="seed of the hold-out, folds and classifiers"
    )
    scoring = Parameter(
        "scoring",
        default="roc_auc",
        help="scikit-learn scorer that picks the best; roc_auc is one-vs-rest for many classes",
    )
    early_stopping_rounds = Parameter(
        "early_stopping_rounds",
        default=0,
        type=int,
        help="stop LightGBM after so many rounds without a better loss on a slice of the training "
        "fold; 0 never stops",
    )
    code_version = Parameter(
        "code_version",
        # Found where the run is launched: a pod has the code, but not its history.
        default=find_code_version_here,
        help="version of the code that the model is marked with; by default the git commit",
    )
    experiment = Parameter(
        "experiment", default="tabular_classifier", help="MLflow experiment of the run"
    )
    model_name = Parameter(
        "model_name", default="tabular_classifier", help="registered model of the run"
    )

    @resources(cpu=cluster.start.cpu, memory=cluster.start.memory)
    @step
    def start(self) -> None:
        """Load the table, lock the hold-out away, check all that a search would stumble over."""
        from training.preparation import Request, Store, prepare
        from training.tracking_store import prepare_store

        run_id = f"{current.flow_name}/{current.run_id}"
        parameters = {name: getattr(self, name) for name in PARAMETERS}
        with one_line_errors(), tempfile.TemporaryDirectory() as scratch:
            request = Request(run_id, parameters, self.search, self.code_version)
            self.plan = prepare(request, Store(Path(scratch), RunFiles(self).put))
            print(self.plan.summary)
            print(
                f"MLflow: {prepare_store(self.experiment, self.model_name)}, "
                f"experiment {self.experiment}"
            )
        self.next(self.search_logistic_regression, self.search_lightgbm)

    @catch(var="failure", print_exception=False)
    @resources(
        cpu=cluster.search_logistic_regression.cpu,
        memory=cluster.search_logistic_regression.memory,
    )
    @step
    def search_logistic_regression(self) -> None:
        """Cross-validate the candidates of logistic regression."""
        from training.model_selection import search_logistic_regression

        self.result = self._search(search_logistic_regression, "logistic_regression")
        self.next(self.select_best)

    @catch(var="failure", print_exception=False)
    @resources(cpu=cluster.search_lightgbm.cpu, memory=cluster.search_lightgbm.memory)
    @step
    def search_lightgbm(self) -> None:
        """Cross-validate the candidates of LightGBM."""
        from training.model_selection import search_lightgbm

        self.result = self._search(search_lightgbm, "lightgbm")
        self.next(self.select_best)

    @card(type="blank")
    @resources(cpu=cluster.select_best.cpu, memory=cluster.select_best.memory)
    @step
    def select_best(self, inputs: Any) -> None:
        """Fit the better family's best candidate and score it, once, on the hold-out."""
        from training.candidate import make_candidate

        self.merge_artifacts(inputs, include=["plan"])
        results, failures = sort_out(
            {
                "logistic_regression": inputs.search_logistic_regression,
                "lightgbm": inputs.search_lightgbm,
            }
        )
        with one_line_errors():
            train, holdout = self._open(self.plan.train), self._open(self.plan.holdout)
            self.candidate = make_candidate(
                self.plan, results, failures, train=train, holdout=holdout
            )
        self._show(holdout)
        self.next(self.register)

    @resources(cpu=cluster.register.cpu, memory=cluster.register.memory)
    @step
    def register(self) -> None:
        """Log the winner in MLflow, register it, and decide which version is champion."""
        from training.tracking import register

        with one_line_errors():
            holdout = self._open(self.plan.holdout)
            self.registration = register(
                self.candidate,
                holdout,
                experiment=self.experiment,
                model_name=self.model_name,
            )
        self.next(self.end)

    @resources(cpu=cluster.end.cpu, memory=cluster.end.memory)
    @step
    def end(self) -> None:
        """Say what came out."""
        outcome = self.registration
        print(
            f"{self.model_name} version {outcome.version} is {outcome.alias}: {outcome.reason}"
        )
        print(
            "Serve the champion: "
            f"python -m grpc_server --model-uri models:/{self.model_name}@champion"
        )

    def _search(self, search: Callable[..., Any], family: str) -> Any:
        from training.model_selection import share_of_cores

        with one_line_errors():
            return search(
                self._open(self.plan.train),
                self.plan.schema,
                self.plan.grids[family],
                self.plan.settings,
                n_jobs=share_of_cores(count_branches_here()),
            )

    def _open(self, ref: Any) -> Any:
        from training.matrix import open_rows

        return open_rows(ref, RunFiles(self).get)

    def _show(self, holdout: Any) -> None:
        from training.report import draw, summarize

        summary = summarize(self.candidate)
        print(summary)
        current.card.append(
            Markdown(f"# {current.flow_name} {current.run_id}\n\n{summary}")
        )
        for spec in draw(self.candidate, holdout):
            current.card.append(VegaChart(spec))


def name_user() -> None:
    """Name a user where nobody is named: Metaflow needs one, and takes root for none."""
    known = {
        os.environ.get(name)
        for name in ("METAFLOW_USER", "SUDO_USER", "USERNAME", "USER")
    }
    if not known - {None, "", "root"}:
        # Read late; METAFLOW_USER is read when Metaflow is imported.
        os.environ["USERNAME"] = "trainer"


def find_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield what led to an error, the first cause last."""
    cause = error.__context__
    while cause is not None:
        yield cause
        cause = None if cause.__suppress_context__ else cause.__context__


def main() -> None:
    """Run the flow's command line.

    Metaflow prints the last of its errors. Where a pod ran out of memory, that is that the pod left
    no metadata; what it was comes before.
    """
    name_user()
    try:
        TrainFlow()
    except SystemExit as end:
        causes = [e for e in find_causes(end) if isinstance(e, MetaflowException)]
        for cause in causes[1:]:
            print(f"    Before that: {cause}", file=sys.stderr)
        raise


if __name__ == "__main__":
    main()
