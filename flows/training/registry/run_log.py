"""Logs a flow run in MLflow: parameters, metrics, tags, files and the data's origin.

Everything has the time of the flow run, so logging it again changes nothing.
"""

import math
from dataclasses import asdict
from math import isfinite
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from training.data.embedded import EMBEDDED, LOADER
from training.data.rows import Rows
from training.registry.signature import make_inputs
from training.report.figures import draw_reliability
from training.trained_model import TrainedModel

FLOW_RUN_TAG = "metaflow_run_id"
# Tag of a run and a version: why the model was trained; absent if nobody said.
REASON_TAG = "trained_because"
RELIABILITY_FILE = "reliability.png"
MAX_BATCH = 1000  # metrics that MLflow takes at once
MAX_TAG, MAX_PARAM = 5000, 6000  # characters of a value that MLflow's servers take
MAX_DIGEST = 36  # characters of a data set's digest that MLflow takes


def log_details(
    client: MlflowClient, run_id: str, trained: TrainedModel, holdout: Rows
) -> None:
    """Log all but the model.

    Parameters
    ----------
    client : MlflowClient
        Client of the store.
    run_id : str
        MLflow's run, which has to be the active one.
    trained : TrainedModel
        Model of the flow run.
    holdout : Rows
        Rows that it has not seen.
    """
    metrics = _make_metrics(trained)
    for start in range(0, len(metrics), MAX_BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + MAX_BATCH])
    tags = [RunTag(name, value) for name, value in make_tags(trained).items()]
    client.log_batch(run_id, params=_make_params(trained), tags=tags)
    mlflow.log_text(trained.cv_table.to_csv(index=False), "cv_results.csv")
    mlflow.log_text(trained.plan.schema_file, "schema.toml")
    n_classes = len(trained.plan.schema.class_labels)
    figure = draw_reliability(trained.reliability, n_classes)
    mlflow.log_figure(figure, RELIABILITY_FILE)
    mlflow.log_input(_describe_data(trained, holdout), context="training")


def make_tags(trained: TrainedModel) -> dict[str, str]:
    """Return the tags that the run and the version share."""
    run = trained.plan.run
    failed = {
        f"failed_{family}": why[:MAX_TAG] for family, why in trained.failures.items()
    }
    return {
        FLOW_RUN_TAG: run.run_id,
        "family": trained.winner.family,
        "data_sha256": run.data_sha256,
        "git_commit": run.code_version,
        **({REASON_TAG: run.parameters.reason} if run.parameters.reason else {}),
        **failed,
    }


def _make_metrics(trained: TrainedModel) -> list[Metric]:
    """Return the model's metrics, and each candidate's mean score with its number as the step.

    MLflow shows the value of the last step, so the best score follows the last candidate's.
    """
    time_ms = int(trained.plan.run.start_time.timestamp() * 1000)
    scoring, table = trained.plan.settings.scoring, trained.cv_table
    metrics = [
        Metric(name, value, time_ms, 0) for name, value in trained.figures.items()
    ]
    for family, candidates in table.groupby("family"):
        scores = candidates["mean_test_score"].tolist()
        best = max(filter(isfinite, scores), default=math.nan)
        metrics += [
            Metric(f"cv_{family}_{scoring}", score, time_ms, step)
            for step, score in enumerate([*scores, best])
            if isfinite(score)
        ]
    return metrics


def _make_params(trained: TrainedModel) -> list[Param]:
    """Return the flow's parameters, and those of the best candidate or of all members."""
    params, winner = asdict(trained.plan.run.parameters), trained.winner
    if winner.is_ensemble:
        total = sum(winner.counts)
        params |= {
            f"member_{number}": f"{m.count}/{total} {m.family} {dict(m.params)}"
            for number, m in enumerate(winner.members, start=1)
        }
    else:
        params |= {f"best_{name}": value for name, value in winner.best_params.items()}
    return [Param(name, str(value)[:MAX_PARAM]) for name, value in params.items()]


def _describe_data(trained: TrainedModel, holdout: Rows) -> Any:
    """Return MLflow's record of the data's origin, which holds no rows."""
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.dataset_source import DatasetSource
    from mlflow.data.dataset_source_registry import resolve_dataset_source
    from mlflow.data.meta_dataset import MetaDataset

    run = trained.plan.run
    source: DatasetSource
    if run.parameters.data == EMBEDDED:
        source = CodeDatasetSource(tags={"function": LOADER})
    else:
        source = resolve_dataset_source(run.parameters.data)
    return MetaDataset(  # type: ignore[abstract]  # in its annotations only
        source,
        name=run.data_name,
        # A tag of the run has the whole digest.
        digest=run.data_sha256[:MAX_DIGEST],
        schema=make_inputs(trained.plan.schema, holdout),
    )
