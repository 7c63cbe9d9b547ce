# /// script
# requires-python = ">=3.11"
# dependencies = ["fastapi", "uvicorn[standard]", "scikit-learn", "lightgbm"]
# ///
"""A plain FastAPI application around scikit-learn, as many are."""

import peer
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel


class Request(BaseModel):
    """One row."""

    features: list[float]


def prepare(folder, estimator, row):
    """Return where to send what."""
    return "/predict", {"features": row}


def serve(folder, port):
    """Serve with uvicorn, its event loop and parser in C, without a log of calls."""
    app, model = FastAPI(), peer.load(folder)

    @app.post("/predict")
    def predict(request: Request):
        probabilities = model.predict_proba([request.features])[0].tolist()
        label = int(probabilities[1] > 0.5)
        return {"prediction": label, "probabilities": probabilities}

    uvicorn.run(app, port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    peer.run(prepare, serve)
