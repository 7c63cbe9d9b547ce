"""Real clients of the Open Inference Protocol, each in an environment of its own.

They register the same protobuf names and need an older protobuf, so none can be imported here.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto

from grpc_server.oip import model_config_pb2, open_inference_grpc_pb2
from grpc_server.server import PredictionServer
from prediction.v1 import prediction_service_pb2 as v1
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub

from oip_support import mixed_artifact, to_column
from support import ROOT, artifact_without_estimator, running_server, write_artifact

PROGRAMS = Path(__file__).parent / "programs"
GRPCURL = str(Path(sys.executable).parent / "grpcurl")
# The same rows as prediction.v1 has them, and as the programs send them.
CELLS: dict[str, list[Any]] = {
    "age": [40.5, 50.25, 61.0],
    "height": [None, 1.8, 1.6],
    "smoker": [True, False, None],
    "active": [True, False, True],
    "born": ["01/02/2003", "13/02/2000", "31/12/1999"],
    "city": ["Oslo", "", "Köln"],
    "plan": ["a", "b", "a"],
    "ward": [3, 7, 99],
}
COLUMNS: list[tuple[str, str, list[Any], str]] = [
    ("age", "FP64", [40.5, 50.25, 61.0], ""),
    ("height", "FP64", [0.0, 1.8, 1.6], "0"),
    ("smoker", "BOOL", [True, False, False], "2"),
    ("active", "BOOL", [True, False, True], ""),
    ("born", "BYTES", ["01/02/2003", "13/02/2000", "31/12/1999"], ""),
    ("city", "BYTES", ["Oslo", "", "Köln"], ""),
    ("plan", "BYTES", ["a", "b", "a"], ""),
    ("ward", "INT64", [3, 7, 99], ""),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PredictionServer]:
    folder = write_artifact(tmp_path_factory.mktemp("mixed"), mixed_artifact())
    with running_server(folder) as server:
        yield server


@pytest.fixture(scope="module")
def answer(server: PredictionServer) -> dict[str, Any]:
    """What BatchPredict says of the rows, doubles as their bits."""
    columns = [to_column(name, cells) for name, cells in CELLS.items()]
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        reply = PredictionServiceStub(channel).BatchPredict(
            v1.BatchPredictRequest(columns=columns)
        )
    return {
        "label": [reply.classes[position] for position in reply.positions],
        "prediction": list(reply.positions),
        "probabilities": np.array(reply.probabilities).tobytes().hex(),
    }


def run(
    program: str,
    server: PredictionServer,
    folder: Path,
    columns: list[tuple[str, str, list[Any], str]],
) -> dict[str, Any]:
    """Run a program, whose environment uv makes once and keeps, and return what it prints."""
    task = folder / "task.json"
    task.write_text(json.dumps({"model": "model", "columns": columns}))
    uv = [sys.executable, "-m", "uv", "--quiet", "run", "--python", sys.executable]
    done = subprocess.run(
        [*uv, "--script", str(PROGRAMS / program), f"127.0.0.1:{server.port}", task],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def list_fields(messages: Iterable[DescriptorProto]) -> dict[str, tuple[int, int]]:
    """Return number and type of each field by its path."""
    fields: dict[str, tuple[int, int]] = {}
    for message in messages:
        for field in message.field:
            fields[f"{message.name}.{field.name}"] = (field.number, field.type)
        nested = list_fields(message.nested_type)
        fields |= {f"{message.name}.{path}": value for path, value in nested.items()}
    return fields


def compare_protos(protos: list[str]) -> set[str]:
    """Return our fields that a client does not know; each other field has to be as its own."""
    files = [FileDescriptorProto.FromString(bytes.fromhex(proto)) for proto in protos]
    theirs = list_fields(message for file in files for message in file.message_type)
    ours: dict[str, tuple[int, int]] = {}
    for module in (open_inference_grpc_pb2, model_config_pb2):
        file = FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
        known = {message.name for each in files for message in each.message_type}
        ours |= list_fields(m for m in file.message_type if m.name in known)
    assert len(ours) > 40
    assert {path: ours[path] for path in ours if path in theirs} == {
        path: theirs[path] for path in ours if path in theirs
    }
    return {path for path in ours if path not in theirs}


def part(reply: dict[str, Any]) -> dict[str, Any]:
    """Return what every reply has."""
    return {name: reply[name] for name in ("label", "prediction", "probabilities")}


def test_tritons_clients(
    server: PredictionServer, answer: dict[str, Any], tmp_path: Path
) -> None:
    told = run("oip_triton.py", server, tmp_path, COLUMNS)

    properties = {"ModelMetadataResponse.properties"} | {
        f"ModelMetadataResponse.PropertiesEntry.{part}" for part in ("key", "value")
    }
    assert compare_protos(told["protos"]) == properties
    for way, identifier in (("sync", "r1"), ("aio", "r2"), ("callback", "r3")):
        assert part(told[way]) == answer
        assert told[way]["id"] == identifier
        assert told[way]["outputs"] == ["label", "prediction", "probabilities"]
    assert [told[name] for name in ("live", "ready", "model_ready")] == [True] * 3
    assert not told["other_ready"]
    assert not told["other_version_ready"]
    assert told["server"]["name"] == "prediction-server"
    assert [tensor["name"] for tensor in told["metadata"]["inputs"]] == list(CELLS)
    assert told["config"]["config"]["max_batch_size"] == 10_000
    assert told["few"] == ["probabilities", "label"]
    assert told["few_label"] == answer["label"]
    statuses = {name: status for name, (status, _) in told["failures"].items()}
    assert statuses == {
        "model": "StatusCode.NOT_FOUND",
        "version": "StatusCode.NOT_FOUND",
        "output": "StatusCode.INVALID_ARGUMENT",
        "inputs": "StatusCode.INVALID_ARGUMENT",
        "class_count": "StatusCode.UNIMPLEMENTED",
        "sequence": "StatusCode.INVALID_ARGUMENT",
        "timeout": "StatusCode.DEADLINE_EXCEEDED",
        "parameter": "StatusCode.INVALID_ARGUMENT",
    }


def test_kserves_client(
    server: PredictionServer, answer: dict[str, Any], tmp_path: Path
) -> None:
    """Its lists go typed and its arrays go raw; code that reads `.data` needs typed replies."""
    told = run("oip_kserve.py", server, tmp_path, COLUMNS)

    unknown = {path.split(".")[0] for path in compare_protos(told["protos"])}
    assert unknown == {"ModelMetadataResponse", "InferParameter"}
    assert part(told["arrays"]) == answer
    assert part(told["lists"]) == answer
    assert told["data"] == [answer["prediction"]]
    assert told["other"] == "NOT_FOUND"
    ready = [told[name] for name in ("live", "ready", "model_ready", "other_ready")]
    assert ready == [True, True, True, False]


def test_mlservers_codecs(server: PredictionServer, tmp_path: Path) -> None:
    """A frame has no parameter missing_rows, so that its gaps are NaN."""
    columns = [(name, kind, values, "") for name, kind, values, _ in COLUMNS]

    told = run("oip_mlserver.py", server, tmp_path, columns)

    cells = {name: values for name, _, values, _ in columns}
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        reply = PredictionServiceStub(channel).BatchPredict(
            v1.BatchPredictRequest(
                columns=[to_column(name, values) for name, values in cells.items()]
            )
        )
    expected = np.array(reply.probabilities).tobytes().hex()
    for way in ("raw", "typed"):
        assert told[way]["probabilities"] == expected
        assert told[way]["label"] == [reply.classes[p] for p in reply.positions]


def test_grpcurl_by_reflection(server: PredictionServer) -> None:
    tensors = []
    fields = {
        "FP64": "fp64_contents",
        "BOOL": "bool_contents",
        "INT64": "int64_contents",
    }
    for name, datatype, values, _ in COLUMNS:
        content = {fields[datatype]: values[:1]} if datatype in fields else None
        if content is None:
            encoded = {"born": "MDEvMDIvMjAwMw==", "city": "T3Nsbw==", "plan": "YQ=="}
            content = {"bytes_contents": [encoded[name]]}
        tensors.append(
            {"name": name, "datatype": datatype, "shape": [1], "contents": content}
        )
    request = json.dumps({"model_name": "model", "id": "1", "inputs": tensors})
    method = "inference.GRPCInferenceService/ModelInfer"
    command = [GRPCURL, "-plaintext", "-d", request, f"127.0.0.1:{server.port}", method]

    done = subprocess.run(command, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    reply = json.loads(done.stdout)
    assert reply["id"] == "1"
    label, prediction, _ = [output["contents"] for output in reply["outputs"]]
    assert label == {"bytes_contents": ["MA=="]}  # 0
    assert prediction == {"int_contents": [0]}


EXAMPLE = (14.2, 1.7, 2.4, 15.6, 127, 2.8, 3.1, 0.3, 2.3, 5.6, 1.0, 3.9, 1065)


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PredictionServer]:
    """A server of a model with the name and the number of features of the page's examples."""
    artifact = artifact_without_estimator(len(EXAMPLE), 2)
    artifact.logistic_regression.coefficients.extend([0.001] * len(EXAMPLE))
    artifact.logistic_regression.intercepts.append(0.0)
    artifact.golden_examples.add(
        features=[0.0] * len(EXAMPLE), probabilities=[0.5, 0.5], label="0"
    )
    folder = write_artifact(tmp_path_factory.mktemp("tour"), artifact)
    with running_server(folder, model_name="tabular_classifier") as server:
        yield server


def find_example(language: str, word: str, server: PredictionServer) -> str:
    """Return the example of the page with a word, for a server's port."""
    page = (ROOT / "docs" / "open-inference.md").read_text()
    blocks = re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (block,) = (block for block in blocks if word in block)
    return str(block).replace("localhost:50051", f"127.0.0.1:{server.port}")


@pytest.mark.parametrize(
    ("program", "word"), [("oip_triton.py", "triton"), ("oip_kserve.py", "kserve")]
)
def test_the_python_examples_of_the_page(
    tour: PredictionServer, program: str, word: str
) -> None:
    script = str(PROGRAMS / program)
    uv = [sys.executable, "-m", "uv"]
    sync = [*uv, "--quiet", "sync", "--script", script, "--python", sys.executable]
    subprocess.run(sync, check=True)
    find = [*uv, "python", "find", "--script", script]
    python = subprocess.check_output(find, text=True).strip()
    code = find_example("python", word, tour)

    printed = subprocess.check_output([python, "-c", code], text=True)

    # 1 / (1 + exp(-1.2479))
    assert re.search(r"0\.776[0-9]+", printed), printed


def test_the_example_of_grpcurl(tour: PredictionServer) -> None:
    command = find_example("sh", "grpcurl", tour)
    environ = {**os.environ, "PATH": f"{Path(GRPCURL).parent}:{os.environ['PATH']}"}

    printed = subprocess.check_output(["bash", "-c", command], text=True, env=environ)

    assert re.search(r"0\.776[0-9]+", printed), printed


def test_our_client_registers_none_of_the_protocols_names() -> None:
    """Its users have tritonclient or kserve in the same process."""
    code = """if True:
        import prediction, sys
        from google.protobuf import descriptor_pool
        try:
            descriptor_pool.Default().FindMessageTypeByName("inference.ModelInferRequest")
        except KeyError:
            sys.exit(0)
        sys.exit("the names are registered")
        """
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
