"""The flow as its users run it, from the table to the registered model and the server."""

import base64
import gzip
import json
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer

from grpc_server.model import load_model
from prediction import PredictionClient
from training.data.schema_file import Override, parse_overrides
from training.parameters import FlowParameters

from support import ROOT, running_server
from training_support import plan_here, search_here

pytestmark = pytest.mark.slow

FLOW = str(ROOT / "flows" / "train_flow.py")
SMALL_GRIDS = """
[logistic_regression]
C = [0.1, 1.0]
[lightgbm]
n_estimators = [10, 20]
num_leaves = [7]
"""
# LightGBM needs two leaves at least.
BROKEN_LIGHTGBM = SMALL_GRIDS.replace("num_leaves = [7]", "num_leaves = [1]")

Completed = subprocess.CompletedProcess[str]


def run_flow(folder: Path, *arguments: str, grids: str | None = None) -> Completed:
    """Run the flow in `folder`, as root without a name if that is who runs the tests."""
    options = []
    if grids is not None:
        (folder / "grids.toml").write_text(grids)
        options = ["--config", "search", "grids.toml"]
    nameless = {"USER", "USERNAME", "LOGNAME", "SUDO_USER"}
    environment = {
        name: value for name, value in os.environ.items() if name not in nameless
    }
    return subprocess.run(
        [sys.executable, FLOW, *options, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )


def spoken(result: Completed) -> str:
    """Return the output of a run, without the complaints of some interpreters.

    Python 3.13.0 to 3.13.2 complain of any gzip file whose buffer is gone before it, such as
    Metaflow's: https://github.com/python/cpython/issues/129726
    """
    complaint = (
        r"Exception ignored in: <gzip .*\n(Traceback .*\n(  .*\n)+ValueError: .*\n)"
    )
    return re.sub(complaint, "", result.stdout + result.stderr)


def tracking(folder: Path, code: str) -> str:
    """Ask the store in `folder`, in a process that has it as its working folder."""
    program = f"import json, mlflow; client = mlflow.MlflowClient(); {code}"
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout


def read_card(path: Path) -> str:
    """Return the report in a card, which its page holds encoded."""
    encoded = re.search(r'__MF_DATA__\["[^"]+"\] = "([^"]+)"', path.read_text())
    assert encoded is not None
    (page,) = json.loads(base64.b64decode(encoded[1]))["components"]
    (section,) = page["contents"]
    (frame,) = section["contents"]
    quoted = re.search(r'srcdoc="([^"]*)"', frame["source"])
    assert quoted is not None
    return unescape(quoted[1])


def fetch(folder: Path, name: str) -> Path:
    """Fetch the champion as the server does; return the folder to serve."""
    command = [
        sys.executable,
        "-m",
        "grpc_server.model_sync",
        f"models:/{name}@champion",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [*command, "--model-dir", "model/current"],
        cwd=folder,
        env=environment,
        check=True,
    )
    return folder / "model" / "current"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Completed]:
    """A run on the embedded data set with the grids of the project, in a folder with a space."""
    folder = tmp_path_factory.mktemp("a folder")
    result = run_flow(folder, "run")
    assert result.returncode == 0, result.stdout + result.stderr
    return folder, result


def test_the_run_says_what_it_did(trained: tuple[Path, Completed]) -> None:
    _, result = trained

    for words in (
        "breast_cancer: 569 rows, 30 features, classes 0 (212), 1 (357)",
        "455 rows to learn from, 114 locked away",
        "Logistic Regression: 7 candidates on 5 folds, neg_log_loss",
        "LightGBM: 150 candidates on 5 folds, neg_log_loss",
        "On the hold-out: accuracy 0.9",
        "µs (99th percentile) in the server's code",
        "has learned from all 569 rows; the metrics are those of its scored twin",
        "tabular_classifier version 1 is champion",
        "python -m grpc_server --model-uri models:/tabular_classifier@champion",
    ):
        assert words in result.stdout, result.stdout[-2000:]
    assert "Warning" not in spoken(result)
    assert "Traceback" not in spoken(result)


def test_the_registered_model_is_served_with_the_probabilities_of_the_run(
    trained: tuple[Path, Completed],
) -> None:
    """The server answers every row of the data set as the mlflow.sklearn model does."""
    folder, _ = trained
    code = (
        "from sklearn.datasets import load_breast_cancer; "
        "X = load_breast_cancer(as_frame=True).data; "
        "model = mlflow.sklearn.load_model('models:/tabular_classifier@champion'); "
        "print(json.dumps([X.to_numpy().tolist(), model.predict_proba(X).tolist()]))"
    )
    rows, expected = json.loads(tracking(folder, code))

    model_dir = fetch(folder, "tabular_classifier")
    is_exact = load_model(model_dir).provenance.family == "lightgbm"
    with running_server(model_dir) as server:
        with PredictionClient(f"127.0.0.1:{server.port}") as client:
            actual = [client.predict(row).probabilities for row in rows]

    np.testing.assert_allclose(actual, expected, rtol=0, atol=0 if is_exact else 1e-12)


def test_rows_travel_by_reference(trained: tuple[Path, Completed]) -> None:
    """No artifact holds the rows."""
    folder, _ = trained
    stored = {path.name: path for path in folder.glob(".metaflow/TrainFlow/files/*/*")}

    artifacts = list(folder.glob(".metaflow/TrainFlow/data/*/*"))

    assert set(stored) == {
        "train-X.npy",
        "train-y.npy",
        "holdout-X.npy",
        "holdout-y.npy",
    }
    X = np.load(stored["train-X.npy"])
    assert X.shape == (455, 30)
    assert artifacts
    row = X[0].tobytes()
    for path in artifacts:
        stored_bytes = path.read_bytes()
        is_packed = stored_bytes.startswith(b"\x1f\x8b")
        assert row not in (gzip.decompress(stored_bytes) if is_packed else stored_bytes)


@pytest.mark.parametrize(
    ("step", "n_scores"),
    # Candidates of the project's grids, on five folds.
    [("search_logistic_regression", 7 * 5), ("search_lightgbm", 150 * 5)],
)
def test_a_search_shows_in_its_card_how_far_it_is(
    step: str, n_scores: int, trained: tuple[Path, Completed]
) -> None:
    folder, _ = trained
    pattern = f".metaflow/mf.cards/TrainFlow/runs/*/steps/{step}/tasks/*/runtime/*.json"

    # The page of a running task asks for this again and again.
    (path,) = folder.glob(pattern)
    parts = {
        part["type"]: part for part in json.loads(path.read_text())["data"].values()
    }

    assert parts["progressBar"]["max"] == parts["progressBar"]["value"] == n_scores
    assert f"{n_scores} of {n_scores} scores" in parts["progressBar"]["details"]
    points = parts["vegaChart"]["spec"]["data"]["values"]
    assert points[-1]["seconds"] > 0
    assert -0.2 < points[-1]["score"] <= 0


def test_the_report_has_pictures(trained: tuple[Path, Completed]) -> None:
    folder, _ = trained

    result = run_flow(folder, "card", "get", "select_best", "card.html")

    assert result.returncode == 0, result.stderr
    card = read_card(folder / "card.html")
    assert "ROC on the hold-out" in card
    assert "could not be drawn" not in card
    # The version's run has the same, with the verdict.
    (report,) = folder.glob("mlruns/*/*/artifacts/report.html")
    page = report.read_text()
    assert "is <strong>champion</strong>: <bdi>no other version was champion" in page
    assert card.count("<figure>") == page.count("<figure>") >= 20


def test_the_same_run_again_gives_the_same_metrics_and_changes_no_champion(
    trained: tuple[Path, Completed],
) -> None:
    folder, _ = trained

    result = run_flow(folder, "run", "--promotion", "better")

    assert "tabular_classifier version 2 is challenger" in result.stdout
    assert "neg_log_loss is not surely better" in result.stdout
    card = run_flow(folder, "card", "get", "register", "verdict.html")
    assert card.returncode == 0, card.stderr
    verdict = read_card(folder / "verdict.html")
    assert "is not surely better" in verdict
    assert "Version 2 minus version 1, better is positive" in verdict
    metrics = tracking(
        folder,
        "print(json.dumps([[run.data.metrics, run.data.tags['family'], "
        "{name: text for name, text in run.data.params.items() if name != 'promotion'}] "
        "for run in mlflow.search_runs(experiment_names=['tabular_classifier'], "
        "output_format='list')]))",
    )
    first, second = json.loads(metrics)
    for metrics_of_run, *_ in (first, second):
        median_us = metrics_of_run.pop("row_latency_median_us")
        assert 0 < median_us <= metrics_of_run.pop("row_latency_p99_us")
    assert first == second
    assert first[0]["holdout_roc_auc"] > 0.98
    aliases = tracking(
        folder,
        "print(client.get_registered_model('tabular_classifier').aliases['champion'])",
    )
    assert aliases.strip() == "1"


@pytest.fixture
def five_features(tmp_path: Path) -> str:
    """A table of five numbers and a label, as the predecessor's clients send."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(120, 5)), columns=list("abcde"))
    frame["sick"] = np.where(frame["a"] + frame["e"] > 0, 1, 0)
    frame.to_csv(tmp_path / "table.csv", index=False)
    return "table.csv"


def test_a_branch_that_fails_does_not_lose_the_other(
    tmp_path: Path,
) -> None:
    """With one row of a class in a fold, early stopping has none for its slice."""
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(120, 5)))
    frame.columns = list("abcde")
    frame["sick"] = (frame["a"] >= frame["a"].nlargest(3).min()).astype(int)
    frame.to_csv(tmp_path / "table.csv", index=False)
    arguments = ("--data", "table.csv", "--target", "sick", "--model_name", "five")
    flags = ("--folds", "2", "--test_fraction", "0.33", "--early_stopping_rounds", "5")

    result = run_flow(tmp_path, "run", *arguments, *flags, grids=SMALL_GRIDS)

    assert result.returncode == 0, result.stdout + result.stderr
    assert "LightGBM has no candidate: LightGBM: " in result.stdout
    assert "The least populated class" in result.stdout
    assert "five version 1 is champion" in result.stdout
    with running_server(fetch(tmp_path, "five")) as server:
        with PredictionClient(f"127.0.0.1:{server.port}") as client:
            answer = client.predict([9.0, 0.0, 0.0, 0.0, 0.0])
    assert (answer.model, answer.prediction) == ("Logistic Regression", 1)
    tags = tracking(
        tmp_path,
        "print(mlflow.search_runs(experiment_names=['tabular_classifier'], "
        "output_format='list')[0].data.tags)",
    )
    assert "failed_lightgbm" in tags


def test_calibration_and_threshold_go_from_the_flags_to_the_wire(
    tmp_path: Path,
) -> None:
    """They show in the report, in MLflow, in the scikit-learn model and in the server's answers."""
    flags = ("--calibration", "isotonic", "--threshold", "cost:5:1")
    result = run_flow(tmp_path, "run", *flags, grids=SMALL_GRIDS)
    assert result.returncode == 0, result.stdout + result.stderr

    assert "Its probabilities are calibrated: isotonic" in result.stdout
    assert "(--threshold cost:5:1)" in result.stdout
    assert "expected_calibration_error 0.0" in result.stdout
    assert "Traceback" not in spoken(result)
    run_flow(tmp_path, "card", "get", "select_best", "card.html")
    card = read_card(tmp_path / "card.html")
    assert "Its probabilities are calibrated: isotonic" in card
    assert "Reliability on the hold-out" in card
    code = (
        "version = client.get_model_version_by_alias('tabular_classifier', 'champion'); "
        "data = client.get_run(version.run_id).data; "
        "from sklearn.datasets import load_breast_cancer; "
        "X = load_breast_cancer(as_frame=True).data; "
        "model = mlflow.sklearn.load_model('models:/tabular_classifier@champion'); "
        "print(json.dumps([data.params, data.metrics, X.to_numpy().tolist(), "
        "model.predict_proba(X).tolist(), model.predict(X).tolist()]))"
    )
    params, metrics, rows, expected, decided = json.loads(tracking(tmp_path, code))
    assert (params["calibration"], params["threshold"]) == ("isotonic", "cost:5:1")

    with running_server(fetch(tmp_path, "tabular_classifier")) as server:
        with PredictionClient(f"127.0.0.1:{server.port}") as client:
            answers = [client.predict(row) for row in rows]
            threshold = client.get_model().threshold

    actual = [answer.probabilities for answer in answers]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)
    assert [answer.prediction for answer in answers] == decided
    assert threshold == metrics["threshold"] < 0.5


def test_an_ensemble_goes_from_the_flag_to_the_wire(tmp_path: Path) -> None:
    """The members show in the report and in the description; a frame has the model's answers."""
    grids = (
        "[logistic_regression]\nC = [0.1, 1.0]\n[lightgbm]\ncolsample_bytree = [0.5, 1.0]\n"
        "num_leaves = [4]\nn_estimators = [30, 120]\n"
    )
    flags = ("--ensemble", "5", "--folds", "3")
    result = run_flow(tmp_path, "run", *flags, grids=grids)
    assert result.returncode == 0, result.stdout + result.stderr

    assert "of 6 candidates (--ensemble 5): neg_log_loss" in result.stdout
    assert "Traceback" not in spoken(result)
    run_flow(tmp_path, "card", "get", "select_best", "card.html")
    assert "neg_log_loss alone  member" in read_card(tmp_path / "card.html")
    frame = load_breast_cancer(as_frame=True).data
    code = (
        "from sklearn.datasets import load_breast_cancer; "
        "X = load_breast_cancer(as_frame=True).data; "
        "uri = 'models:/tabular_classifier@champion'; "
        "print(json.dumps([mlflow.sklearn.load_model(uri).predict_proba(X).tolist(), "
        "mlflow.pyfunc.load_model(uri).predict(X).tolist()]))"
    )
    expected, decided = json.loads(tracking(tmp_path, code))

    with running_server(fetch(tmp_path, "tabular_classifier")) as server:
        with PredictionClient(f"127.0.0.1:{server.port}") as client:
            answer, model = client.predict_frame(frame), client.get_model()
            single = client.predict(list(frame.iloc[0])).probabilities

    assert model.model == "Ensemble"
    assert 2 <= len(model.members) <= 5
    assert sum(member.weight for member in model.members) == pytest.approx(1)
    actual = answer[["probability_0", "probability_1"]].to_numpy()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)
    assert single == tuple(actual[0])
    assert list(map(int, answer["label"])) == decided


def test_a_search_in_three_shards_gives_the_bits_of_one(
    tmp_path: Path, five_features: str
) -> None:
    arguments = ("--data", five_features, "--target", "sick", "--shards", "3")
    program = (
        "import json; from metaflow import Flow, namespace; namespace(None); "
        "result = Flow('TrainFlow').latest_run['merge_lightgbm'].task.data.result; "
        "print(json.dumps({key: list(map(str, values)) "
        "for key, values in result.cv_results.items()}))"
    )
    parameters = FlowParameters(data=str(tmp_path / five_features), target="sick")
    plan = plan_here(tmp_path, parameters, tomllib.loads(SMALL_GRIDS))
    whole = search_here(plan, "lightgbm").cv_results

    result = run_flow(tmp_path, "run", *arguments, grids=SMALL_GRIDS)
    assert result.returncode == 0, result.stdout + result.stderr
    read = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "flows"), "USERNAME": "tester"},
        capture_output=True,
        text=True,
    )

    assert (
        "LightGBM: 2 candidates on 5 folds, neg_log_loss, shard 3 of 3" in result.stdout
    )
    merged = json.loads(read.stdout)
    assert list(merged) == list(whole)
    for key, values in whole.items():
        if "_time" not in key:
            assert merged[key] == list(map(str, values)), key


def one_line(result: Completed) -> str:
    """Return the line under the heading of a user's mistake; there has to be no traceback."""
    output = spoken(result)
    assert result.returncode != 0
    assert "Traceback" not in output
    lines = [re.sub(r"^.*\(pid \d+\)\] *", "", line) for line in output.splitlines()]
    return lines[lines.index("The run stops here:") + 1].strip()


def nothing_registered(folder: Path) -> bool:
    return not (folder / "mlflow.db").exists() or "[]" in tracking(
        folder, "print(list(client.search_registered_models()))"
    )


def test_a_value_that_cannot_be_fitted_stops_the_run_before_the_search(
    tmp_path: Path, five_features: str
) -> None:
    arguments = ("--data", five_features, "--target", "sick")

    result = run_flow(tmp_path, "run", *arguments, grids=BROKEN_LIGHTGBM)

    message = one_line(result)
    assert message.startswith("search.lightgbm.num_leaves: no candidate with 1 can be")
    assert nothing_registered(tmp_path)


def test_errors_and_columns_are_shown_as_they_are_on_every_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Metaflow takes asterisks for emphasis; this terminal has no Cyrillic letters."""
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    frame = pd.DataFrame(
        {"возраст": range(30), "*card* **no**": [2**53 + 1] * 29 + [1]}
    )
    frame["target"] = [0, 1] * 15
    frame.to_csv(tmp_path / "table.csv", index=False)

    message = one_line(run_flow(tmp_path, "run", "--data", "table.csv"))

    assert message.startswith("column '*card* **no**' has a cell that has more digits")
    assert "(2**53)" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--data", "table.csv", "--target", "ill"],
            "table.csv has no column 'ill' for --target; its columns are 'a', 'b', 'c', 'd', 'e', "
            "'sick'",
        ),
        (["--data", "red\x1b[31m.doc"], r"red\u001b[31m.doc is not one of .csv"),
    ],
    ids=["no column", "no name to print"],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    arguments: list[str], message: str, tmp_path: Path, five_features: str
) -> None:
    result = run_flow(tmp_path, "run", *arguments)

    assert one_line(result).startswith(message)
    assert nothing_registered(tmp_path)


def test_a_grid_file_that_is_not_toml_is_refused_without_a_traceback(
    tmp_path: Path,
) -> None:
    result = run_flow(tmp_path, "run", grids="[lightgbm")

    assert result.returncode != 0
    assert "a file of --config is not TOML" in result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr


def test_the_package_for_pods_holds_training_and_nothing_of_the_server(
    tmp_path: Path,
) -> None:
    result = run_flow(tmp_path, "package", "list")

    assert result.returncode == 0, result.stderr
    listed = result.stdout + result.stderr
    folder = ROOT / "flows" / "training"
    packaged = {path.relative_to(folder) for path in folder.rglob("*.py")}
    assert all(f"flows/training/{name}" in listed for name in packaged)
    assert "flows/run_files.py" in listed
    assert "grpc_server" not in listed


def test_the_flow_imports_nothing_heavy_at_its_top(tmp_path: Path) -> None:
    """Every task imports the file; a heavy import there is paid for in each of them."""
    program = (
        f"import runpy, sys; sys.path.insert(0, {str(ROOT / 'flows')!r}); "
        f"runpy.run_path({FLOW!r}); "
        "print(sorted({'lightgbm', 'mlflow', 'numpy', 'pandas', 'sklearn'} & set(sys.modules)))"
    )

    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    assert result.stdout == "[]\n"


def test_the_help_explains_every_parameter(tmp_path: Path) -> None:
    result = run_flow(tmp_path, "run", "--help")

    for field in fields(FlowParameters):
        assert f"--{field.name}" in result.stdout


@pytest.mark.parametrize("option", ["--with=kubernetes:cpu=2", "--with kubernetes"])
def test_a_table_that_no_pod_sees_is_refused_before_a_pod_starts(
    option: str, tmp_path: Path
) -> None:
    (tmp_path / "table.csv").write_text("a,target\n1,0\n2,1\n")

    result = run_flow(tmp_path, "run", *option.split(), "--data", "table.csv")

    assert result.returncode == 1
    assert result.stderr.startswith("--data 'table.csv' is a path on this machine")
    assert "s3:// URL" in result.stderr
    assert not list(tmp_path.glob(".metaflow*"))


def write_mixed_table(folder: Path) -> None:
    """Write a table with columns of all kinds, and a schema file that overrides one."""
    rng = np.random.default_rng(0)
    n_rows = 300
    city = rng.choice(["Oslo", "Rome", "Ulm"], n_rows)
    age = rng.normal(50, 10, n_rows)
    smoker = rng.random(n_rows) < 0.3
    risk = age / 10 + 2 * smoker + 2 * (city == "Rome") + rng.normal(0, 1, n_rows)
    frame = pd.DataFrame(
        {
            "name": [f"n{row}" for row in range(n_rows)],
            "city": np.where(np.arange(n_rows) % 7, city, ""),
            "age": age,
            "smoker": smoker,
            "ward": rng.integers(1, 5, n_rows),
            "signed": 20240101 + np.arange(n_rows) % 28,
            "weight": rng.random(n_rows),
            "who": rng.integers(0, 60, n_rows),
            "outcome": np.where(risk > 6.5, "ill", "well"),
        }
    )
    frame.loc[3, "outcome"] = None
    frame.to_csv(folder / "table.csv", index=False)
    (folder / "schema.toml").write_text(
        '[ward]\nkind = "categorical"\nunknown = "refuse"\n'
    )


def test_a_table_of_all_kinds_is_taken_as_it_is(tmp_path: Path) -> None:
    write_mixed_table(tmp_path)
    options = ["--data", "table.csv", "--target", "outcome", "--folds", "3"]
    options += ["--weight", "weight", "--group", "who"]

    strict = run_flow(tmp_path, "run", *options, "--strict")
    schema = ("--config", "schema", "schema.toml")
    result = run_flow(tmp_path, *schema, "run", *options, grids=SMALL_GRIDS)
    logged = tracking(
        tmp_path,
        "version = client.get_model_version_by_alias('tabular_classifier', 'champion'); "
        "print(mlflow.artifacts.load_text(f'runs:/{version.run_id}/schema.toml'))",
    )

    assert "the label is missing in 1 rows, first in row 4" in strict.stdout
    for words in (
        "table.csv: 299 rows, 5 features, classes ill (",
        "1 numeric: age",
        "1 boolean: smoker",
        "2 categorical, 1 of them with gaps: city (3 categories), ward (4 categories)",
        "not used: name: it is an identifier",
        "1 date: signed (days, weekday)",
        "column 'signed': numbers such as",
        "1 rows have no label, first row 4; they are left out",
        "tabular_classifier version 1 is champion",
    ):
        assert words in result.stdout, result.stdout[-2000:]
    assert "as GridSearchCV does" not in result.stdout
    overrides = parse_overrides(tomllib.loads(logged))
    assert overrides["ward"] == Override("categorical", "refuse")
    assert overrides["signed"].kind == "date" and overrides["name"] == Override("drop")
    assert list(overrides)[:5] == ["age", "smoker", "signed", "city", "ward"]
