"""Registration in a real MLflow store happens once for each flow run, despite interruptions."""

import base64
import functools
import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.entities import DatasetInput, Run
from mlflow.store.artifact.utils.models import _parse_model_uri
from skops.io import get_untrusted_types

from grpc_server.errors import RegistryError as SyncError
from grpc_server.model import load_model
from grpc_server.model_sync import synchronize
from grpc_server.model_uri import ModelUri
from grpc_server.trust import Trust
from prediction.artifact import REGISTRY_PATH, SHA256_TAG, SIGNATURE_SHA256_TAG
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact
from training.artifact.formula import evaluate_formula
from training.artifact.signing import Signer
from training.data.encoding import to_table
from training.data.rows import Rows, join_rows
from training.data.schema import Feature
from training.errors import RegistryError
from training.models.families import LIGHTGBM
from training.models.final_model import PostFit
from training.models.pipelines import PipelineFactory
from training.models.served_latency import ServedLatency
from training.models.thresholds import FixedThreshold, parse_threshold
from training.parameters import FlowParameters
from training.registry import promotion, tracking
from training.registry.decisions import write_decision
from training.registry.history import find_clerk, read_history
from training.registry.moves import Order, promote
from training.registry.registration import Registration
from training.registry.store import check_model_name, prepare_store
from training.registry.tracking import register
from training.registry.twin_files import open_opponent
from training.trained_model import TrainedModel

from mixed_support import make_mixed_rows
from support import answers, wait_for
from training_support import make_rows, train_family

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path: Path, store: MlflowClient) -> Iterator[MlflowClient]:
    """A tracking server over HTTP that keeps artifacts itself, as in a cluster."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--workers",
        "1",
        "--port",
        str(port),
    ]
    command += [
        "--backend-store-uri",
        "sqlite:///mlflow.db",
        "--artifacts-destination",
        "kept",
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    )
    try:
        wait_for(functools.partial(answers, f"http://127.0.0.1:{port}/health"), 60)
        mlflow.set_tracking_uri(f"http://127.0.0.1:{port}")
        yield MlflowClient()
    finally:
        process.terminate()
        process.wait(30)


def make(
    family: str = "logistic_regression", **changes: Any
) -> tuple[TrainedModel, Rows]:
    kinds = {key: changes.pop(key) for key in ("missing", "sparse") if key in changes}
    schema, train, holdout = make_rows(
        changes.pop("n_classes", 2), seed=changes.pop("seed", 0), **kinds
    )
    return train_family(family, schema, train, holdout, **changes), holdout


def enroll(trained: TrainedModel, holdout: Rows) -> Registration:
    return register(trained, holdout, experiment="exp", model_name="churn")


def datasets(run: Run) -> list[DatasetInput]:
    return [] if run.inputs is None else run.inputs.dataset_inputs


def aliases(client: MlflowClient) -> dict[str, str]:
    named = client.get_registered_model("churn").aliases
    return {alias: str(version) for alias, version in named.items()}


def everything(client: MlflowClient) -> dict[str, Any]:
    """Return the counts that a second registration could change."""
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    histories = {
        (run.info.run_id, key): len(client.get_metric_history(run.info.run_id, key))
        for run in runs
        for key in run.data.metrics
    }
    return {
        "runs": len(runs),
        "histories": histories,
        "inputs": [len(datasets(run)) for run in runs],
        "models": [len(run.outputs.model_outputs) for run in runs if run.outputs],
        "versions": len(client.search_model_versions("name = 'churn'")),
        "aliases": aliases(client),
    }


def test_a_signed_version_is_fetched_and_verified_and_its_key_is_nowhere(
    store: MlflowClient, tmp_path: Path
) -> None:
    trained, holdout = make()
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )
    (tmp_path / "trusted.pem").write_bytes(public)
    trust = Trust(tmp_path / "trusted.pem", "churn")
    link = tmp_path / "model" / "current"
    arguments = {"experiment": "exp", "model_name": "churn"}

    first = register(trained, holdout, **arguments, signer=Signer(key))
    again = register(trained, holdout, **arguments, signer=Signer(key))
    synchronize(ModelUri.parse("models:/churn@champion"), link, trust)

    assert first == again
    assert load_model(link, trust).source.version == first.version
    store.delete_model_version_tag("churn", first.version, SIGNATURE_SHA256_TAG)
    with pytest.raises(SyncError, match="version 1 of churn: it is not signed"):
        synchronize(ModelUri.parse("models:/churn@champion"), link, trust)
    secret = key.private_bytes_raw()
    hidden = [secret, secret.hex().encode(), base64.b64encode(secret)]
    for path in tmp_path.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert not any(form in content for form in hidden), path


def test_a_run_holds_all_that_is_known_of_it(store: MlflowClient) -> None:
    trained, holdout = make()

    outcome = enroll(trained, holdout)

    run = store.get_run(outcome.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["data"] == "breast_cancer"
    assert run.data.params["best_C"] == str(trained.winner.best_params["C"])
    assert run.data.metrics.items() >= trained.metrics.items()
    history = store.get_metric_history(outcome.run_id, "cv_logistic_regression_roc_auc")
    scores = trained.cv_table["mean_test_score"].tolist()
    # MLflow shows the last.
    assert [(m.step, m.value) for m in history] == [*enumerate([*scores, max(scores)])]
    assert run.data.tags["metaflow_run_id"] == "TrainFlow/1"
    assert run.data.tags["git_commit"] == "c0ffee"
    assert run.data.tags["data_sha256"] == "ab" * 32
    (dataset,) = datasets(run)
    assert (dataset.dataset.name, dataset.dataset.digest) == ("table", ("ab" * 32)[:36])
    table = pd.read_csv(store.download_artifacts(outcome.run_id, "cv_results.csv"))
    assert len(table) == len(trained.cv_table)
    picture = store.download_artifacts(outcome.run_id, "reliability.png")
    assert Path(picture).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "kind",
    [{}, {"missing": True}, {"n_classes": 3}, {"sparse": True}],
    ids=["plain", "missing", "three classes", "sparse"],
)
@pytest.mark.parametrize("family", ["logistic_regression", "lightgbm"])
def test_the_registered_model_is_the_fitted_one(
    family: str, kind: dict[str, Any], store: MlflowClient
) -> None:
    trained, holdout = make(family, **kind)
    X = to_table(holdout.X, trained.plan.schema)

    enroll(trained, holdout)

    model = mlflow.sklearn.load_model("models:/churn@champion")
    assert np.array_equal(model.predict_proba(X), trained.estimator.predict_proba(X))
    pyfunc = mlflow.pyfunc.load_model("models:/churn@champion")
    assert list(pyfunc.predict(X)) == list(trained.estimator.predict(X))
    assert pyfunc.metadata.signature.inputs is not None
    assert pyfunc.metadata.get_model_info().signature is not None
    assert pyfunc.input_example is not None
    requirements = Path(mlflow.pyfunc.get_model_dependencies("models:/churn@champion"))
    assert "scikit-learn==" in requirements.read_text()


@pytest.mark.parametrize("kind", [{}, {"missing": True}, {"sparse": True}])
@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
@pytest.mark.parametrize("family", ["logistic_regression", "lightgbm"])
def test_a_registered_model_is_calibrated_and_decides_as_the_artifact_does(
    family: str, method: str, kind: dict[str, Any], store: MlflowClient
) -> None:
    post_fit = PostFit(method, parse_threshold("cost:5:1"))
    parameters = FlowParameters(calibration=method, threshold="cost:5:1")
    trained, holdout = make(family, post_fit=post_fit, parameters=parameters, **kind)
    X = to_table(holdout.X, trained.plan.schema)

    outcome = enroll(trained, holdout)

    artifact = ModelArtifact.FromString(trained.artifact)
    rows = holdout.X if isinstance(holdout.X, np.ndarray) else holdout.X.toarray()
    expected = evaluate_formula(artifact, rows)
    model = mlflow.sklearn.load_model("models:/churn@champion")
    np.testing.assert_allclose(model.predict_proba(X), expected, rtol=0, atol=1e-12)
    decided = (expected[:, 1] > artifact.threshold).astype(int).tolist()
    assert list(model.predict(X)) == decided
    pyfunc = mlflow.pyfunc.load_model("models:/churn@champion")
    assert list(pyfunc.predict(X)) == decided
    logged = store.get_run(outcome.run_id).data
    assert logged.params["calibration"] == method
    assert logged.params["threshold"] == "cost:5:1"
    assert logged.metrics["threshold"] == artifact.threshold
    assert logged.metrics["holdout_f1"] == trained.metrics["holdout_f1"]
    version = store.get_model_version("churn", outcome.version)
    assert float(version.tags["holdout_expected_calibration_error"]) == pytest.approx(
        logged.metrics["holdout_expected_calibration_error"], rel=1e-5
    )


def test_a_calibrated_champion_is_met_by_its_successor(store: MlflowClient) -> None:
    post_fit = PostFit("isotonic", FixedThreshold(0.3))
    trained, holdout = make("lightgbm", post_fit=post_fit)
    enroll(trained, holdout)

    successor, _ = make("lightgbm", run_id="TrainFlow/2")

    assert enroll(successor, holdout).reason.startswith("roc_auc 0.")


def test_the_artifact_is_in_the_same_version(store: MlflowClient) -> None:
    trained, holdout = make("lightgbm")

    outcome = enroll(trained, holdout)

    uri = f"models:/churn/{outcome.version}/{REGISTRY_PATH}"
    content = Path(mlflow.artifacts.download_artifacts(uri)).read_bytes()
    version = store.get_model_version("churn", outcome.version)
    assert content == trained.artifact
    assert version.tags[SHA256_TAG] == hashlib.sha256(content).hexdigest()
    assert version.tags["family"] == "lightgbm"
    assert float(version.tags["holdout_roc_auc"]) > 0.5


def test_trusted_types_are_all_that_our_pipelines_need(tmp_path: Path) -> None:
    import skops.io

    untrusted: set[str] = set()
    for family in ("logistic_regression", "lightgbm"):
        for n_classes, post_fit in (
            (2, PostFit()),
            (2, PostFit("sigmoid", FixedThreshold(0.3))),
            (3, PostFit("isotonic")),
        ):
            trained, _ = make(
                family, missing=True, n_classes=n_classes, post_fit=post_fit
            )
            skops.io.dump(trained.estimator, tmp_path / "model.skops")
            untrusted |= set(get_untrusted_types(file=tmp_path / "model.skops"))
    _, schema, rows, _ = make_mixed_rows()
    pipeline = PipelineFactory(LIGHTGBM, schema, seed=0).make_final_pipeline({})
    fitted = pipeline.fit(to_table(rows.X, schema), rows.y)
    skops.io.dump(fitted, tmp_path / "model.skops")
    untrusted |= set(get_untrusted_types(file=tmp_path / "model.skops"))

    assert untrusted == set(tracking.TRUSTED_TYPES)


def test_a_server_keeps_the_same(
    server: MlflowClient, capfd: pytest.CaptureFixture[str]
) -> None:
    trained, holdout = make()

    first = enroll(trained, holdout)
    second = enroll(trained, holdout)

    assert second == first == Registration(first.run_id, "1", "champion", first.reason)
    model = mlflow.sklearn.load_model("models:/churn@champion")
    assert len(model.classes_) == 2
    uri = f"models:/churn/1/{REGISTRY_PATH}"
    assert (
        Path(mlflow.artifacts.download_artifacts(uri)).read_bytes() == trained.artifact
    )
    assert "View run" not in capfd.readouterr().out


def test_registering_again_adds_nothing(store: MlflowClient) -> None:
    trained, holdout = make()
    first = enroll(trained, holdout)
    before = everything(store)

    second = enroll(trained, holdout)

    assert second == first
    assert everything(store) == before


@pytest.mark.parametrize(
    ("module", "step"),
    [
        (tracking, "log_details"),
        (tracking, "_log_model"),
        (tracking, "_create_version"),
        (promotion, "_compare"),
    ],
    ids=["details", "model", "version", "comparison"],
)
@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
def test_an_interrupted_registration_is_finished_and_adds_nothing_twice(
    module: ModuleType,
    step: str,
    done: bool,
    store: MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained, holdout = make()
    original = getattr(module, step)

    def interrupt(*arguments: Any) -> Any:
        if done:
            original(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, step, interrupt)
        with pytest.raises(KeyboardInterrupt):
            enroll(trained, holdout)

    outcome = enroll(trained, holdout)

    assert (outcome.version, outcome.alias) == ("1", "champion")
    state = everything(store)
    assert (state["runs"], state["versions"]) == (1, 1)
    assert state["inputs"] == [1]
    assert store.get_run(outcome.run_id).info.status == "FINISHED"
    # A score for each of two candidates, and the best score at the end.
    assert set(state["histories"].values()) == {1, 3}


def test_the_first_version_is_champion(store: MlflowClient) -> None:
    outcome = enroll(*make())

    assert (outcome.alias, outcome.reason) == (
        "champion",
        "no other version was champion",
    )
    assert aliases(store) == {"champion": "1"}


def of_policy(promotion: str, run_id: str = "TrainFlow/2", **changes: Any) -> Any:
    """Return the model that the first run makes too, of another run and policy."""
    parameters = FlowParameters(promotion=promotion, **changes)
    return make(run_id=run_id, parameters=parameters)


@pytest.mark.parametrize(
    ("promotion", "alias"),
    [("not_worse", "champion"), ("better", "challenger"), ("never", "challenger")],
)
def test_the_policy_decides_on_an_equal_version(
    promotion: str, alias: str, store: MlflowClient
) -> None:
    enroll(*make())

    outcome = enroll(*of_policy(promotion))

    assert outcome.alias == alias
    assert aliases(store)[alias] == "2" and len(aliases(store)) == (
        1 if alias == "champion" else 2
    )
    version = store.get_model_version("churn", "2")
    assert version.tags["previous_champion"] == "1"
    assert version.tags["decision"] == f"{alias}: {outcome.reason}"
    if promotion != "never":
        assert version.tags["promotion_rows"] == "60"
        assert float(version.tags["promotion_score_low"]) == 0


def test_the_decisions_of_flows_are_in_the_history(store: MlflowClient) -> None:
    enroll(*make())
    outcome = enroll(*of_policy("better"))
    enroll(*of_policy("better"))

    history = read_history(store, "churn")

    assert [(d.action, d.alias, d.came_from, d.to) for d in history.decisions] == [
        ("register", "champion", "", "1"),
        ("register", "challenger", "", "2"),
    ]
    last = history.decisions[-1]
    assert last.why == outcome.reason
    assert (last.git_commit, last.flow_run) == ("c0ffee", "TrainFlow/2")
    assert last.evidence["rows"] == 60 and last.evidence["score_low"] == 0
    assert set(history.outcomes.values()) == {"done"}


def test_nobody_is_champion_by_himself_under_never(store: MlflowClient) -> None:
    outcome = enroll(*of_policy("never"))

    assert (outcome.alias, outcome.has_champion) == ("challenger", False)
    assert "--promotion never" in outcome.reason


def test_an_artifact_beyond_the_limit_is_challenger(store: MlflowClient) -> None:
    outcome = enroll(*of_policy("not_worse", max_artifact_mib=0.0001))

    assert outcome.alias == "challenger"
    assert "MiB, more than --max_artifact_mib 0.0001" in outcome.reason


@pytest.mark.parametrize(
    ("limit", "alias", "words"),
    [
        (0.0, "champion", "One row takes 12.5 µs (median), 90 µs (99th percentile). "),
        (12.0, "challenger", "more in the median than --max_latency_us 12. To promote"),
    ],
)
def test_the_latency_is_told_and_may_be_limited(
    limit: float, alias: str, words: str, store: MlflowClient
) -> None:
    latency = ServedLatency(median_us=12.5, p99_us=90.0, n_calls=5000)
    enroll(*make())
    trained, holdout = of_policy("not_worse", max_latency_us=limit)

    outcome = enroll(replace(trained, latency=latency), holdout)

    assert outcome.alias == alias
    assert words in outcome.reason
    metrics = store.get_run(outcome.run_id).data.metrics
    assert metrics["row_latency_median_us"] == 12.5
    assert metrics["row_latency_p99_us"] == 90
    tags = store.get_model_version("churn", outcome.version).tags
    assert tags["row_latency_median_us"] == "12.5"


def test_segments_are_compared_and_told(store: MlflowClient) -> None:
    _, schema, train, holdout = make_mixed_rows()
    rows = join_rows(train, holdout)
    parts = [
        Rows(rows.X[part], rows.y[part]) for part in (slice(150), slice(150, None))
    ]
    parameters = FlowParameters(segment="active")

    for run_id in ("TrainFlow/1", "TrainFlow/2"):
        trained = train_family(
            "lightgbm", schema, *parts, run_id=run_id, parameters=parameters
        )
        outcome = enroll(trained, parts[1])

    assert outcome.alias == "champion"
    assert "2 segments of active compared; the lowest difference is" in outcome.reason


def test_a_champion_that_answers_nonsense_stays(
    store: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    enroll(*make())
    second = of_policy("not_worse")

    @contextmanager
    def open_odd(version: Any) -> Iterator[Any]:
        with open_opponent(version) as opponent:
            yield replace(opponent, model=Odd(opponent.model))

    monkeypatch.setattr(promotion, "open_opponent", open_odd)

    outcome = enroll(*second)

    assert outcome.alias == "challenger"
    assert r"on these rows: no \u001b[2J index. To promote" in outcome.reason


class Odd:
    """Another program's model, which fails in its own way."""

    def __init__(self, model: Any) -> None:
        self.classes_ = model.classes_
        self.feature_names_in_ = model.feature_names_in_

    def predict_proba(self, X: Any) -> Any:
        raise IndexError("no \x1b[2J index")


def test_a_promotion_by_hand_during_the_comparison_leads_to_another(
    store: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    enroll(*make())
    enroll(*of_policy("better"))
    original = promotion._judge
    met = []

    def meddle(champion: Any, *arguments: Any) -> Any:
        met.append(str(champion.version))
        store.set_registered_model_alias("churn", "champion", "2")
        return original(champion, *arguments)

    monkeypatch.setattr(promotion, "_judge", meddle)

    outcome = enroll(*of_policy("not_worse", "TrainFlow/3"))

    assert met == ["1", "2"]
    assert "version 2 has 0." in outcome.reason
    assert read_history(store, "churn").decisions[-1].came_from == "2"


def test_a_flow_that_is_overtaken_is_challenger(
    store: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flow is cut short after its decision, and somebody else promotes meanwhile."""
    enroll(*make())
    enroll(*of_policy("better"))
    third = of_policy("not_worse", "TrainFlow/3")
    with monkeypatch.context() as patch:
        patch.setattr(promotion, "carry_out", write_only)
        with pytest.raises(KeyboardInterrupt):
            enroll(*third)
    order = Order("churn", "by hand", find_clerk())
    promote(store, order, "2")

    outcome = enroll(*third)

    assert outcome.alias == "challenger"
    assert "is overtaken by decision 4 (promote, champion 1 -> 2" in outcome.reason
    assert aliases(store) == {"champion": "2", "challenger": "3"}
    assert enroll(*third) == outcome


def write_only(client: MlflowClient, name: str, decision: Any) -> None:
    client.set_registered_model_tag(name, decision.tag, write_decision(decision))
    raise KeyboardInterrupt


def test_a_champion_that_was_deleted_is_said(
    store: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite takes the alias away with the version; other stores may not."""
    enroll(*make())
    original = MlflowClient.get_model_version

    def forget(client: MlflowClient, name: str, number: str) -> Any:
        return original(client, name, "99" if number == "1" else number)

    monkeypatch.setattr(MlflowClient, "get_model_version", forget)

    outcome = enroll(*of_policy("not_worse"))

    assert outcome.alias == "challenger"
    assert outcome.reason.startswith("version 1, the champion, was deleted. To promote")


def test_a_better_version_is_champion(store: MlflowClient) -> None:
    candidates = [
        make(family, run_id=family) for family in ("logistic_regression", "lightgbm")
    ]
    worse, better = sorted(
        candidates, key=lambda item: item[0].metrics["holdout_roc_auc"]
    )
    enroll(*worse)

    outcome = enroll(*better)

    assert outcome.alias == "champion"
    assert (
        outcome.reason.startswith("roc_auc 0.") and "version 1 has 0." in outcome.reason
    )
    assert aliases(store) == {"champion": "2"}


def test_an_interrupted_promotion_remembers_the_champion_before_it(
    store: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidates = [
        make(family, run_id=family) for family in ("logistic_regression", "lightgbm")
    ]
    worse, better = sorted(
        candidates, key=lambda item: item[0].metrics["holdout_roc_auc"]
    )
    enroll(*worse)
    original = MlflowClient.set_registered_model_alias

    def interrupt(client: MlflowClient, *arguments: Any) -> None:
        original(client, *arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_registered_model_alias", interrupt)
        with pytest.raises(KeyboardInterrupt):
            enroll(*better)

    outcome = enroll(*better)

    assert aliases(store) == {"champion": "2"}
    assert "version 1 has 0." in outcome.reason
    assert store.get_model_version("churn", "2").tags["previous_champion"] == "1"


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("e", "d", "c", "b", "a"), "its columns are in another order"),
        (("a", "b", "c", "d", "x"), "its columns are 'a', 'b', 'c', 'd', 'e'"),
    ],
    ids=["order", "names"],
)
def test_a_champion_of_other_columns_stays(
    names: tuple[str, ...], reason: str, store: MlflowClient
) -> None:
    """Clients that send values by position would not notice that the columns moved."""
    schema, train, holdout = make_rows()
    for run_id, columns in (("TrainFlow/1", tuple("abcde")), ("TrainFlow/2", names)):
        renamed = replace(schema, features=tuple(map(Feature, columns)))
        trained = train_family(
            "logistic_regression", renamed, train, holdout, run_id=run_id
        )
        outcome = enroll(trained, holdout)

    assert outcome.alias == "challenger"
    assert f"version 1 cannot be compared on these rows: {reason}" in outcome.reason


def test_a_champion_of_other_classes_stays_and_the_way_is_shown(
    store: MlflowClient,
) -> None:
    enroll(*make())

    outcome = enroll(*make(n_classes=3, run_id="TrainFlow/2"))

    assert outcome.alias == "challenger"
    assert (
        "version 1 cannot be compared on these rows: its classes are [0, 1]"
        in outcome.reason
    )
    assert "registry.py promote 2 --model_name churn --reason" in outcome.reason


def test_a_champion_that_cannot_be_loaded_stays(store: MlflowClient) -> None:
    """As another program's model, which has no scored twin."""
    first = enroll(*make())
    store.delete_model_version_tag("churn", "1", "final_fit")
    uri = store.get_model_version_download_uri("churn", first.version)
    (Path(mlflow.artifacts.download_artifacts(uri)) / "model.skops").write_bytes(
        b"no zip"
    )

    outcome = enroll(*make(run_id="TrainFlow/2"))

    assert outcome.alias == "challenger"
    assert "it cannot be loaded" in outcome.reason


def test_a_branch_that_failed_is_in_the_tags(store: MlflowClient) -> None:
    trained, holdout = make()

    outcome = enroll(replace(trained, failures={"lightgbm": "out of leaves"}), holdout)

    assert store.get_run(outcome.run_id).data.tags["failed_lightgbm"] == "out of leaves"


def test_the_same_run_gives_the_same_outcome_in_another_store(
    store: MlflowClient,
) -> None:
    outcomes = []
    for folder in ("one", "two"):
        os.mkdir(folder)
        os.chdir(folder)
        mlflow.set_tracking_uri(f"sqlite:///{os.getcwd()}/mlflow.db")
        trained, holdout = make()
        outcome = enroll(trained, holdout)
        outcomes.append(
            (Registration("", *(outcome.version, outcome.alias, outcome.reason)))
        )
        os.chdir("..")

    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        (
            "http://me:secret@127.0.0.1:9",
            "http://***@127.0.0.1:9 (MLFLOW_TRACKING_URI): API request",
        ),
        ("postgresql://me:secret@127.0.0.1:9/db", "postgresql://***@127.0.0.1:9/db"),
        ("sqlite:///broken.db", "file is not a database"),
        ("nowhere://x", "nowhere://x"),
        ("file:///tmp/mlruns", "maintenance mode"),
    ],
    ids=["http", "postgresql", "no database", "no scheme", "folder"],
)
def test_a_registry_that_is_not_reached_is_named(
    uri: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.db").write_text("far from being a database " * 10)
    mlflow.set_tracking_uri(uri)
    try:
        with pytest.raises(RegistryError) as caught:
            prepare_store("exp", "churn")
    finally:
        mlflow.set_tracking_uri("")

    message = str(caught.value)
    assert words in message
    assert "\n" not in message and "secret" not in message
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ


def test_the_patience_that_a_user_set_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    try:
        with pytest.raises(RegistryError):
            prepare_store("exp", "churn")
    finally:
        mlflow.set_tracking_uri("")

    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "..",
        "a/b",
        "a:b",
        "a@b",
        "it's",
        'a"b',
        "a#2",
        "a?v=2",
        "a%2Fb",
        "a;b",
        "a\nb",
        " a",
    ],
)
def test_a_name_that_the_registry_would_refuse_is_refused_first(name: str) -> None:
    with pytest.raises(RegistryError, match="--model_name .* is not allowed"):
        prepare_store("exp", name)


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=20))
@example("a#2")
def test_the_uris_of_mlflow_and_of_the_server_say_every_name_that_is_allowed(
    name: str,
) -> None:
    try:
        check_model_name(name)
    except RegistryError:
        return
    uri = f"models:/{name}@champion"

    assert ModelUri.parse(uri) == ModelUri(name, "champion", None)
    parsed = _parse_model_uri(uri)
    assert (parsed.name, parsed.alias) == (name, "champion")


@pytest.mark.parametrize(
    ("experiment", "model_name", "message"),
    [
        ("exp", "m" * 257, "--model_name has 257 characters, and MLflow takes 256"),
        ("e" * 257, "m", "--experiment has 257 characters, and MLflow takes 256"),
        (" ", "m", "--experiment ' ' is not allowed"),
    ],
)
def test_names_that_no_database_would_hold_are_refused_first(
    experiment: str, model_name: str, message: str
) -> None:
    with pytest.raises(RegistryError, match=message):
        prepare_store(experiment, model_name)


def test_a_flow_has_a_run_of_its_own_whatever_the_environment_says(
    store: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As inside `mlflow run` and on managed platforms, where a run is open already."""
    other = store.create_run(store.create_experiment("theirs"), run_name="theirs")
    monkeypatch.setenv("MLFLOW_RUN_ID", other.info.run_id)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", other.info.experiment_id)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "nowhere")

    line = prepare_store("exp", "churn")
    enrolled = enroll(*make())

    assert "MLFLOW_RUN_ID, MLFLOW_EXPERIMENT_ID, MLFLOW_EXPERIMENT_NAME is ign" in line
    after = store.get_run(other.info.run_id)
    assert (after.info, after.data.metrics) == (other.info, {})
    own = store.get_run(enrolled.run_id)
    assert store.get_experiment(own.info.experiment_id).name == "exp"
    assert os.environ["MLFLOW_RUN_ID"] == other.info.run_id
