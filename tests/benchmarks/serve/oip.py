"""ModelInfer of the Open Inference Protocol, beside Predict, bare grpcio and MLServer."""

import struct
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from benchmarks.serve.lanes import OURS
from benchmarks.serve.load import N_ROUNDS, Figures, Request, Target, measure, run_round
from benchmarks.serve.models import Model
from benchmarks.serve.peers import PEERS, PROGRAMS, PeerAbsent, install, prepare
from benchmarks.serve.processes import find_port, running
from benchmarks.serve.servers import (
    ECHOES,
    IMAGE_ENVIRON,
    echoing,
    serving,
    wait_for_answer,
)

from grpc_server.oip import open_inference_grpc_pb2 as pb
from prediction.v1.prediction_service_pb2 import BatchPredictRequest, PredictRequest

PREDICT, INFER, MLSERVER = "Predict", "ModelInfer", "MLServer"
BATCH = "BatchPredict"
BATCH_ROWS = 1000
_INFER_PATH = "/inference.GRPCInferenceService/ModelInfer"
_BATCH_PATH = "/prediction.v1.PredictionService/BatchPredict"
_N_BATCHES = 300
_N_PORTS = 3


@dataclass(frozen=True, slots=True)
class OpenInferenceResult:
    """Figures by name and calls in flight, rows per second of batches, and why a peer is absent."""

    figures: dict[str, dict[int, Figures]]
    batch_rows_per_second: dict[str, float]
    absent: str


def measure_open_inference(
    h2load: str, family: str, model: Model, work: Path
) -> OpenInferenceResult:
    """Measure one row and batches of a family's model, all servers in turn."""
    absent = ""
    with ExitStack() as stack:
        ours = stack.enter_context(serving(OURS, model, work, environ=IMAGE_ENVIRON))
        row = _read_row(model)
        targets = [
            replace(ours, name=PREDICT),
            replace(ours, name=INFER, request=_ask(model, row, work)),
        ]
        for name in ECHOES:
            targets.append(stack.enter_context(echoing(name, model, work)))
        try:
            targets.append(_serve_mlserver(stack, family, work))
        except PeerAbsent as error:
            absent = str(error)
        figures = measure(h2load, targets)
        return OpenInferenceResult(
            figures, _measure_batches(h2load, ours, model, row, work), absent
        )


def _measure_batches(
    h2load: str, ours: Target, model: Model, row: list[float], work: Path
) -> dict[str, float]:
    """Return rows per second by method, with two calls in flight."""
    X = np.random.default_rng(0).normal(size=(BATCH_ROWS, len(row)))
    X[0] = row  # whose probability is known
    body = work / "batch-body"
    _frame(body, BatchPredictRequest(values=X.ravel()).SerializeToString())
    request = replace(model.request, path=_BATCH_PATH, body=body)
    targets = [
        replace(ours, name=BATCH, request=request),
        replace(ours, name=INFER, request=_ask_matrix(model, X, work)),
    ]
    rates: dict[str, list[float]] = {target.name: [] for target in targets}
    for _ in range(N_ROUNDS):
        for target in targets:
            done = run_round(h2load, target, 1, _N_BATCHES)
            assert done.n_wrong == 0, target.name
            rates[target.name].append(done.calls_per_second * BATCH_ROWS)
    return {name: float(np.median(of_name)) for name, of_name in rates.items()}


def _serve_mlserver(stack: ExitStack, family: str, work: Path) -> Target:
    program = PROGRAMS / PEERS[MLSERVER][1]
    python = install(program)
    folder = work / f"mlserver-oip-{family}".replace(" ", "-")
    request = prepare(python, program, folder, family)
    port = find_port(_N_PORTS)
    command = [python, str(program), "serve", str(folder), str(port)]
    processes = stack.enter_context(running(command, folder / "log"))
    target = Target(MLSERVER, port, request, processes)
    try:
        wait_for_answer(target)
    except RuntimeError as error:
        raise PeerAbsent(str(error)) from None
    return target


def _read_row(model: Model) -> list[float]:
    body = model.request.body.read_bytes()
    return list(PredictRequest.FromString(body[5:]).features)


def _ask(model: Model, row: list[float], work: Path) -> Request:
    return _ask_matrix(model, np.array([row]), work)


def _ask_matrix(
    model: Model, X: "np.ndarray[tuple[int, int], np.dtype[np.float64]]", work: Path
) -> Request:
    tensor = pb.ModelInferRequest.InferInputTensor(
        name="x", datatype="FP64", shape=X.shape
    )
    request = pb.ModelInferRequest(
        model_name="model",
        inputs=[tensor],
        raw_input_contents=[X.astype("<f8").tobytes()],
    )
    body = work / f"infer-{len(X)}-body"
    _frame(body, request.SerializeToString())
    return replace(model.request, path=_INFER_PATH, body=body)


def _frame(path: Path, body: bytes) -> None:
    path.write_bytes(struct.pack(">BI", 0, len(body)) + body)
