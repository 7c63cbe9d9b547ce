"""`make demo`: trains, registers, serves and predicts, with the programs that users run.

It prints where the report of the run is. With `--keep` the server goes on.

Trains on the embedded data set and registers the winner in a local MLflow. Then starts the server,
waits until it is ready, predicts through gRPC and stops the server.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from prediction import Model, PredictionClient

MODEL_NAME = "tabular_classifier"
READY_SECONDS = 60.0
SECONDS_TO_STOP = 5.0
REPORT_MARK = "Report: "  # what the flow prints before the report's address
PAGES = ("/", "/docs", "/health/ready", "/metrics")

# The first row of the embedded data set, scikit-learn's breast_cancer: a malignant tumour.
# fmt: off
FEATURES = (
    *(17.99, 10.38, 122.8, 1001.0, 0.1184, 0.2776, 0.3001, 0.1471, 0.2419, 0.07871),
    *(1.095, 0.9053, 8.589, 153.4, 0.006399, 0.04904, 0.05373, 0.01587, 0.03003, 0.006193),
    *(25.38, 17.33, 184.6, 2019.0, 0.1622, 0.6656, 0.7119, 0.2654, 0.4601, 0.1189),
)
# fmt: on

NEXT_STEPS = f"""
What to try next:
  make train ARGS='--data table.csv --target label'      a table of your own
  make serve                                             the champion on port 50051
  .venv/bin/python -m prediction model                   what is served
  .venv/bin/grpcurl -plaintext localhost:50051 list      the same, with a standard tool
  .venv/bin/mlflow ui --backend-store-uri sqlite:///mlflow.db   the registry, in a browser
  .venv/bin/python flows/train_flow.py card view register       the report of the run
The registered model is models:/{MODEL_NAME}@champion."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server process and the ports it listens on."""

    process: subprocess.Popen[str]
    port: int
    http_port: int


def stay(server: Server) -> None:
    """Wait until the server ends or the user stops it with Ctrl-C."""
    print("The server runs until you press Ctrl-C.", flush=True)
    with suppress(KeyboardInterrupt):
        server.process.wait()
    with suppress(subprocess.TimeoutExpired):
        # The terminal told the server too; a second signal would cut its drain short.
        server.process.wait(SECONDS_TO_STOP)


def say(text: str) -> None:
    """Print a heading that stands out from the output of the programs."""
    print(f"\n=== {text}", flush=True)


def train() -> str:
    """Run the flow; return where its report is, empty if there is none."""
    command = [sys.executable, "flows/train_flow.py", "run", "--model_name", MODEL_NAME]
    report = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as flow:
        assert flow.stdout is not None
        for line in flow.stdout:
            print(line, end="", flush=True)
            report = line.partition(REPORT_MARK)[2].strip() or report
    if flow.returncode:
        raise SystemExit(f"error: the flow ended with exit code {flow.returncode}")
    return report


@contextmanager
def serve() -> Iterator[Server]:
    """Run a server on free ports, stop it as Kubernetes does, and check its exit code."""
    # The folder of the former demo has its model, which a server would answer with first.
    with TemporaryDirectory() as folder:
        yield from _serve_from(Path(folder) / "model")


def _serve_from(model_dir: Path) -> Iterator[Server]:
    command = [
        sys.executable,
        "-m",
        "grpc_server",
        "--model-uri",
        f"models:/{MODEL_NAME}@champion",
        "--model-dir",
        str(model_dir),
    ]
    command += [
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--http-port",
        "0",
        "--drain-seconds",
        "0",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        first_line = process.stdout.readline()
        if not first_line:
            raise SystemExit("error: the server did not start; its message is above")
        said = json.loads(first_line)
        yield Server(process, said["port"], said["http_port"])
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=READY_SECONDS)
    if process.returncode:
        raise SystemExit(f"error: the server ended with exit code {process.returncode}")


def predict(client: PredictionClient) -> None:
    """Predict one row, by position and by name, and print the answers."""
    model: Model = client.get_model()
    print(
        f"model: {model.model}, version {model.model_version} of {model.registered_model}"
    )
    by_position = client.predict(FEATURES)
    names = [feature.name for feature in model.features]
    by_name = client.predict(dict(zip(names, FEATURES, strict=True)))
    if by_position != by_name:
        raise SystemExit(
            f"error: by position the answer is {by_position}, by name {by_name}"
        )
    print(f"the data set's first row: {by_name}")


def main() -> None:
    """Run the demo."""
    say("1/3 Training and registering (Metaflow, MLflow)")
    report = train()
    say("2/3 Starting the server and waiting until it is ready")
    with serve() as server, PredictionClient(f"127.0.0.1:{server.port}") as client:
        client.wait_until_ready(timeout_seconds=READY_SECONDS)
        say("3/3 Predicting through gRPC")
        predict(client)
        print(f"report of the run: {report or 'none; its warning is above'}")
        if "--keep" in sys.argv[1:]:
            print(f"gRPC: 127.0.0.1:{server.port}")
            for page in PAGES:
                print(f"page: http://127.0.0.1:{server.http_port}{page}")
            stay(server)
    print("server stopped, exit code 0")
    print(NEXT_STEPS)


if __name__ == "__main__":
    main()
