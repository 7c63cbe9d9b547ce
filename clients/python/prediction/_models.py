"""What a call returns: frozen values that know nothing of protobuf."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one feature added to a score.

    Attributes
    ----------
    feature : str
        Name of the feature.
    value : float
        What it added; negative where it took away. A SHAP value for LightGBM.
    """

    feature: str
    value: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """The score of one class, taken apart: `base` plus the contributions of all features.

    Attributes
    ----------
    label : str
        Label of the class whose score it is: the second of two, the predicted one of more.
    score : float
        The score before calibration: log-odds for two classes, else the number before the softmax.
    base : float
        The score without any feature.
    contributions : tuple of Contribution
        Those that were asked for, the largest by absolute value first.
    """

    label: str
    score: float
    base: float
    contributions: tuple[Contribution, ...]


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
    explanation : Explanation or None, default=None
        What the features contributed. None if it was not asked for.
    """

    model: str
    prediction: int
    label: str
    probabilities: tuple[float, ...]
    model_version: str
    explanation: Explanation | None = None


class FeatureKind(StrEnum):
    """The kind of values that a feature takes.

    NUMERIC takes finite numbers, BOOLEAN True and False, CATEGORICAL_TEXT a text and
    CATEGORICAL_INTEGER a whole number of `Feature.categories`. UNSPECIFIED is a kind that this
    client does not know.
    """

    UNSPECIFIED = "unspecified"
    NUMERIC = "numeric"
    BOOLEAN = "boolean"
    CATEGORICAL_TEXT = "categorical_text"
    CATEGORICAL_INTEGER = "categorical_integer"


class Calibration(StrEnum):
    """The way in which probabilities were brought in line with frequencies.

    NONE leaves them as the estimator gives them. UNSPECIFIED is a way that this client does not
    know, or that the server does not tell.
    """

    UNSPECIFIED = "unspecified"
    NONE = "none"
    SIGMOID = "sigmoid"
    ISOTONIC = "isotonic"


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of the model's input.

    Attributes
    ----------
    name : str
        Name, unique in the model; the key in a mapping.
    kind : FeatureKind
        Kind of values.
    nullable : bool
        Whether a value may be missing: None or NaN.
    categories : tuple of str or tuple of int, default=()
        Categories that the model knows. Empty unless the kind is categorical.
    refuse_unknown : bool, default=False
        Whether another category is an error. Otherwise it is taken for a missing value.
    """

    name: str
    kind: FeatureKind
    nullable: bool
    categories: tuple[str, ...] | tuple[int, ...] = ()
    refuse_unknown: bool = False


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
    calibration : Calibration, default=Calibration.UNSPECIFIED
        How the probabilities were calibrated.
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
    calibration: Calibration = Calibration.UNSPECIFIED


class HealthStatus(StrEnum):
    """What a server says of its health, in the words of grpc.health.v1."""

    UNKNOWN = "UNKNOWN"
    SERVING = "SERVING"
    NOT_SERVING = "NOT_SERVING"
    SERVICE_UNKNOWN = "SERVICE_UNKNOWN"
