"""Clients of prediction.v1.PredictionService.

>>> from prediction import PredictionClient
>>> with PredictionClient("localhost:50051") as client:  # doctest: +SKIP
...     client.predict([17.99, 10.38, 122.8])

`AsyncPredictionClient` has the same methods, to be awaited.
"""

from prediction._async_client import AsyncPredictionClient
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
    Canary,
    CanaryState,
    Contribution,
    EnsembleMember,
    Explanation,
    Feature,
    FeatureKind,
    HealthStatus,
    Model,
    Prediction,
    Shadow,
)
from prediction._tracing import opentelemetry_context

__all__ = [
    "AsyncPredictionClient",
    "Calibration",
    "Canary",
    "CanaryState",
    "Contribution",
    "DeadlineExceededError",
    "EnsembleMember",
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
    "Shadow",
    "UnavailableError",
    "opentelemetry_context",
]
