"""Train a tabular classifier and register it: `python flows/train_flow.py run --help`."""

import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from metaflow import (
    Config,
    FlowSpec,
    Parameter,
    card,
    catch,
    current,
    project,
    resources,
    step,
)
from metaflow.cards import Markdown
from metaflow.exception import MetaflowException

from argo_launch import report_death
from beside import store_prepared_beside
from branches import PROJECT, find_reason, name_model
from command_line import (
    escape_unshowable,
    find_causes,
    name_user,
    print_as_it_is,
    refuse_local_table,
)
from launching import LaunchesItself
from progress_card import ProgressCard
from remote_tables import fetch_table
from row_latency import measure_latency
from run_files import RunFiles
from training.data.embedded import EMBEDDED
from training.parameters import DEFAULTS, FlowParameters
from user_errors import UserError, one_line_errors, parse_toml

FLOW_FOLDER = Path(__file__).resolve().parent


def explain(failure: Any) -> str:
    """Return the reason of a caught failure."""
    return str(getattr(failure, "exception", None) or failure)


def sort_searches(
    searches: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, str]]:
    """Divide searches into results and failures.

    Parameters
    ----------
    searches : mapping of str to task
        The last task of each search, by family.

    Returns
    -------
    results, failures : dict, dict of str to str
        Results of the searches that ended well, and why the others failed, by family.
    """
    results = {
        name: task.result for name, task in searches.items() if task.failure is None
    }
    failures = {
        name: explain(task.failure)
        for name, task in searches.items()
        if task.failure is not None
    }
    return results, failures


@contextmanager
def spared_model() -> Iterator[None]:
    """Say what keeps the report from being shown, and go on: the model is worth more."""
    from training.text import escape, first_line

    try:
        yield
    except Exception as error:  # whatever it is
        reason = f"{type(error).__name__}: {first_line(error)}"
        print(f"WARNING: the report is not complete: {escape(reason[:500])}")


def show_page(page: str) -> None:
    """Show a page in the card of the step."""
    from training.report.page import make_frame

    current.card.append(Markdown(make_frame(page)))


def find_code_version_here(context: Any) -> str:
    """Return the git commit of this folder; empty if there is no git."""
    from training.artifact.provenance import find_code_version

    return find_code_version(FLOW_FOLDER)


def count_tasks_here(n_shards: int) -> int:
    """Return how many searches share this machine. In a cluster, each has its own pod."""
    return 1 if "METAFLOW_KUBERNETES_WORKLOAD" in os.environ else 2 * n_shards


def tell_what_died(run: Any) -> None:
    """Report a run on Argo that has failed; Metaflow runs it in a pod of its own."""
    for line in report_death(run, os.environ):
        print(line)


@LaunchesItself()
@project(name=PROJECT)
class TrainFlow(FlowSpec):
    """
    Train a tabular classifier and register it in MLflow.

    1. start: load the table, lock the hold-out away, check grids and scoring.
    2. plan_*, side by side for both families: divide the search into shards.
    3. search_*, one task for each shard: cross-validate the candidates.
    4. merge_*: merge the shards of a family.
    5. select_best: fit the best candidate of the better family, score it once on the hold-out, and
       fit it again on all rows.
    6. register: log it, register it, and make it champion if --promotion allows it.
    7. end: report the outcome.
    """

    search = Config(
        "search",
        default=str(FLOW_FOLDER / "search.toml"),
        parser=parse_toml,
        help="TOML file with the grid of each family",
    )
    columns = Config(
        "schema",
        default=str(FLOW_FOLDER / "schema.toml"),
        parser=parse_toml,
        help="TOML file with the kinds of columns; other columns are inferred from their cells",
    )
    cluster = Config(
        "cluster",
        default=str(FLOW_FOLDER / "cluster.toml"),
        parser=parse_toml,
        help="TOML file with the cores and the memory of each step; for a cluster only",
    )
    launch = Config(
        "launch",
        default=str(FLOW_FOLDER / "launch.toml"),
        parser=parse_toml,
        help="TOML file with the schedule and the event that start a flow which Argo has",
    )
    data = Parameter(
        "data",
        default=DEFAULTS.data,
        help=f"{EMBEDDED}, or the path or s3:// URL of a .csv, .tsv, .txt, .parquet or .svmlight "
        "file, or of a folder of .parquet files",
    )
    target = Parameter(
        "target", default=DEFAULTS.target, help="name of the label column"
    )
    positive = Parameter(
        "positive",
        default=DEFAULTS.positive,
        help="label of the class that matters, if there are two: precision, recall, F1, average "
        "precision, thresholds and costs are about it; by default the label that sorts last",
    )
    weight = Parameter(
        "weight",
        default=DEFAULTS.weight,
        help="name of a column that says how much a row counts in fits, 0 or more; scores count "
        "each row once",
    )
    group = Parameter(
        "group",
        default=DEFAULTS.group,
        help="name of a column; rows with the same value are never on both sides of a split",
    )
    time = Parameter(
        "time",
        default=DEFAULTS.time,
        help="name of a column of numbers or times; every split learns from earlier rows than it "
        "is scored on, and the hold-out has the last rows",
    )
    strict = Parameter(
        "strict",
        default=DEFAULTS.strict,
        type=bool,
        is_flag=True,
        help="stop if a label is missing; by default its row is left out",
    )
    test_fraction = Parameter(
        "test_fraction",
        default=DEFAULTS.test_fraction,
        type=float,
        help="share of the rows in the hold-out, (0, 1)",
    )
    folds = Parameter(
        "folds",
        default=DEFAULTS.folds,
        type=int,
        help="folds of the cross-validation, 2 or more",
    )
    seed = Parameter(
        "seed",
        default=DEFAULTS.seed,
        type=int,
        help="seed of the hold-out, the folds and the classifiers",
    )
    scoring = Parameter(
        "scoring",
        default=DEFAULTS.scoring,
        help="scikit-learn scorer that selects the best candidate; roc_auc compares each class "
        "with the rest if there are more than two; neg_log_loss judges the probabilities",
    )
    early_stopping_rounds = Parameter(
        "early_stopping_rounds",
        default=DEFAULTS.early_stopping_rounds,
        type=int,
        help="stop LightGBM after this many rounds without a better loss on a slice of the "
        "training fold; 0 never stops it",
    )
    max_minutes = Parameter(
        "max_minutes",
        default=DEFAULTS.max_minutes,
        type=float,
        help="minutes after which a search stops; the run goes on with the candidates that have a "
        "score on every fold; 0 is no limit",
    )
    shards = Parameter(
        "shards",
        default=DEFAULTS.shards,
        type=int,
        help="tasks of each search, for a cluster; their number does not change the result",
    )
    calibration = Parameter(
        "calibration",
        default=DEFAULTS.calibration,
        help="none, sigmoid or isotonic: map from the winner's raw scores to probabilities, fitted "
        "on the folds",
    )
    threshold = Parameter(
        "threshold",
        default=DEFAULTS.threshold,
        help="the positive of two classes is predicted above it: a number between 0 and 1, or "
        "chosen on the folds by f1, youden, or cost:FN:FP, the costs of a false negative and of a "
        "false positive",
    )
    ensemble = Parameter(
        "ensemble",
        default=DEFAULTS.ensemble,
        type=int,
        help="average the probabilities of up to this many candidates of both families, chosen on "
        "the folds, 2 to 50; 0 registers the best one alone",
    )
    final_fit = Parameter(
        "final_fit",
        default=DEFAULTS.final_fit,
        help="rows that the registered model learns from: all, or train for all but the hold-out; "
        "the metrics are those of a model that has not seen the hold-out",
    )
    promotion = Parameter(
        "promotion",
        default=DEFAULTS.promotion,
        help="what a new version has to show to become champion, on rows that neither has learned "
        "from: better, the 95 % interval of the score's difference is above 0; not_worse, it is "
        "above minus --promotion_tolerance; or never",
    )
    promotion_tolerance = Parameter(
        "promotion_tolerance",
        default=DEFAULTS.promotion_tolerance,
        type=float,
        help="a difference that does not matter, in units of the score and of the log loss, 0 or "
        "more",
    )
    max_artifact_mib = Parameter(
        "max_artifact_mib",
        default=DEFAULTS.max_artifact_mib,
        type=float,
        help="largest artifact of a new champion in MiB; 0 is no limit",
    )
    max_latency_us = Parameter(
        "max_latency_us",
        default=DEFAULTS.max_latency_us,
        type=float,
        help="longest time of a new champion for one row in microseconds, the median of calls of "
        "the server's code on the machine that trains; 0 is no limit",
    )
    segment = Parameter(
        "segment",
        default=DEFAULTS.segment,
        help="name of a categorical or boolean column; a version that is worse on the rows of one "
        "of its values does not become champion",
    )
    code_version = Parameter(
        "code_version",
        # It is found where the run is launched, because a pod has the code without its history.
        default=find_code_version_here,
        help="version of the code, which the model keeps; by default the git commit",
    )
    experiment = Parameter(
        "experiment", default=DEFAULTS.experiment, help="MLflow experiment of the run"
    )
    model_name = Parameter(
        "model_name",
        default=DEFAULTS.model_name,
        help="registered model of the run; a run with --branch registers under another name",
    )
    reason = Parameter(
        "reason",
        default=DEFAULTS.reason,
        help="why the model is trained; the version keeps it",
    )

    @resources(cpu=cluster.start.cpu, memory=cluster.start.memory)
    @step
    def start(self) -> None:
        """Load the table, lock the hold-out away, check everything that would stop a search."""
        run_id = f"{current.flow_name}/{current.run_id}"
        values = {
            field.name: getattr(self, field.name) for field in fields(FlowParameters)
        }
        parameters = FlowParameters(
            **values | {"reason": find_reason(self.reason)},
        )
        with (
            one_line_errors(),
            store_prepared_beside(self.experiment, self._name_model()) as find_store,
            tempfile.TemporaryDirectory() as scratch,
        ):
            from training.artifact.signing import find_signer
            from training.plan import FileStore, TrainingRequest, make_plan

            find_signer(os.environ)  # an error of the key would cost the whole search
            request = TrainingRequest(
                run_id, parameters, self.search, self.code_version, self.columns
            )
            store = FileStore(Path(scratch), RunFiles(self).put, fetch_table)
            self.plan = make_plan(request, store)
            print(self.plan.summary)
            print(find_store())
        self.next(self.plan_logistic_regression, self.plan_lightgbm)

    @resources(cpu=cluster.plan.cpu, memory=cluster.plan.memory)
    @step
    def plan_logistic_regression(self) -> None:
        """Divide the search of logistic regression into shards."""
        self.numbers = list(range(self.shards))
        self.next(self.search_logistic_regression, foreach="numbers")

    @catch(var="failure", print_exception=False)
    @card(type="blank", id="progress", refresh_interval=2)
    @resources(
        cpu=cluster.search_logistic_regression.cpu,
        memory=cluster.search_logistic_regression.memory,
    )
    @step
    def search_logistic_regression(self) -> None:
        """Cross-validate the candidates of logistic regression."""
        self._search("logistic_regression", self.input)
        self.next(self.merge_logistic_regression)

    @catch(var="failure", print_exception=False)
    @resources(cpu=cluster.merge.cpu, memory=cluster.merge.memory)
    @step
    def merge_logistic_regression(self, inputs: Any) -> None:
        """Merge the shards of logistic regression."""
        self._merge("logistic_regression", inputs)
        self.next(self.select_best)

    @resources(cpu=cluster.plan.cpu, memory=cluster.plan.memory)
    @step
    def plan_lightgbm(self) -> None:
        """Divide the search of LightGBM into shards."""
        self.numbers = list(range(self.shards))
        self.next(self.search_lightgbm, foreach="numbers")

    @catch(var="failure", print_exception=False)
    @card(type="blank", id="progress", refresh_interval=2)
    @resources(
        cpu=cluster.search_lightgbm.cpu,
        memory=cluster.search_lightgbm.memory,
    )
    @step
    def search_lightgbm(self) -> None:
        """Cross-validate the candidates of LightGBM."""
        self._search("lightgbm", self.input)
        self.next(self.merge_lightgbm)

    @catch(var="failure", print_exception=False)
    @resources(cpu=cluster.merge.cpu, memory=cluster.merge.memory)
    @step
    def merge_lightgbm(self, inputs: Any) -> None:
        """Merge the shards of LightGBM."""
        self._merge("lightgbm", inputs)
        self.next(self.select_best)

    @card(type="blank")
    @resources(cpu=cluster.select_best.cpu, memory=cluster.select_best.memory)
    @step
    def select_best(self, inputs: Any) -> None:
        """Fit the best candidate of the better family, score it once, and fit it on all rows."""
        from training.data.disk import Scratch
        from training.trained_model import train_model

        self.merge_artifacts(inputs, include=["plan"])
        results, failures = sort_searches(
            {
                "logistic_regression": inputs.merge_logistic_regression,
                "lightgbm": inputs.merge_lightgbm,
            }
        )
        with one_line_errors(), tempfile.TemporaryDirectory() as scratch:
            train, holdout = self._open(self.plan.train), self._open(self.plan.holdout)
            trained = train_model(
                self.plan,
                results,
                failures,
                train=train,
                holdout=holdout,
                scratch=Scratch(Path(scratch)),
            )
            self.trained = replace(trained, latency=measure_latency(trained.artifact))
        self._show(results, train, holdout)
        self.next(self.register)

    @card(type="blank")
    @resources(cpu=cluster.register.cpu, memory=cluster.register.memory)
    @step
    def register(self) -> None:
        """Log the winner in MLflow, register it, and decide which version is champion."""
        from training.artifact.signing import describe_signer, find_signer
        from training.registry.tracking import register

        with one_line_errors():
            signer = find_signer(os.environ)
            holdout = self._open(self.plan.holdout)
            self.registration = register(
                self.trained,
                holdout,
                experiment=self.experiment,
                model_name=self._name_model(),
                signer=signer,
            )
        print(describe_signer(signer))
        self._show_verdict()
        self.next(self.end)

    @resources(cpu=cluster.end.cpu, memory=cluster.end.memory)
    @step
    def end(self) -> None:
        """Report the outcome."""
        outcome = self.registration
        print(self._tell_verdict())
        served = "champion" if outcome.has_champion else outcome.alias
        uri = shlex.quote(f"models:/{self._name_model()}@{served}")
        print(f"Serve the {served}: python -m grpc_server --model-uri {uri}")

    def _name_model(self) -> str:
        """Return the registered model of this run."""
        return name_model(self.model_name, os.environ)

    def _tell_verdict(self) -> str:
        outcome = self.registration
        name = self._name_model()
        return f"{name} version {outcome.version} is {outcome.alias}: {outcome.reason}"

    def _show_verdict(self) -> None:
        """Complete the report, and show it in the card and in MLflow; the model is safe by now."""
        from training.registry.tracking import log_report
        from training.report.document import make_report
        from training.report.outcome import Outcome

        done = self.registration
        outcome = Outcome(
            self._name_model(),
            done.version,
            done.alias,
            done.reason,
            done.compared_with,
            done.figures,
        )
        with spared_model():
            page = make_report(self.trained, self.report, outcome)
            show_page(page)
            print(f"Report: {log_report(done.run_id, page)}")

    def _search(self, family: str, number: int) -> None:
        """Search a shard; one that is alone is the whole result."""
        from training.models.family_search import count_fits_at_once
        from training.models.search_values import ShardSpec

        with one_line_errors():
            search = self._make_search(family)
            card = ProgressCard(search.family.display_name, self.plan.settings.scoring)
            rows = self._open(self.plan.train)
            shard = search.run_shard(
                rows,
                ShardSpec(number, self.shards),
                n_jobs=count_fits_at_once(
                    rows.X.data.nbytes, count_tasks_here(self.shards)
                ),
                watch=card.show,
            )
            if self.shards == 1:
                self.result = search.merge([shard])
            else:
                self.shard = shard

    def _merge(self, family: str, inputs: Any) -> None:
        """Merge the shards; the result of one that is alone is passed on as it is."""
        failures = [task.failure for task in inputs if task.failure is not None]
        if failures:
            raise UserError(explain(failures[0]))
        if self.shards == 1:
            # Metaflow passes it on without loading it, which would import all of scikit-learn.
            self.merge_artifacts(inputs, include=["plan", "result"])
            return
        self.merge_artifacts(inputs, include=["plan"])
        with one_line_errors():
            self.result = self._make_search(family).merge(
                [task.shard for task in inputs]
            )

    def _make_search(self, family: str) -> Any:
        from training.models.families import FAMILIES
        from training.models.family_search import FamilySearch

        plan = self.plan
        return FamilySearch(
            FAMILIES[family], plan.schema, plan.grids[family], plan.settings
        )

    def _open(self, ref: Any) -> Any:
        from training.data.rows import open_rows

        return open_rows(ref, RunFiles(self).get)

    def _show(self, results: Any, train: Any, holdout: Any) -> None:
        """Draw the report; the register step adds what becomes of the model."""
        from training.report.document import draw_parts, make_report
        from training.report.vega import summarize

        print(summarize(self.trained))
        self.report = draw_parts(self.trained, results, train, holdout)
        with spared_model():
            show_page(make_report(self.trained, self.report, None))


def main() -> None:
    """Run the flow's command line.

    Metaflow prints only the last of its errors. If a pod ran out of memory, the last error is that
    the pod left no metadata; the errors before it name the cause, so they are printed too.
    """
    name_user(os.environ)
    escape_unshowable((sys.stdout, sys.stderr), os.environ)
    refuse_local_table(sys.argv[1:], os.environ)
    print_as_it_is(TrainFlow, UserError)
    try:
        TrainFlow()
    except SystemExit as end:
        causes = [e for e in find_causes(end) if isinstance(e, MetaflowException)]
        for cause in causes[1:]:
            print(f"    Before that: {cause}", file=sys.stderr)
        raise


if __name__ == "__main__":
    main()
