"""MLflow: one run per flow run, one model version per run, and which version is champion.

Everything is found again by the flow run's id, so that a step that is tried again adds nothing.
"""

import tempfile
from math import isfinite
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType
from mlflow.types import Schema as MlflowSchema
from mlflow.types import TensorSpec
from mlflow.types.schema import AnyType
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from prediction.artifact import FILE_NAME, SHA256_TAG
from training.data.encoding import to_table
from training.data.rows import Rows
from training.data.schema import Feature, Kind
from training.data.sources import EMBEDDED
from training.errors import RegistryError
from training.registry.comparison import NotComparable, score_model
from training.registry.registration import CHALLENGER, CHAMPION, Registration
from training.registry.store import (
    quiet_loggers,
    registry_errors,
    through_the_server,
)
from training.report.figures import draw_reliability
from training.trained_model import Candidate

FLOW_RUN_TAG = "metaflow_run_id"
DECISION_TAG = "decision"
PREVIOUS_CHAMPION_TAG = "previous_champion"
MODEL_NAME_IN_RUN = "model"
RELIABILITY_FILE = "reliability.png"
MAX_BATCH = 1000  # metrics that MLflow takes at once
N_EXAMPLE_ROWS = 3

# Types in our pipelines that skops does not trust by itself; reviewed: none runs code when loaded.
TRUSTED_TYPES = (
    "collections.OrderedDict",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "numpy.dtype",
    # Of calibrated models, all of scikit-learn.
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
)


def register(
    candidate: Candidate, holdout: Rows, *, experiment: str, model_name: str
) -> Registration:
    """Log a candidate, register it as a version, and decide which version is champion.

    Parameters
    ----------
    candidate : Candidate
        Winner of the flow run.
    holdout : Rows
        Rows on which it meets the champion.
    experiment : str
        Experiment of the run.
    model_name : str
        Name of the registered model; made if it is not there.

    Raises
    ------
    RegistryError
        If MLflow is not reached or refuses. A later call goes on where this one stopped.
    """
    # With MLflow's own patience: what took hours to train should outlive a restart of the server.
    quiet_loggers()
    with registry_errors(), through_the_server():
        experiment_id = mlflow.set_experiment(experiment).experiment_id
        client = MlflowClient()
        version = _find_version(client, model_name, candidate)
        if version is None:
            version = _log_and_create(
                client, candidate, holdout, experiment_id, model_name
            )
        alias, reason = _decide(client, version, candidate, holdout)
    return Registration(str(version.run_id), str(version.version), alias, reason)


def _log_and_create(
    client: MlflowClient,
    candidate: Candidate,
    holdout: Rows,
    experiment_id: str,
    model_name: str,
) -> ModelVersion:
    run_id = _find_run(client, candidate, experiment_id)
    tags = None if run_id else _tags(candidate)
    with mlflow.start_run(
        run_id=run_id, run_name=candidate.run.run_id, tags=tags
    ) as run:
        run_id = str(run.info.run_id)
        _log_details(client, run_id, candidate, holdout)
        model_id = _find_model(client, run_id) or _log_model(candidate, holdout)
    return _create_version(client, model_name, model_id, run_id, candidate)


def _find_run(
    client: MlflowClient, candidate: Candidate, experiment_id: str
) -> str | None:
    query = f"tags.{FLOW_RUN_TAG} = '{candidate.run.run_id}'"
    runs = client.search_runs([experiment_id], query, max_results=1)
    return str(runs[0].info.run_id) if runs else None


def _find_version(
    client: MlflowClient, model_name: str, candidate: Candidate
) -> ModelVersion | None:
    query = f"name = '{model_name}' and tags.{FLOW_RUN_TAG} = '{candidate.run.run_id}'"
    versions = client.search_model_versions(query)
    return (
        client.get_model_version(model_name, versions[0].version) if versions else None
    )


def _find_model(client: MlflowClient, run_id: str) -> str | None:
    """Return the id of a model that an earlier call logged to its end."""
    experiment_id = client.get_run(run_id).info.experiment_id
    models = client.search_logged_models([experiment_id], f"source_run_id = '{run_id}'")
    ready = [model for model in models if model.status == "READY"]
    return str(ready[0].model_id) if ready else None


def _log_details(
    client: MlflowClient, run_id: str, candidate: Candidate, holdout: Rows
) -> None:
    """Log all but the model; logged again it is the same, since the time is the flow run's."""
    time_ms = int(candidate.run.start_time.timestamp() * 1000)
    metrics = [
        Metric(name, value, time_ms, 0) for name, value in candidate.metrics.items()
    ]
    metrics += _candidate_metrics(candidate, time_ms)
    params = [
        Param(name, str(value)) for name, value in candidate.run.parameters.items()
    ]
    best_params = candidate.winner.best_params.items()
    params += [Param(f"best_{name}", str(value)) for name, value in best_params]
    for start in range(0, len(metrics), MAX_BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + MAX_BATCH])
    tags = [RunTag(name, value) for name, value in _tags(candidate).items()]
    client.log_batch(run_id, params=params, tags=tags)
    mlflow.log_text(candidate.cv_table.to_csv(index=False), "cv_results.csv")
    mlflow.log_text(candidate.schema_file, "schema.toml")
    figure = draw_reliability(candidate.reliability, len(candidate.schema.class_labels))
    mlflow.log_figure(figure, RELIABILITY_FILE)
    mlflow.log_input(_dataset(candidate, holdout), context="training")


def _candidate_metrics(candidate: Candidate, time_ms: int) -> list[Metric]:
    """Return every candidate's mean score, with its number among its family's as the step."""
    table = candidate.cv_table
    return [
        Metric(f"cv_{family}_{candidate.scoring}", float(score), time_ms, step)
        for family, rows in table.groupby("family")
        for step, score in enumerate(rows["mean_test_score"])
        if isfinite(score)
    ]


def _tags(candidate: Candidate) -> dict[str, str]:
    failed = {
        f"failed_{family}": reason for family, reason in candidate.failures.items()
    }
    return {
        FLOW_RUN_TAG: candidate.run.run_id,
        "family": candidate.winner.family,
        "data_sha256": candidate.run.data_sha256,
        "git_commit": candidate.run.code_version,
        **failed,
    }


def _dataset(candidate: Candidate, holdout: Rows) -> Any:
    """Return MLflow's record of the data's origin, which holds none of its rows."""
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.dataset_source import DatasetSource
    from mlflow.data.dataset_source_registry import resolve_dataset_source
    from mlflow.data.meta_dataset import MetaDataset

    run = candidate.run
    source: DatasetSource
    if run.data_source == EMBEDDED:
        source = CodeDatasetSource(
            tags={"function": "sklearn.datasets.load_breast_cancer"}
        )
    else:
        source = resolve_dataset_source(run.data_source)
    return MetaDataset(  # type: ignore[abstract]  # in its annotations only
        source,
        name=run.data_name,
        # MLflow takes digests of up to 36 characters; the whole one is a tag of the run.
        digest=run.data_sha256[:36],
        schema=_inputs(candidate, holdout),
    )


def _inputs(candidate: Candidate, holdout: Rows) -> MlflowSchema:
    schema = candidate.schema
    if schema.is_sparse:
        return MlflowSchema(
            [TensorSpec(np.dtype(np.float64), (-1, len(schema.feature_names)))]
        )
    return MlflowSchema(
        [
            ColSpec(
                _find_type(feature, np.asarray(holdout.X[:, position])),
                feature.name,
                required=not feature.nullable,
            )
            for position, feature in enumerate(schema.features)
        ]
    )


def _find_type(feature: Feature, values: NDArray[np.float64]) -> DataType | AnyType:
    any_type = AnyType()  # type: ignore[no-untyped-call]
    if feature.kind == Kind.BOOLEAN:
        # Of a gap in a column of truth values MLflow's server of models would make false.
        return any_type if feature.nullable else DataType.boolean
    if feature.categories and isinstance(feature.categories[0], str):
        return DataType.string
    # MLflow takes no int64 for a double, and no double for a long: a table may hold either.
    is_whole = bool((values == np.floor(values)).all())
    return any_type if is_whole else DataType.double


def _outputs(candidate: Candidate) -> MlflowSchema:
    is_text = isinstance(candidate.schema.class_labels[0], str)
    return MlflowSchema([ColSpec(DataType.string if is_text else DataType.long)])


def _log_model(candidate: Candidate, holdout: Rows) -> str:
    """Log the fitted pipeline, with the server's artifact beside it in the same model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, FILE_NAME)
        path.write_bytes(candidate.artifact)
        info = mlflow.sklearn.log_model(
            candidate.model,
            name=MODEL_NAME_IN_RUN,
            serialization_format="skops",
            skops_trusted_types=list(TRUSTED_TYPES),
            signature=ModelSignature(_inputs(candidate, holdout), _outputs(candidate)),
            input_example=to_table(holdout.X[:N_EXAMPLE_ROWS], candidate.schema),
            pip_requirements=_requirements(candidate),
            extra_files=[str(path)],
        )
    if info.signature is None:
        raise RegistryError("MLflow dropped the signature of the model")
    return str(info.model_id)


def _requirements(candidate: Candidate) -> list[str]:
    return [
        f"{name}=={version}" for name, version in candidate.library_versions.items()
    ]


def _create_version(
    client: MlflowClient,
    model_name: str,
    model_id: str,
    run_id: str,
    candidate: Candidate,
) -> ModelVersion:
    try:
        client.create_registered_model(model_name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    metrics = {name: f"{value:.6g}" for name, value in candidate.metrics.items()}
    tags = {**_tags(candidate), SHA256_TAG: candidate.artifact_sha256, **metrics}
    return client.create_model_version(
        model_name, f"models:/{model_id}", run_id, tags=tags, model_id=model_id
    )


def _decide(
    client: MlflowClient, version: ModelVersion, candidate: Candidate, holdout: Rows
) -> tuple[str, str]:
    """Give the version its alias, and write down why and what was champion before."""
    if DECISION_TAG in version.tags:
        alias, _, reason = version.tags[DECISION_TAG].partition(": ")
        return alias, reason
    name, number = version.name, version.version
    champion = _find_champion(client, version)
    alias, reason = _compare(champion, version, candidate, holdout)
    # Before the alias: a call that is cut short after it would else forget whom it replaced.
    if champion is not None:
        client.set_model_version_tag(
            name, number, PREVIOUS_CHAMPION_TAG, champion.version
        )
    client.set_registered_model_alias(name, alias, number)
    client.set_model_version_tag(name, number, DECISION_TAG, f"{alias}: {reason}")
    return alias, reason


def _find_champion(client: MlflowClient, version: ModelVersion) -> ModelVersion | None:
    """Return the champion that a version meets; None if there was none before it."""
    number = client.get_registered_model(version.name).aliases.get(CHAMPION)
    if str(number) == str(version.version):
        # A call that was cut short made it champion already.
        number = version.tags.get(PREVIOUS_CHAMPION_TAG)
    return None if number is None else client.get_model_version(version.name, number)


def _compare(
    champion: ModelVersion | None,
    version: ModelVersion,
    candidate: Candidate,
    holdout: Rows,
) -> tuple[str, str]:
    if champion is None:
        return CHAMPION, "no other version was champion"
    schema, scoring = candidate.schema, candidate.scoring
    try:
        other_score = score_model(_load(champion), holdout, schema, scoring)
    except NotComparable as error:
        return CHALLENGER, (
            f"version {champion.version} cannot score these rows: {error}. To promote by hand: "
            f'MlflowClient().set_registered_model_alias("{version.name}", "{CHAMPION}", '
            f'"{version.version}")'
        )
    score = score_model(candidate.model, holdout, schema, scoring)
    alias = CHAMPION if score > other_score else CHALLENGER
    return (
        alias,
        f"{scoring} {score:.6g} on the hold-out, version {champion.version} has {other_score:.6g}",
    )


def _load(version: ModelVersion) -> Pipeline:
    try:
        return mlflow.sklearn.load_model(f"models:/{version.name}/{version.version}")
    except Exception as error:  # of another program or version, it may fail in any way
        raise NotComparable(f"it cannot be loaded ({type(error).__name__})") from None
