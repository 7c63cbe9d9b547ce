"""Score tables with one registered version: `python flows/score_flow.py run --help`."""

import os
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

from metaflow import (
    Config,
    FlowSpec,
    Parameter,
    card,
    current,
    resources,
    retry,
    step,
)
from metaflow.cards import Markdown, VegaChart

from command_line import (
    escape_unshowable,
    name_user,
    print_as_it_is,
    refuse_local_table,
)
from score_report import describe, log_run, plot_scores
from score_shards import (
    ScoringError,
    add_up,
    list_shards,
    pin_model,
    put_manifest,
    score_shard,
)
from user_errors import UserError, one_line_errors, parse_toml

FLOW_FOLDER = Path(__file__).resolve().parent


class ScoreFlow(FlowSpec):
    """
    Score the rows of files with one version of a registered model.

    1. start: resolve the alias once, divide the rows into shards.
    2. score, one task for each shard: the server's own answers, in parts that a retry completes.
    3. join: check that each row was scored once, show and log what the answers were.
    4. end: tell where the scores are.
    """

    cluster = Config(
        "cluster",
        default=str(FLOW_FOLDER / "score_cluster.toml"),
        parser=parse_toml,
        help="TOML file with the cores and the memory of each step; for a cluster only",
    )
    model = Parameter(
        "model",
        default="models:/tabular_classifier@champion",
        help="models:/NAME@ALIAS, models:/NAME/VERSION, or a folder with a model",
    )
    data = Parameter(
        "data",
        required=True,
        help="file or folder of Parquet or CSV, or the s3:// URL of either",
    )
    output = Parameter(
        "output", required=True, help="folder of the scores, or an s3:// URL"
    )
    flags = Parameter(
        "flags",
        default="",
        help='flags of python -m grpc_server.score, such as "--keep id --on-bad-row skip"',
    )
    shard_rows = Parameter(
        "shard_rows",
        default=5_000_000,
        type=int,
        help="rows of a task, about; only Parquet files outside of S3 are divided",
    )
    experiment = Parameter(
        "experiment", default="scoring", help="MLflow experiment of the run"
    )

    @resources(cpu=cluster.start.cpu, memory=cluster.start.memory)
    @step
    def start(self) -> None:
        """Resolve the alias once, and divide the rows into shards."""
        with one_line_errors(ScoringError), tempfile.TemporaryDirectory() as scratch:
            if self.shard_rows < 1:
                raise ScoringError(f"--shard_rows {self.shard_rows} must be 1 or more")
            self.pinned = pin_model(self.model, Path(scratch))
            self.shards = list_shards(self.data, self.shard_rows)
        # A path of the run's folder is the same for all tasks.
        is_path = "://" not in self.output
        self.target = str(Path(self.output).resolve()) if is_path else self.output
        print(f"Version {self.pinned.version}, {len(self.shards)} shards")
        self.next(self.score, foreach="shards")

    @retry(times=2, minutes_between_retries=0)
    @resources(cpu=cluster.score.cpu, memory=cluster.score.memory)
    @step
    def score(self) -> None:
        """Score a shard; a retry goes on where the try before stopped."""
        with one_line_errors(ScoringError), tempfile.TemporaryDirectory() as scratch:
            flags = shlex.split(self.flags)
            self.shard = self.input
            self.manifest = score_shard(
                self.shard, self.pinned, self.target, flags, Path(scratch)
            )
        self.next(self.join)

    @card(type="blank")
    @resources(cpu=cluster.join.cpu, memory=cluster.join.memory)
    @step
    def join(self, inputs: Any) -> None:
        """Check that each row was scored once, and show what the answers were."""
        self.merge_artifacts(inputs, include=["pinned", "target"])
        tasks = sorted(inputs, key=lambda task: task.shard.number)
        with one_line_errors(ScoringError), tempfile.TemporaryDirectory() as scratch:
            shards = [task.shard for task in tasks]
            manifests = [task.manifest for task in tasks]
            self.manifest = add_up(shards, manifests, self.pinned, Path(scratch))
            put_manifest(self.manifest, self.target)
            current.card.append(Markdown(describe(self.manifest)))
            if "scores" in self.manifest:
                current.card.append(VegaChart(plot_scores(self.manifest["scores"])))
            name = f"{current.flow_name}/{current.run_id}"
            self.run_id = log_run(
                self.manifest, self.data, self.target, self.experiment, name
            )
        self.next(self.end)

    @resources(cpu=cluster.end.cpu, memory=cluster.end.memory)
    @step
    def end(self) -> None:
        """Tell where the scores are."""
        counts = self.manifest
        print(
            f"{counts['rows_written']:,} of {counts['rows']:,} rows are in {self.target}; "
            f"{counts['bad_rows']:,} could not be scored"
        )


def main() -> None:
    """Run the flow's command line."""
    name_user(os.environ)
    escape_unshowable((sys.stdout, sys.stderr), os.environ)
    refuse_local_table(sys.argv[1:], os.environ)
    print_as_it_is(ScoreFlow, UserError)
    ScoreFlow()


if __name__ == "__main__":
    main()
