"""Registers a trained model in MLflow: one run and one model version for each flow run.

    nothing ──▶ run with its details ──▶ logged model ──▶ version ──▶ decision

Every state is found again by the flow run's id. So a step that Metaflow retries goes on where the
last attempt stopped, and adds nothing twice.
"""

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

import date_columns
from prediction.artifact import (
    FILE_NAME,
    SHA256_TAG,
    SIGNATURE_FILE_NAME,
    SIGNATURE_SHA256_TAG,
)
from prediction_common.secrets import redact
from training.artifact.signing import Signer
from training.data.date_features import write_texts
from training.data.encoding import to_table
from training.data.rows import Rows
from training.data.schema import TEMPORAL, Schema
from training.errors import RegistryError
from training.registry.promotion import decide
from training.registry.registration import (
    CHAMPION,
    FIGURE_PREFIX,
    FINAL_FIT_TAG,
    PREVIOUS_CHAMPION_TAG,
    Registration,
)
from training.registry.run_log import FLOW_RUN_TAG, log_details, make_tags
from training.registry.signature import make_signature
from training.registry.store import writing
from training.registry.twin_files import save_twin
from training.trained_model import TrainedModel

MODEL_NAME_IN_RUN = "model"
REPORT_FILE = "report.html"
N_EXAMPLE_ROWS = 3

# Types in the pipelines that skops does not trust by itself. They were reviewed: none runs code
# when it is loaded.
TRUSTED_TYPES = (
    "collections.OrderedDict",
    "date_columns.cells.DateParts",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "numpy.dtype",
    # Calibrated models have these two.
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    # Encoders of target means keep it.
    "sklearn.model_selection._split.KFold",
)


def register(
    trained: TrainedModel,
    holdout: Rows,
    *,
    experiment: str,
    model_name: str,
    signer: Signer | None = None,
) -> Registration:
    """Log a trained model, register it as a version, and decide which version is champion.

    Parameters
    ----------
    trained : TrainedModel
        Model of the flow run.
    holdout : Rows
        Rows on which its scored twin is compared with the champion's.
    experiment : str
        Experiment of the run.
    model_name : str
        Name of the registered model; it is created if it does not exist.
    signer : Signer or None
        Signs the artifact; None leaves it unsigned.

    Returns
    -------
    Registration
        The version, its alias and the reason.

    Raises
    ------
    RegistryError
        If MLflow is not reached, or refuses. A later call goes on where this one stopped.
    """
    signature = signer.sign(model_name, trained.artifact) if signer else b""
    # MLflow's own long retries apply here: hours of training should outlive a server's restart.
    with writing():
        experiment_id = mlflow.set_experiment(experiment).experiment_id
        client = MlflowClient()
        version = _find_version(client, model_name, trained)
        if version is None:
            version = _log_and_create(
                client, trained, holdout, experiment_id, model_name, signature
            )
        alias, reason = decide(client, version, trained, holdout)
        has_champion = CHAMPION in client.get_registered_model(model_name).aliases
        tags = client.get_model_version(model_name, version.version).tags
    return Registration(
        str(version.run_id),
        str(version.version),
        alias,
        reason,
        has_champion,
        tags.get(PREVIOUS_CHAMPION_TAG, ""),
        _read_figures(tags),
    )


def _read_figures(tags: Mapping[str, str]) -> dict[str, float]:
    """Return the figures of the comparison that a version's tags hold."""
    found = {}
    for name, text in tags.items():
        if name.startswith(FIGURE_PREFIX):
            try:
                found[name.removeprefix(FIGURE_PREFIX)] = float(text)
            except ValueError:
                continue  # a tag of somebody else with such a name
    return found


def log_report(run_id: str, page: str) -> str:
    """Add the report to a run.

    Parameters
    ----------
    run_id : str
        MLflow's run.
    page : str
        HTML.

    Returns
    -------
    str
        Its address, without secrets.

    Raises
    ------
    RegistryError
        If MLflow is not reached, or refuses.
    """
    with writing():
        client = MlflowClient()
        client.log_text(run_id, page, REPORT_FILE)
        folder = str(client.get_run(run_id).info.artifact_uri)
    return redact(f"{folder}/{REPORT_FILE}")


def _log_and_create(
    client: MlflowClient,
    trained: TrainedModel,
    holdout: Rows,
    experiment_id: str,
    model_name: str,
    signature: bytes,
) -> ModelVersion:
    run_id = _find_run(client, trained, experiment_id)
    tags = None if run_id else make_tags(trained)
    run_name = trained.plan.run.run_id
    with mlflow.start_run(run_id=run_id, run_name=run_name, tags=tags) as run:
        run_id = str(run.info.run_id)
        log_details(client, run_id, trained, holdout)
        model_id = _find_model(client, run_id) or _log_model(
            trained, holdout, signature
        )
    return _create_version(client, model_name, model_id, run_id, trained, signature)


def _find_run(
    client: MlflowClient, trained: TrainedModel, experiment_id: str
) -> str | None:
    query = f"tags.{FLOW_RUN_TAG} = '{trained.plan.run.run_id}'"
    runs = client.search_runs([experiment_id], query, max_results=1)
    return str(runs[0].info.run_id) if runs else None


def _find_version(
    client: MlflowClient, model_name: str, trained: TrainedModel
) -> ModelVersion | None:
    run_id = trained.plan.run.run_id
    query = f"name = '{model_name}' and tags.{FLOW_RUN_TAG} = '{run_id}'"
    versions = client.search_model_versions(query)
    return (
        client.get_model_version(model_name, versions[0].version) if versions else None
    )


def _find_model(client: MlflowClient, run_id: str) -> str | None:
    """Return the id of a model that an earlier call logged completely."""
    experiment_id = client.get_run(run_id).info.experiment_id
    models = client.search_logged_models([experiment_id], f"source_run_id = '{run_id}'")
    ready = [model for model in models if model.status == "READY"]
    return str(ready[0].model_id) if ready else None


def _log_model(trained: TrainedModel, holdout: Rows, signature: bytes) -> str:
    """Log the fitted estimator; the server's artifact and the twin are beside it in the model."""
    schema = trained.plan.schema
    options: dict[str, Any] = {
        "serialization_format": "skops",
        "skops_trusted_types": list(TRUSTED_TYPES),
        "signature": make_signature(schema, holdout),
        "pip_requirements": _list_requirements(trained),
        "code_paths": _list_code(trained),
    }
    with tempfile.TemporaryDirectory() as folder:
        files = {FILE_NAME: trained.artifact}
        if signature:
            files[SIGNATURE_FILE_NAME] = signature
        paths = [Path(folder, name) for name in files]
        for path, content in zip(paths, files.values(), strict=True):
            path.write_bytes(content)
        info = mlflow.sklearn.log_model(
            trained.estimator,
            name=MODEL_NAME_IN_RUN,
            input_example=_make_example(schema, holdout),
            extra_files=[
                *map(str, paths),
                *save_twin(trained, Path(folder), **options),
            ],
            **options,
        )
    if info.signature is None:
        raise RegistryError("MLflow dropped the signature of the model")
    return str(info.model_id)


def _make_example(schema: Schema, holdout: Rows) -> Any:
    """Return a few rows that JSON can hold: MLflow writes a gap in a column of dates as "NaT"."""
    X = holdout.X[:N_EXAMPLE_ROWS]
    table = to_table(X, schema)
    for position, feature in enumerate(schema.features):
        if feature.kind in TEMPORAL:
            table[feature.name] = write_texts(np.asarray(X[:, position]), feature)
    return table


def _list_code(trained: TrainedModel) -> list[str] | None:
    """Return the package that a model with dates needs, which MLflow puts beside it."""
    if not trained.plan.schema.temporal:
        return None
    return [str(Path(date_columns.__file__).parent)]


def _list_requirements(trained: TrainedModel) -> list[str]:
    return [f"{name}=={version}" for name, version in trained.library_versions.items()]


def _create_version(
    client: MlflowClient,
    model_name: str,
    model_id: str,
    run_id: str,
    trained: TrainedModel,
    signature: bytes,
) -> ModelVersion:
    try:
        client.create_registered_model(model_name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    metrics = {name: f"{value:.6g}" for name, value in trained.figures.items()}
    tags = {**make_tags(trained), SHA256_TAG: trained.artifact_sha256, **metrics}
    if signature:
        tags[SIGNATURE_SHA256_TAG] = hashlib.sha256(signature).hexdigest()
    tags[FINAL_FIT_TAG] = trained.plan.run.parameters.final_fit
    return client.create_model_version(
        model_name, f"models:/{model_id}", run_id, tags=tags, model_id=model_id
    )
