# /// script
# requires-python = ">=3.11"
# dependencies = ["litserve", "scikit-learn", "lightgbm"]
# ///
"""LitServe, one worker."""

import litserve
import peer


class Api(litserve.LitAPI):
    """One row in, its probabilities out."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def setup(self, device):
        """Load the model in the worker."""
        self.model = peer.load(self.folder)

    def decode_request(self, request):
        """Return the row."""
        return request["features"]

    def predict(self, row):
        """Return its probabilities."""
        return self.model.predict_proba([row])[0]

    def encode_response(self, probabilities):
        """Return the answer."""
        return {"probabilities": probabilities.tolist()}


def prepare(folder, estimator, row):
    """Return where to send what."""
    return "/predict", {"features": row}


def serve(folder, port):
    """Serve on the CPU."""
    server = litserve.LitServer(Api(folder), accelerator="cpu", workers_per_device=1)
    server.run(port=port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    peer.run(prepare, serve)
