# /// script
# requires-python = ">=3.11"
# dependencies = ["bentoml", "scikit-learn", "lightgbm"]
# ///
"""BentoML over HTTP, one worker."""

import os
import sys
from pathlib import Path

import bentoml
import peer


@bentoml.service(workers=1)
class Classifier:
    """One row in, its probabilities out."""

    def __init__(self):
        self.model = peer.load(os.environ["PEER_FOLDER"])

    @bentoml.api
    def predict(self, features: list[float]) -> list[float]:
        """Return the probabilities of a row."""
        return self.model.predict_proba([features])[0].tolist()


def prepare(folder, estimator, row):
    """Return where to send what."""
    return "/predict", {"features": row}


def serve(folder, port):
    """Serve with its own program, which imports this one."""
    program = str(Path(sys.executable).with_name("bentoml"))
    here = str(Path(__file__).parent)
    environ = {**os.environ, "PEER_FOLDER": str(folder), "BENTOML_DO_NOT_TRACK": "True"}
    arguments = ["serve", "bentoml_app:Classifier", "--working-dir", here]
    arguments += ["--host", "127.0.0.1", "--port", str(port)]
    os.execve(program, [program, *arguments], environ)


if __name__ == "__main__":
    peer.run(prepare, serve)
