"""The whole system on a real cluster: `make all`, training in pods, a prediction, `make clean`.

The tests build on each other in their order: a system is deployed, trains, serves, and is removed.
Runs are launched from a pod that has the launcher's account, and so its rights and no others.
"""

import functools
import importlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster_support import KUBECTL, Namespace, environment, image, minor_version
from support import ROOT, copy_project, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

SERVER = "app.kubernetes.io/name=prediction-server"
# What launching takes and the training image lacks: pure Python, so this environment's will do.
LAUNCHING = ("durationpy", "kubernetes", "oauthlib", "requests_oauthlib", "websocket")
SEARCHES = ("search_logistic_regression", "search_lightgbm")
MERGES = ("merge_logistic_regression", "merge_lightgbm")
# Of the cluster's file; `plan` and `merge` are for the steps of both families.
TABLES = ("start", "plan", *SEARCHES, "merge", "select_best", "register", "end")
FAMILIES = ("logistic_regression", "lightgbm")
STEPS = (
    "start",
    "select_best",
    "register",
    "end",
    *(
        f"{work}_{family}"
        for work in ("plan", "search", "merge")
        for family in FAMILIES
    ),
)
# For two cores that the server and its database share.
SMALL = {"cpu": 0.2, "memory": 1000}
GRIDS = """
[logistic_regression]
C = [0.1, 1.0]
[lightgbm]
n_estimators = [20, 40]
"""


@dataclass(frozen=True, slots=True)
class System:
    """The deployed system: the project's copy that deployed it, and where it runs."""

    folder: Path
    overlay: str
    namespace: Namespace
    has_dns: bool

    def make(self, *arguments: str) -> str:
        """Run make as a user does; return what it prints."""
        values = [f"OVERLAY={self.overlay}", "YES=1", *arguments]
        names = ("IMAGE_PREFIX", "TAG", "IMAGE_BUILD_FLAGS", "IMAGE_PUSH_FLAGS")
        values += [f"{name}={os.environ.get(name, '')}" for name in names]
        path = f"{Path(KUBECTL).parent}:{os.environ['PATH']}"
        result = subprocess.run(
            ["make", *values],
            cwd=self.folder,
            env=os.environ | {"PATH": path},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def host(self, service: str) -> str:
        """Return by what name or address a pod without anything of ours reaches a service."""
        if self.has_dns:
            return f"{service}.{self.namespace.name}"
        address = "--output=jsonpath={.spec.clusterIP}"
        return self.namespace.kubectl("get", "service", service, address)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Deploy everything with `make all`, and remove all that is left of it at the end."""
    environment("KUBECONFIG")
    is_old = minor_version() < 29
    overlay = "k8s/tests/local-kubernetes-1.20" if is_old else "k8s/overlays/local"
    folder = copy_project(tmp_path_factory.mktemp("project"))
    system = System(folder, overlay, Namespace("prediction"), has_dns=not is_old)
    try:
        print(system.make("all"))
        yield system
    finally:
        print(system.make("clean", "DATA=1"))


@pytest.fixture(scope="module")
def launcher(system: System) -> Iterator["Launcher"]:
    """A pod with the launcher's account, the training image and the flow's code."""
    launcher = Launcher(system)
    launcher.start()
    try:
        yield launcher
    finally:
        launcher.stop()


class Launcher:
    """Runs programs in a pod from which the flow can be launched."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._kubectl = system.namespace.kubectl

    def start(self) -> None:
        """Start the pod, and bring the flow into it."""
        url = f"http://{self._system.host('mlflow')}:5000"
        secret = ("create", "secret", "generic", "training")
        self._kubectl(*secret, f"--from-literal=MLFLOW_TRACKING_URI={url}")
        self._kubectl("apply", "--filename=-", stdin=json.dumps(self._pod()))
        ready = "--for=condition=Ready"
        self._kubectl("wait", ready, "pod/launcher", "--timeout=120s")
        into_the_pod = ("exec", "launcher", "--stdin", "--", "tar", "--extract")
        self._kubectl(*into_the_pod, stdin=self._files())

    def stop(self) -> None:
        """Remove what `start` made."""
        removal = ("delete", "--ignore-not-found", "--grace-period=1")
        self._kubectl(*removal, "pod/launcher", "secret/training")

    def popen(self, *command: str) -> "subprocess.Popen[str]":
        """Start a program in the pod; its output is one text."""
        program = [KUBECTL, "--namespace", self._system.namespace.name, "exec"]
        return subprocess.Popen(
            [*program, "launcher", "--", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def launch(self, *arguments: str, **variables: str) -> "subprocess.Popen[str]":
        """Start a run of the flow on the cluster."""
        configs = ["--config", "cluster", "cluster.toml"]
        configs += ["--config", "search", "search.toml"]
        settings = [f"{name}={value}" for name, value in variables.items()]
        program = ["setsid", "--fork", "--wait", "env", *settings, "python"]
        program += ["flows/train_flow.py", *configs]
        return self.popen(*program, "run", "--with", "kubernetes", *arguments)

    def python(self, script: str) -> str:
        """Run a script in the pod; return what it prints."""
        program = ("exec", "launcher", "--stdin", "--", "python", "-")
        return self._kubectl(*program, stdin=script)

    def write(self, name: str, text: str) -> None:
        """Write a file in the pod's working folder."""
        command = ("exec", "launcher", "--stdin", "--", "tee", name)
        self._kubectl(*command, stdin=text)

    def _files(self) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for path in sorted((ROOT / "flows").rglob("*.*")):
                if path.suffix in (".py", ".toml"):
                    archive.add(path, path.relative_to(ROOT))
            for name in LAUNCHING:
                (source,) = importlib.import_module(name).__path__
                archive.add(source, name, filter=without_caches)
            texts = {"cluster.toml": cluster_toml(), "search.toml": GRIDS}
            for name, text in texts.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(text)
                archive.addfile(entry, io.BytesIO(text.encode()))
        return buffer.getvalue()

    def _pod(self) -> dict[str, Any]:
        secrets = ("s3-credentials", "training")
        variables = {
            "PYTHONPATH": "/work",
            "METAFLOW_USER": "tester",
            "METAFLOW_DEFAULT_DATASTORE": "s3",
            "METAFLOW_DATASTORE_SYSROOT_S3": "s3://metaflow/runs",
            "METAFLOW_S3_ENDPOINT_URL": f"http://{self._system.host('s3')}:8333",
            "METAFLOW_KUBERNETES_NAMESPACE": self._system.namespace.name,
            "METAFLOW_KUBERNETES_SERVICE_ACCOUNT": "training-step",
            "METAFLOW_KUBERNETES_SECRETS": ",".join(secrets),
            "METAFLOW_KUBERNETES_CONTAINER_IMAGE": image("prediction-training"),
            "METAFLOW_KUBERNETES_IMAGE_PULL_POLICY": "IfNotPresent",
            "METAFLOW_KUBERNETES_DISK": "512",
            "METAFLOW_KUBERNETES_CPU": "0.1",
            "METAFLOW_KUBERNETES_MEMORY": "1",
        }
        container = {
            "name": "launcher",
            "image": image("prediction-training"),
            "command": ["sleep", "3600"],
            "env": [{"name": name, "value": variables[name]} for name in variables],
            "envFrom": [{"secretRef": {"name": name}} for name in secrets],
        }
        spec = {
            "serviceAccountName": "training-launcher",
            "restartPolicy": "Never",
            "containers": [container],
        }
        metadata = {"name": "launcher"}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def without_caches(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leave out what Python has compiled."""
    return None if entry.name.endswith("__pycache__") else entry


def cluster_toml(**changes: dict[str, float]) -> str:
    """Return what each step asks of the cluster; little, but for the steps named."""
    tables = {name: SMALL for name in TABLES} | changes
    return "".join(
        f"[{step}]\ncpu = {table['cpu']}\nmemory = {table['memory']}\n"
        for step, table in tables.items()
    )


def finish(run: "subprocess.Popen[str]") -> str:
    """Wait for a program's end; return what it printed."""
    output, _ = run.communicate(timeout=600)
    print(output)
    return output


def pods_of(system: System, step: str) -> list[dict[str, Any]]:
    """Return the pods of a step, of whichever run."""
    key = "metaflow/step_name"
    return [
        pod
        for pod in system.namespace.items("pods")
        if pod["metadata"].get("annotations", {}).get(key) == step
    ]


def is_running(pod: dict[str, Any]) -> bool:
    """Tell whether a pod's one container runs."""
    statuses = pod["status"].get("containerStatuses", [{}])
    return "running" in statuses[0].get("state", {})


def running_pod(system: System, step: str) -> str:
    """Wait until a pod of a step runs; return its name."""
    wait_for(lambda: any(map(is_running, pods_of(system, step))), timeout_seconds=300)
    pod = next(filter(is_running, pods_of(system, step)))
    return str(pod["metadata"]["name"])


def times_of(pod: dict[str, Any]) -> tuple[str, str]:
    """Return when a pod's one container began and ended; such texts sort by time."""
    state = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    return state["startedAt"], state["finishedAt"]


def remove_jobs(system: System) -> None:
    """Remove what runs leave: Kubernetes keeps the jobs that ended."""
    system.namespace.kubectl("delete", "jobs", "--all", "--wait=true")


def test_the_server_is_there_and_waits_for_a_model(system: System) -> None:
    pods = system.namespace.items("pods", "--selector", SERVER)

    assert len(pods) >= 1
    for pod in pods:
        ready = {
            status["name"]: status for status in pod["status"]["containerStatuses"]
        }
        assert ready["server"]["started"]
        assert not ready["server"]["ready"]


def test_making_all_again_changes_no_pod(system: System) -> None:
    before = uids(system)

    output = system.make("all")

    print(output)
    assert " created" not in output
    assert " unchanged" in output
    assert uids(system) == before


def uids(system: System) -> set[str]:
    """Return the identities of all pods."""
    return {pod["metadata"]["uid"] for pod in system.namespace.items("pods")}


KILL_THE_TASK = """
import os, signal, sys, time
for _ in range(600):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = open(f"/proc/{pid}/cmdline").read().split(chr(0))
        except OSError:
            continue
        if words[0].startswith("python") and any(w.endswith("train_flow.py") for w in words):
            os.kill(int(pid), signal.SIGKILL)
            sys.exit()
    time.sleep(0.1)
sys.exit("the task never began")
"""


@pytest.fixture(scope="module")
def run(system: System, launcher: Launcher) -> Iterator[str]:
    """Run the flow; of its searches, one loses its pod and the other its process."""
    retries = ["--with", "retry:times=2,minutes_between_retries=0"]
    process = launcher.launch(*retries, "--with", "timeout:minutes=15")
    try:
        evicted = running_pod(system, "search_logistic_regression")
        deletion = ("delete", "pod", evicted, "--grace-period=0", "--force")
        system.namespace.kubectl(*deletion)
        killed = running_pod(system, "search_lightgbm")
        killing = ("exec", killed, "--stdin", "--", "python", "-")
        system.namespace.kubectl(*killing, stdin=KILL_THE_TASK)
        output = finish(process)
    finally:
        process.kill()
    assert process.returncode == 0
    yield output
    remove_jobs(system)


def test_each_step_runs_in_a_pod_of_the_training_image_with_no_rights(
    system: System, run: str
) -> None:
    for step in STEPS:
        *_, pod = pods_of(system, step)
        spec = pod["spec"]
        assert [c["image"] for c in spec["containers"]] == [
            image("prediction-training")
        ]
        assert spec["serviceAccountName"] == "training-step"
        mounts = spec["containers"][0].get("volumeMounts", [])
        assert not any("serviceaccount" in mount["mountPath"] for mount in mounts)


def test_searches_that_lose_their_pods_are_tried_again(
    system: System, run: str
) -> None:
    attempts: dict[str, list[str]] = {step: [] for step in STEPS}
    for job in system.namespace.items("jobs"):
        notes = job["metadata"]["annotations"]
        attempts[notes["metaflow/step_name"]].append(notes["metaflow/attempt"])

    # A pod that is deleted is replaced by its Job; one that fails, by Metaflow.
    assert sorted(attempts.pop("search_lightgbm")) == ["0", "1"]
    assert set(map(tuple, attempts.values())) == {("0",)}


def test_the_branches_run_side_by_side(system: System, run: str) -> None:
    """Each from its plan to its merge: on a small node, a pod may wait for room."""
    begun = [
        job["status"]["startTime"]
        for job in system.namespace.items("jobs")
        if job["metadata"]["annotations"]["metaflow/step_name"].startswith("plan_")
    ]
    ends = [times_of(pod)[1] for step in MERGES for pod in pods_of(system, step)]

    assert len(begun) == 2
    assert max(begun) < min(ends)


REGISTERED = """
import json, os
import boto3
from mlflow import MlflowClient
client = MlflowClient()
versions = client.search_model_versions("name = 'tabular_classifier'")
runs = [r for e in client.search_experiments() for r in client.search_runs([e.experiment_id])]
url = os.environ["METAFLOW_S3_ENDPOINT_URL"]
# Training may not see the models' bucket, which MLflow has an identity for.
clients = {
    "metaflow": boto3.client("s3", endpoint_url=url),
    "mlflow": boto3.client(
        "s3", endpoint_url=url, aws_access_key_id="models", aws_secret_access_key="local-only"
    ),
}
def listing(bucket):
    return [o["Key"] for o in clients[bucket].list_objects_v2(Bucket=bucket)["Contents"]]
def is_refused():
    try:
        clients["metaflow"].list_objects_v2(Bucket="mlflow")
    except clients["metaflow"].exceptions.ClientError as error:
        return error.response["Error"]["Code"] == "AccessDenied"
    return False
print(json.dumps({
    "versions": [[v.version, v.run_id] for v in versions],
    "runs": [r.info.run_id for r in runs],
    "champion": client.get_model_version_by_alias("tabular_classifier", "champion").version,
    "runs in S3": listing("metaflow"), "artifacts in S3": listing("mlflow"),
    "is refused": is_refused(),
}))
"""


def test_the_model_is_registered_once_through_real_stores(
    system: System, launcher: Launcher, run: str
) -> None:
    found = json.loads(launcher.python(REGISTERED))

    assert found["versions"] == [["1", found["runs"][0]]]
    assert len(found["runs"]) == 1
    assert found["champion"] == "1"
    # Metaflow's artifacts and its code package; the model's files behind MLflow.
    assert any("/start/" in key for key in found["runs in S3"])
    assert any("/data/" in key for key in found["runs in S3"])
    assert any(key.endswith("model.binpb") for key in found["artifacts in S3"])
    assert found["is refused"]
    query = "select count(*) from model_versions"
    psql = ("psql", "--host=127.0.0.1", "--username=mlflow", "--dbname=mlflow")
    program = (*psql, "--tuples-only", f"--command={query}")
    password = ("env", "PGPASSWORD=local-only")
    count = system.namespace.kubectl("exec", "postgresql-0", "--", *password, *program)
    assert count.strip() == "1"


COMPARE = """
import json, sys, urllib.request
import mlflow
from sklearn.datasets import load_breast_cancer
from prediction import PredictionClient
sys.path.append("flows")
from training.registry.store import through_the_server
table = load_breast_cancer(as_frame=True).data
with through_the_server():
    model = mlflow.sklearn.load_model("models:/tabular_classifier@champion")
expected = model.predict_proba(table)
worst, via_http = 0.0, []
with PredictionClient("{host}:50051") as client:
    for row, probabilities in zip(table.to_numpy(), expected):
        answer = client.predict(row)
        worst = max(worst, *(abs(a - b) for a, b in zip(answer.probabilities, probabilities)))
body = json.dumps(dict(features=list(table.iloc[0]))).encode()
request = urllib.request.Request("http://{host}:8000/predict", body)
request.add_header("Content-Type", "application/json")
with urllib.request.urlopen(request) as response:
    via_http = json.load(response)
print(json.dumps(dict(worst=worst, first=list(expected[0]), http=via_http)))
"""


def test_the_serving_image_picks_the_model_up_and_answers_as_it(
    system: System, launcher: Launcher, run: str
) -> None:
    rollout = ("rollout", "status", "deployment/prediction-server", "--timeout=120s")
    system.namespace.kubectl(*rollout)
    host = system.host("prediction-server")

    answer = json.loads(launcher.python(COMPARE.replace("{host}", host)))

    assert answer["worst"] <= 1e-12
    assert answer["http"]["prediction"] in (0, 1)
    assert max(answer["http"]["probabilities"]) == pytest.approx(max(answer["first"]))


def test_a_pod_out_of_memory_says_so(system: System, launcher: Launcher) -> None:
    launcher.write("cluster.toml", cluster_toml(start={"cpu": 0.2, "memory": 64}))

    # Without, a pod may take as much as its node has.
    run = launcher.launch(METAFLOW_KUBERNETES_QOS="guaranteed")
    output = finish(run)
    launcher.write("cluster.toml", cluster_toml())

    assert run.returncode != 0
    assert "Task ran out of memory" in output
    remove_jobs(system)


# The process group of the run, as a terminal does: its tasks are told as well.
PRESS_CTRL_C = """
import os, signal
for pid in filter(str.isdigit, os.listdir("/proc")):
    words = open(f"/proc/{pid}/cmdline").read().split(chr(0))
    if words[0] == "setsid":
        children = open(f"/proc/{pid}/task/{pid}/children").read().split()
        os.killpg(int(children[0]), signal.SIGINT)
"""


def test_a_run_that_is_stopped_leaves_no_pod_running(
    system: System, launcher: Launcher
) -> None:
    # Minutes of work.
    endless = GRIDS.replace("[20, 40]", "[40000]\nlearning_rate = [0.0001]")
    launcher.write("search.toml", endless)
    process = launcher.launch()
    running_pod(system, "search_lightgbm")

    launcher.python(PRESS_CTRL_C)
    finish(process)
    launcher.write("search.toml", GRIDS)

    assert process.returncode != 0
    for step in SEARCHES:
        wait_for(functools.partial(has_ended, system, step), timeout_seconds=120)
    assert pods_of(system, "select_best") == []
    remove_jobs(system)


def has_ended(system: System, step: str) -> bool:
    """Tell whether no pod of a step runs."""
    return not any(map(is_running, pods_of(system, step)))


RULES = [("batch", "jobs", "create"), ("batch", "jobs", "get"), ("", "pods", "list")]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: "-".join(rule[1:]))
def test_a_run_needs_each_of_the_launchers_rights(
    system: System, launcher: Launcher, rule: tuple[str, str, str]
) -> None:
    group, resource, verb = rule
    (role,) = system.namespace.items("roles", "--selector=app.kubernetes.io/name")
    without = json.loads(json.dumps(role))
    for entry in without["rules"]:
        if entry["apiGroups"] == [group] and entry["resources"] == [resource]:
            entry["verbs"] = [word for word in entry["verbs"] if word != verb]
    without["rules"] = [entry for entry in without["rules"] if entry["verbs"]]
    assert without != role
    system.namespace.kubectl("replace", "--filename=-", stdin=json.dumps(without))
    try:
        run = launcher.launch()
        output = finish(run)
    finally:
        del role["metadata"]["resourceVersion"]
        system.namespace.kubectl("replace", "--filename=-", stdin=json.dumps(role))

    assert run.returncode != 0
    assert "forbidden" in output
    remove_jobs(system)


def test_the_launcher_may_do_nothing_else(system: System, launcher: Launcher) -> None:
    account = f"system:serviceaccount:{system.namespace.name}:training-launcher"
    listing = ("auth", "can-i", "--list", "--no-headers", f"--as={account}")

    lines = [line.split() for line in system.namespace.kubectl(*listing).splitlines()]

    # What each account may ask about itself is not ours.
    granted = {
        line[0]: line[-1] for line in lines if not line[0].startswith(("self", "["))
    }
    granted = {name: verbs for name, verbs in granted.items() if name[0] != "/"}
    assert set(granted) == {"jobs.batch", "pods", "pods/exec"}


def test_cleaning_removes_everything(system: System, launcher: Launcher) -> None:
    launcher.stop()
    kept = system.make("clean")
    volumes = system.namespace.items("persistentvolumeclaims")

    system.make("clean", "DATA=1")
    again = system.make("clean", "DATA=1")

    assert len(volumes) == 2
    assert "kept" in kept
    assert "0 objects of ours" in again
    command = [KUBECTL, "get", "namespace", system.namespace.name]
    wait_for(lambda: subprocess.run(command, capture_output=True).returncode != 0, 120)
    assert not (system.folder / "build").exists()
