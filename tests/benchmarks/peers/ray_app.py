# /// script
# requires-python = ">=3.11"
# dependencies = ["ray[serve]", "scikit-learn", "lightgbm"]
# ///
"""Ray Serve over HTTP, one replica."""

import signal

import peer
import ray
from ray import serve as ray_serve


@ray_serve.deployment(num_replicas=1, max_ongoing_requests=256)
class Classifier:
    """One row in, its probabilities out."""

    def __init__(self, folder):
        self.model = peer.load(folder)

    async def __call__(self, request):
        """Return the probabilities of a row."""
        row = (await request.json())["features"]
        return {"probabilities": self.model.predict_proba([row])[0].tolist()}


def prepare(folder, estimator, row):
    """Return where to send what."""
    return "/", {"features": row}


def serve(folder, port):
    """Serve on a Ray of one machine."""
    ray.init(include_dashboard=False, log_to_driver=False)
    ray_serve.start(http_options={"host": "127.0.0.1", "port": port})
    ray_serve.run(Classifier.bind(folder))
    signal.pause()


if __name__ == "__main__":
    peer.run(prepare, serve)
