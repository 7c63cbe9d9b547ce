"""Client of prediction.v1.PredictionService.

>>> from prediction import PredictionClient
>>> with PredictionClient("localhost:50051") as client:  # doctest: +SKIP
...     client.predict([17.99, 10.38, 122.8])
"""

from prediction._client import PredictionClient
from prediction._errors import (
    DeadlineExceededError,
    FieldViolation,
    InvalidInstanceError,
    ModelUnavailableError,
    OverloadedError,
    PredictionError,
    ServerError,
    UnavailableError,
)
from prediction._models import Feature, HealthStatus, Model, Prediction

__all__ = [
    "DeadlineExceededError",
    "Feature",
    "FieldViolation",
    "HealthStatus",
    "InvalidInstanceError",
    "Model",
    "ModelUnavailableError",
    "OverloadedError",
    "Prediction",
    "PredictionClient",
    "PredictionError",
    "ServerError",
    "UnavailableError",
]
