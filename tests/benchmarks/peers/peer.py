"""What the programs of all peers share; they run on Pythons that have a peer and not this project.

A program has two commands. `prepare FOLDER FAMILY` fits the model as its users would, and writes it
there, with `body`, what to send, and `request.json`, where to and what has to come of it. `serve
FOLDER PORT` serves it.
"""

import json
import struct
import sys
from pathlib import Path

import joblib
from lightgbm import LGBMClassifier
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

ESTIMATORS = {
    "Logistic Regression": make_pipeline(StandardScaler(), LogisticRegression()),
    "LightGBM 100": LGBMClassifier(n_estimators=100, n_jobs=1, verbose=-1),
}
V2_PATH = "/inference.GRPCInferenceService/ModelInfer"
MODEL = "model.joblib"


def run(prepare, serve):
    """Do what the command line says.

    Parameters
    ----------
    prepare : callable of Path, estimator, list of float
        Writes what the peer needs beside the model, and the request for the row.
    serve : callable of Path, int
        Serves what is in the folder on the port, for ever.
    """
    command, folder, argument = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    if command == "serve":
        serve(folder, int(argument))
        return
    X, y = load_breast_cancer(return_X_y=True)
    estimator = ESTIMATORS[argument].fit(X, y)
    joblib.dump(estimator, folder / MODEL)
    # The row that is hardest to tell: its probability is like no other number of an answer.
    probabilities = estimator.predict_proba(X)[:, 1]
    hardest = abs(probabilities - 0.5).argmin()
    path, body = prepare(folder, estimator, X[hardest].tolist())
    is_grpc = isinstance(body, bytes)
    (folder / "body").write_bytes(
        struct.pack(">BI", 0, len(body)) + body
        if is_grpc
        else json.dumps(body).encode()
    )
    request = {
        "path": path,
        "protocol": "grpc" if is_grpc else "http",
        "expected": probabilities[hardest],
    }
    (folder / "request.json").write_text(json.dumps(request))


def load(folder):
    """Return the model."""
    return joblib.load(Path(folder) / MODEL)
