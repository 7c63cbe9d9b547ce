"""What a call returns: frozen values that know nothing of protobuf."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Prediction:
    """The predicted class of one instance and the probability of each class.

    Attributes
    ----------
    model : str
        Display name of the model's family: "Logistic Regression" or "LightGBM".
    prediction : int
        Predicted class: the label itself where the labels are integers, else its position in
        `Model.classes`.
    label : str
        Label of the predicted class, one of `Model.classes`.
    probabilities : tuple of float, n_classes
        Probability of each class, [0, 1], in the order of `Model.classes`. They sum to 1.
    model_version : str
        Version of the model that answered, as in `Model.model_version`.
    """

    model: str
    prediction: int
    label: str
    probabilities: tuple[float, ...]
    model_version: str


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of the model's input.

    Attributes
    ----------
    name : str
        Name, unique in the model; the key in a mapping.
    kind : str
        Kind of values: "numeric", or "unspecified" for a kind that this client does not know.
    nullable : bool
        Whether a value may be missing: None or NaN.
    """

    name: str
    kind: str
    nullable: bool


@dataclass(frozen=True, slots=True)
class Model:
    """The model that a server has loaded.

    Attributes
    ----------
    model : str
        Display name of the model's family, as in `Prediction.model`.
    registered_model : str
        Name of the registered model. Empty if the model does not come from a registry.
    model_version : str
        Version in the registry, such as "7", or "sha256:" and the start of the file's digest.
    run_id : str
        Tracking run that registered the model. Empty if it does not come from a registry.
    features : tuple of Feature
        Input schema: the features in the order that a sequence takes.
    classes : tuple of str
        Labels in the order of `Prediction.probabilities`. Two or more.
    threshold : float or None
        Decision threshold, [0, 1], of a model with two classes: above it the second class is
        predicted. None for a model with more classes.
    metrics : dict of str to float
        Metrics on rows that were locked away from training.
    create_time : datetime or None
        Time at which the training run wrote the model, in UTC. None if the server does not tell.
    load_time : datetime or None
        Time at which the server began to serve the model, in UTC. None if it does not tell.
    """

    model: str
    registered_model: str
    model_version: str
    run_id: str
    features: tuple[Feature, ...]
    classes: tuple[str, ...]
    threshold: float | None
    # Not hashed: a dict has no hash, and the other fields tell models apart.
    metrics: dict[str, float] = field(hash=False)
    create_time: datetime | None
    load_time: datetime | None


class HealthStatus(StrEnum):
    """What a server says of its health, in the words of grpc.health.v1."""

    UNKNOWN = "UNKNOWN"
    SERVING = "SERVING"
    NOT_SERVING = "NOT_SERVING"
    SERVICE_UNKNOWN = "SERVICE_UNKNOWN"
