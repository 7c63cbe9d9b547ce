# /// script
# requires-python = ">=3.11"
# dependencies = ["mlflow>=3.17,<3.18", "scikit-learn", "lightgbm"]
# ///
"""`mlflow models serve` of the scikit-learn flavour."""

import os
import sys
from pathlib import Path

import mlflow
import peer


def prepare(folder, estimator, row):
    """Save the model as MLflow does; return where to send what."""
    mlflow.sklearn.save_model(
        estimator,
        folder / "model",
        serialization_format="cloudpickle",
        pyfunc_predict_fn="predict_proba",
    )
    return "/invocations", {"inputs": [row]}


def serve(folder, port):
    """Serve with its own program, in this environment."""
    program = str(Path(sys.executable).with_name("mlflow"))
    path = f"{Path(program).parent}:{os.environ['PATH']}"
    arguments = ["models", "serve", "-m", str(folder / "model")]
    arguments += ["--env-manager", "local", "--port", str(port), "--workers", "1"]
    os.execve(program, [program, *arguments], {**os.environ, "PATH": path})


if __name__ == "__main__":
    peer.run(prepare, serve)
