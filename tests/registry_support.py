"""Versions of registered models that take no training."""

import hashlib
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from prediction.artifact import REGISTRY_PATH, SHA256_TAG

NAME = "wine"


def add_version(
    client: MlflowClient,
    folder: Path,
    tags: dict[str, str] | None = None,
    **options: Any,
) -> str:
    """Add a version with an artifact that no two versions share; return its number."""
    if not client.search_registered_models(f"name = '{NAME}'"):
        client.create_registered_model(NAME)
    number = len(client.search_model_versions(f"name = '{NAME}'")) + 1
    source = folder / f"source {number}"
    path = source / REGISTRY_PATH
    path.parent.mkdir(parents=True)
    path.write_bytes(options.get("content", f"artifact {number}".encode()))
    own = {
        SHA256_TAG: hashlib.sha256(path.read_bytes()).hexdigest(),
        "git_commit": f"c0ffee{number}",
        "metaflow_run_id": f"TrainFlow/{number}",
    }
    version = client.create_model_version(
        NAME, source.as_uri(), options.get("run_id"), tags=own | (tags or {})
    )
    return str(version.version)


def make_run(client: MlflowClient, **params: str) -> str:
    """Add a run whose parameters say how it split its table; return its id."""
    experiments = client.search_experiments(filter_string="name = 'exp'")
    experiment = (
        experiments[0].experiment_id if experiments else client.create_experiment("exp")
    )
    run = client.create_run(experiment)
    for name, value in {"test_fraction": "0.2", "seed": "0", **params}.items():
        client.log_param(run.info.run_id, name, value)
    return str(run.info.run_id)
