"""Metaflow on a real S3 server: the flow's rows and artifacts, and what Argo would be given."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd
import pytest
from sklearn.datasets import load_wine

from training.errors import DataError
from training.parameters import FlowParameters
from training.plan import FileStore, TrainingRequest, make_plan

from s3_support import client_of, environment_of, list_keys, s3_server
from support import ROOT

pytestmark = pytest.mark.slow
FLOW = str(ROOT / "flows" / "train_flow.py")
IMAGE = "registry.example.com/team/prediction-training:1"
NOTHING: Mapping[str, str] = MappingProxyType({})
ON_A_CLUSTER = {
    "METAFLOW_KUBERNETES_CONTAINER_IMAGE": IMAGE,
    "METAFLOW_KUBERNETES_NAMESPACE": "prediction",
    "METAFLOW_KUBERNETES_SERVICE_ACCOUNT": "training-step",
    "METAFLOW_KUBERNETES_SECRETS": "s3-credentials,training",
    "METAFLOW_KUBERNETES_QOS": "guaranteed",
    "METAFLOW_KUBERNETES_CPU": "0.1",
    "METAFLOW_KUBERNETES_MEMORY": "1",
}

WITH_EVENTS = {
    "METAFLOW_ARGO_EVENTS_EVENT": "metaflow",
    "METAFLOW_ARGO_EVENTS_EVENT_SOURCE": "webhook",
    "METAFLOW_ARGO_EVENTS_EVENT_BUS": "default",
    "METAFLOW_ARGO_EVENTS_SERVICE_ACCOUNT": "training-launcher",
}


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with s3_server(tmp_path_factory.mktemp("s3")) as url:
        yield url


def run(
    folder: Path,
    endpoint: str,
    *arguments: str,
    returncode: int = 0,
    variables: Mapping[str, str] = NOTHING,
) -> str:
    """Run a command of the flow to the end that it should have; return what it prints."""
    environment = os.environ | environment_of(endpoint) | {"METAFLOW_USER": "tester"}
    result = subprocess.run(
        [sys.executable, FLOW, *arguments],
        cwd=folder,
        env=environment | dict(variables),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert result.returncode == returncode, result.stdout + result.stderr
    return result.stdout + result.stderr * bool(returncode)


CHAMPION = """
import mlflow
client = mlflow.MlflowClient()
version = client.get_model_version_by_alias("tabular_classifier", "champion")
(table,) = client.get_run(version.run_id).inputs.dataset_inputs
print(version.version, table.dataset.name)
"""


def test_the_table_its_rows_and_artifacts_travel_through_s3(
    endpoint: str, tmp_path: Path
) -> None:
    (tmp_path / "grids.toml").write_text(
        "[logistic_regression]\nC = [1.0]\n[lightgbm]\nn_estimators = [10]\n"
    )
    frame = load_wine(as_frame=True).frame
    for number, part in enumerate((frame[:90], frame[90:])):
        put_table(endpoint, f"tables/wine/part-{number}.parquet", part)

    data = ("--data", "s3://metaflow/tables/wine", "--target", "target")
    grids = ("--config", "search", "grids.toml")
    run(tmp_path, endpoint, *grids, "run", *data)

    program = [sys.executable, "-c", CHAMPION]
    champion = subprocess.check_output(program, cwd=tmp_path, text=True)
    assert champion.split() == ["1", "wine"]
    keys = list_keys(endpoint)
    assert any("/TrainFlow/" in key and "/start/" in key for key in keys)
    # Nothing of the run but its log of metadata is on this machine.
    assert not list((tmp_path / ".metaflow").rglob("*.npy"))
    assert not (tmp_path / ".metaflow/TrainFlow/data").exists()


def put_table(endpoint: str, key: str, frame: pd.DataFrame) -> None:
    """Put a table into the bucket as a Parquet file."""
    body = frame.to_parquet()
    client_of(endpoint).put_object(Bucket="metaflow", Key=key, Body=body)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://metaflow/none.csv", "--data 's3://metaflow/none.csv' cannot be read"),
        (
            "s3://metaflow/none/",
            "--data 's3://metaflow/none/': no file is below this prefix",
        ),
        (
            "s3://metaflow/odd.parquet",
            "s3://metaflow/odd.parquet has no column 'label'",
        ),
    ],
)
def test_a_table_that_is_not_there_is_named(
    url: str, message: str, endpoint: str, tmp_path: Path
) -> None:
    put_table(endpoint, "odd.parquet", pd.DataFrame({"a": [1]}))
    arguments = ("run", "--data", url, "--target", "label")

    output = run(tmp_path, endpoint, *arguments, returncode=1)

    assert message in output
    assert "Traceback" not in output


def test_a_url_of_another_store_is_refused(tmp_path: Path) -> None:
    parameters = FlowParameters(data="gs://bucket/a.csv")
    grids: dict[str, object] = {"logistic_regression": {}, "lightgbm": {}}
    request = TrainingRequest("TrainFlow/1", parameters, grids, "")
    store = FileStore(tmp_path, str, lambda url, folder: folder)

    with pytest.raises(DataError, match="--data 'gs://bucket/a.csv': a URL has to"):
        make_plan(request, store)


@pytest.fixture(scope="module")
def document(endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What Argo would be given for production, with a schedule and an event."""
    folder = tmp_path_factory.mktemp("argo")
    (folder / "launch.toml").write_text('cron = "0 3 * * 1"\nevent = "retrain"\n')
    retries = ["--with", "retry:times=2", "--with", "kubernetes", "--production"]
    output = run(
        folder,
        endpoint,
        *retries,
        *("--config", "launch", "launch.toml"),
        "argo-workflows",
        "create",
        "--only-json",
        variables=ON_A_CLUSTER | WITH_EVENTS,
    )
    read: dict[str, Any] = json.loads(output[output.index("{") :])
    assert read["kind"] == "WorkflowTemplate"
    return read


@pytest.fixture(scope="module")
def template(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Its templates, by name."""
    return {entry["name"]: entry for entry in document["spec"]["templates"]}


def test_argo_runs_the_searches_side_by_side_and_their_shards_as_well(
    template: dict[str, dict[str, Any]],
) -> None:
    tasks = {task["name"]: task for task in template["TrainFlow"]["dag"]["tasks"]}
    merged = set()

    for family in ("lightgbm", "logistic-regression"):
        shards = f"plan-{family}-foreach-numbers"
        assert tasks[f"plan-{family}"]["depends"] == "start.Succeeded"
        assert tasks[shards]["depends"] == f"plan-{family}.Succeeded"
        # As many tasks as the plan has numbers.
        assert "withParam" in tasks[shards]
        (search,) = template[shards]["dag"]["tasks"]
        assert search["template"] == f"search-{family}"
        assert tasks[f"merge-{family}"]["depends"] == f"{shards}.Succeeded"
        merged.add(f"merge-{family}.Succeeded")

    assert set(tasks["select-best"]["depends"].split(" && ")) == merged
    assert tasks["register"]["depends"] == "select-best.Succeeded"


def find_table(step: str) -> str:
    """Return the table of cluster.toml that is for a step."""
    work = step.partition("_")[0]
    return work if work in ("plan", "merge") else step


def test_argo_gives_each_step_what_the_cluster_file_says(
    template: dict[str, dict[str, Any]],
) -> None:
    asked = tomllib.loads((ROOT / "flows/cluster.toml").read_text())
    entries = {
        name.replace("-", "_"): entry
        for name, entry in template.items()
        if "retryStrategy" in entry
    }

    assert {find_table(step) for step in entries} == set(asked)
    for step, entry in entries.items():
        container, table = entry["container"], asked[find_table(step)]
        limits = container["resources"]["limits"]
        assert float(limits["cpu"]) == table["cpu"]
        assert float(limits["memory"].removesuffix("M")) == table["memory"]
        assert container["image"] == IMAGE
        assert entry["serviceAccountName"] == "training-step"
        # Metaflow adds some of its own to a step that may fail.
        may_fail = step.startswith(("search", "merge"))
        assert entry["retryStrategy"]["limit"] == (5 if may_fail else 2)
        secrets = [item["secretRef"]["name"] for item in container["envFrom"]]
        assert secrets == ["s3-credentials", "training"]


def test_pods_of_argo_get_code_that_is_in_s3(
    endpoint: str, template: dict[str, dict[str, Any]]
) -> None:
    command = json.dumps(template["start"]["container"])

    packages = [key for key in list_keys(endpoint) if key.split("/")[-1] in command]

    assert packages


def test_argo_knows_the_project_the_event_and_the_hook(
    document: dict[str, Any], template: dict[str, dict[str, Any]]
) -> None:
    notes = document["metadata"]["annotations"]
    hook = "error-tell-what-died"

    assert document["metadata"]["name"] == "prediction.prod.trainflow"
    assert notes["metaflow/project_name"] == "prediction"
    assert notes["metaflow/branch_name"] == "prod"
    (trigger,) = json.loads(notes["metaflow/triggers"])
    assert trigger["name"] == "retrain"
    assert document["spec"]["hooks"][hook] == {
        "expression": "workflow.status == 'Error' || workflow.status == 'Failed'",
        "template": hook,
    }
    assert template[hook]["serviceAccountName"] == "training-step"
    assert "exit_hook_script train_flow.py tell_what_died" in json.dumps(template[hook])
    # The steps know that they are production's, which names the registered model.
    assert "--production" in json.dumps(template["register"])
