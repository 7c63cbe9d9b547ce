"""The client's command line: what it prints, where, and how it exits."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from grpc_health.v1 import health, health_pb2

import prediction
from prediction.__main__ import main
from prediction.v1 import prediction_service_pb2 as pb

from scripted_server import (
    PREDICTION,
    ScriptedServicer,
    scripted_server,
    status_of,
    unused_target,
)
from wire import bad_request

SERVICE = "prediction.v1.PredictionService"
PREDICTION_JSON = {
    "model": "LightGBM",
    "prediction": 1,
    "label": "1",
    "probabilities": [0.25, 0.75],
    "model_version": "7",
}


@pytest.fixture
def servicer() -> ScriptedServicer:
    return ScriptedServicer()


@pytest.fixture
def target(servicer: ScriptedServicer) -> Iterator[str]:
    with scripted_server(servicer) as target:
        yield target


def run(*arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run the command line as its user does."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(prediction.__file__).parent.parent),
    }
    return subprocess.run(
        [sys.executable, "-m", "prediction", *arguments],
        env=environment,
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def set_stdin(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def one_line(text: str) -> str:
    """Return the only line of a text."""
    (line,) = text.splitlines()
    return line


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--features", "1.5,2"], [1.5, 2.0]),
        (["--features", " 1e3, -2 "], [1000.0, -2.0]),
        (["--features", "-1.5,2"], [-1.5, 2.0]),
        (["--features=-.5,2"], [-0.5, 2.0]),
    ],
)
def test_predict_takes_features(
    target: str,
    servicer: ScriptedServicer,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    expected: list[float],
) -> None:
    code = main(["predict", "--target", target, *arguments])

    assert code == 0
    assert servicer.requests == [pb.PredictRequest(features=expected)]
    assert list(json.loads(capsys.readouterr().out).items()) == list(
        PREDICTION_JSON.items()
    )


@pytest.mark.parametrize("source", ["argument", "file", "stdin"])
def test_predict_takes_a_record(
    target: str,
    servicer: ScriptedServicer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    source: str,
) -> None:
    record = '{"mean radius": 17.99, "größe": null, "city": "Åre", "smoker": true}'
    file = tmp_path / "record.json"
    file.write_text(record, encoding="utf-8")
    set_stdin(monkeypatch, record.encode())
    argument = {"argument": record, "file": f"@{file}", "stdin": "-"}[source]

    code = main(["predict", "--target", target, "--record", argument])

    assert code == 0
    (request,) = servicer.requests
    assert MessageToDict(request.record) == json.loads(record)


def test_predict_prints_the_explanation_that_was_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    explained = pb.PredictResponse()
    explained.CopyFrom(PREDICTION)
    explained.explanation.label = "größer"
    explained.explanation.score = 1.5
    explained.explanation.contributions.add(feature="a", value=-2.0)
    servicer = ScriptedServicer(explained)

    with scripted_server(servicer) as target:
        arguments = ["--features", "1", "--explain", "3"]
        code = main(["predict", "--target", target, *arguments])

    assert code == 0
    assert servicer.requests[0].explain_top_k == 3
    output = capsys.readouterr().out
    assert '"größer"' in output
    assert json.loads(output) == {
        **PREDICTION_JSON,
        "explanation": {
            "label": "größer",
            "score": 1.5,
            "base": 0.0,
            "contributions": [{"feature": "a", "value": -2.0}],
        },
    }


@pytest.mark.parametrize("count", ["0", "-1", "2.5", "all", "1" * 10])
def test_a_wrong_number_of_features_to_explain_by_is_bad_usage(
    capsys: pytest.CaptureFixture[str], count: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["predict", "--features", "1", f"--explain={count}"])

    assert caught.value.code == 2
    assert f"'{count}' is not a number of features; give 1" in capsys.readouterr().err


def test_predict_sends_the_timeout(target: str, servicer: ScriptedServicer) -> None:
    main(
        ["predict", "--target", target, "--timeout-seconds", "1000", "--features", "1"]
    )

    assert servicer.seconds_left == [pytest.approx(1000, rel=0.5)]


def test_model_prints_the_schema_in_a_stable_order(
    capsys: pytest.CaptureFixture[str],
) -> None:
    response = pb.GetModelResponse(
        model="LightGBM",
        classes=["0", "1"],
        threshold=0.5,
        metrics={"log_loss": float("inf"), "roc_auc": 0.75},
    )
    response.features.add(name="a", kind=pb.FEATURE_KIND_NUMERIC)
    response.create_time.FromSeconds(1_700_000_000)

    with scripted_server(ScriptedServicer(response)) as target:
        code = main(["model", "--target", target])

    printed = json.loads(capsys.readouterr().out)
    assert code == 0
    assert list(printed) == [
        "model",
        "registered_model",
        "model_version",
        "run_id",
        "features",
        "classes",
        "threshold",
        "metrics",
        "create_time",
        "load_time",
        "calibration",
        "members",
        "wanted_version",
        "refusal",
        "registry_contact_time",
        "canary",
        "shadow",
        "takes_packed_rows",
    ]
    assert printed["features"] == [
        {
            "name": "a",
            "kind": "numeric",
            "nullable": False,
            "categories": [],
            "refuse_unknown": False,
            "format": "",
        }
    ]
    assert printed["calibration"] == "unspecified"
    assert printed["metrics"] == {"log_loss": None, "roc_auc": 0.75}
    assert printed["create_time"] == "2023-11-14T22:13:20+00:00"


@pytest.mark.parametrize(
    ("arguments", "printed", "code"),
    [
        ([], "NOT_SERVING", 1),
        (["--service", ""], "SERVING", 0),
        (["--service", "no.such.Service"], "SERVICE_UNKNOWN", 1),
    ],
    ids=["readiness", "liveness", "unknown"],
)
def test_health_prints_the_status_and_exits_with_it(
    capsys: pytest.CaptureFixture[str], arguments: list[str], printed: str, code: int
) -> None:
    servicer = health.HealthServicer()
    servicer.set(SERVICE, health_pb2.HealthCheckResponse.NOT_SERVING)

    with scripted_server(servicer) as target:
        actual = main(["health", "--target", target, *arguments])

    assert actual == code
    assert capsys.readouterr().out == f"{printed}\n"


def test_an_error_of_the_server_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    status = status_of(
        grpc.StatusCode.INVALID_ARGUMENT,
        "does not fit",
        bad_request(("features", "1 values\ncame, 2 are needed")),
    )

    with scripted_server(ScriptedServicer(status)) as target:
        code = main(["predict", "--target", target, "--features", "1"])

    output = capsys.readouterr()
    assert code == 1
    assert output.out == ""
    assert output.err == (
        "prediction: error: INVALID_ARGUMENT: does not fit; "
        "features: 1 values came, 2 are needed\n"
    )


def test_an_unfit_value_in_a_record_is_one_line(
    target: str, servicer: ScriptedServicer, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["predict", "--target", target, "--record", '{"a": {}, "b": [1]}'])

    line = one_line(capsys.readouterr().err)
    assert code == 1
    assert (
        'record["a"]: {} (dict) is not allowed; a number, a bool, a text, a date or '
        in line
    )
    assert 'record["b"]: [1] (list) is not allowed' in line
    assert servicer.requests == []


@pytest.mark.parametrize(
    "arguments", [["predict", "--features", "1"], ["model"], ["health"]], ids="-".join
)
def test_no_server_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with unused_target() as target:
        code = main([*arguments, "--target", target])

    line = one_line(capsys.readouterr().err)
    assert code == 1
    assert line.startswith("prediction: error: UNAVAILABLE: ")
    assert target in line


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        pytest.param("[1, 2]", "a JSON object of names and values", id="list"),
        pytest.param("{", "Expecting property name", id="no-json"),
        pytest.param(
            '{"a": 1, "a": 2}', "the name 'a' occurs more than once", id="twice"
        ),
        pytest.param("[" * 100_000, "recursion", id="deep"),
        pytest.param("@", "Is a directory", id="no-file-name"),
        pytest.param("@no/such/file", "No such file or directory", id="no-file"),
        pytest.param("-", "can't decode byte 0xff", id="stdin-no-utf-8"),
    ],
)
def test_a_record_that_cannot_be_read_is_bad_usage(
    target: str,
    servicer: ScriptedServicer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    record: str,
    expected: str,
) -> None:
    set_stdin(monkeypatch, b"\xff")

    code = main(["predict", "--target", target, "--record", record])

    line = one_line(capsys.readouterr().err)
    assert code == 2
    assert line.startswith("prediction: error: --record: ")
    assert expected in line
    assert servicer.requests == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--target", "http://localhost:1"], "is not a target"),
        (["--timeout-seconds", "0"], "must be above 0"),
    ],
)
def test_an_option_out_of_range_is_bad_usage(
    capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    code = main(["model", *arguments])

    assert code == 2
    assert expected in one_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "arguments are required: COMMAND"),
        (["predict"], "one of the arguments --features --record is required"),
        (["predict", "--features", "1", "--record", "{}"], "not allowed with"),
        (["predict", "--features", "1,x"], "'x' at position 1 is not a number"),
        (["predict", "--features", "1,,2"], "'' at position 1 is not a number"),
        (["health", "--service", "\udcff"], "'\\udcff' is not UTF-8"),
        (["model", "--timeout", "1"], "unrecognized arguments"),
    ],
)
def test_arguments_that_cannot_be_parsed_are_bad_usage(
    capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)

    assert caught.value.code == 2
    assert expected in capsys.readouterr().err


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])

    assert caught.value.code == 0
    assert "prediction predict --features 17.99" in capsys.readouterr().out


def test_an_interrupt_leaves_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class InterruptedInput:
        @property
        def buffer(self) -> io.BytesIO:
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", InterruptedInput())

    assert main(["predict", "--record", "-"]) == 130
    assert capsys.readouterr().err == ""


def test_the_module_runs_as_a_program(target: str) -> None:
    done = run("predict", "--target", target, "--record", "-", input='{"a": 1}')

    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == PREDICTION_JSON


def test_the_program_prints_nothing_but_its_line_where_no_server_is() -> None:
    with unused_target() as target:
        done = run("health", "--target", target)

    assert (done.returncode, done.stdout) == (1, "")
    assert one_line(done.stderr).startswith("prediction: error: UNAVAILABLE: ")


def test_a_reader_that_leaves_early_causes_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        with scripted_server(ScriptedServicer(PREDICTION)) as target:
            done = run("predict", "--target", target, "--features", "1", stdout=writer)
    finally:
        os.close(writer)

    assert (done.returncode, done.stderr) == (1, "")
