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
    ModelChangedError,
    ModelUnavailableError,
    OverloadedError,
    PredictionError,
    ServerError,
    UnavailableError,
)
from prediction._models import (
    Calibration,
    Contribution,
    Explanation,
    Feature,
    FeatureKind,
    HealthStatus,
    Model,
    Prediction,
)

__all__ = [
    "Calibration",
    "Contribution",
    "DeadlineExceededError",
    "Explanation",
    "Feature",
    "FeatureKind",
    "FieldViolation",
    "HealthStatus",
    "InvalidInstanceError",
    "Model",
    "ModelChangedError",
    "ModelUnavailableError",
    "OverloadedError",
    "Prediction",
    "PredictionClient",
    "PredictionError",
    "ServerError",
    "UnavailableError",
]
