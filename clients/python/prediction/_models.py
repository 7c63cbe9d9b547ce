"""Results of calls: frozen values that know nothing of protobuf."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Contribution:
    """The part of a raw score that comes from one feature.

    Attributes
    ----------
    feature : str
        Name of the feature.
    value : float
        Contribution in units of the raw score, negative if it lowers it. LightGBM: the SHAP value.
    """

    feature: str
    value: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """The raw score of one class in parts: `base` plus the contributions of all features.

    Attributes
    ----------
    label : str
        Label of the class that is explained: the second of two, or the predicted one of more.
    score : float
        Raw score: the log-odds for two classes, otherwise the value before the softmax. For an
        ensemble, the weighted mean of those of its members, as are `base` and the contributions.
    base : float
        Raw score without any feature.
    contributions : tuple of Contribution
        The largest `explain_top_k` by absolute value, the largest first.
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
        Display name of the model's family: "Logistic Regression", "LightGBM" or "Ensemble".
    prediction : int
        Predicted class: the label itself if the labels are integers; if they are texts, its
        position in `Model.classes`.
    label : str
        Label of the predicted class, one of `Model.classes`.
    probabilities : tuple of float, n_classes
        Probability of each class, [0, 1], in the order of `Model.classes`. They sum to 1.
    model_version : str
        Version of the model that answered, as in `Model.model_version`.
    explanation : Explanation or None, default=None
        Contributions of the features. None if not requested.
    """

    model: str
    prediction: int
    label: str
    probabilities: tuple[float, ...]
    model_version: str
    explanation: Explanation | None = None


class FeatureKind(StrEnum):
    """The kind of values that a feature takes.

    NUMERIC takes finite numbers and BOOLEAN takes True and False. CATEGORICAL_TEXT takes a text of
    `Feature.categories`, CATEGORICAL_INTEGER a whole number of them. DATE takes a date or a text of
    `Feature.format`, TIME a time of day. UNSPECIFIED is a kind that
    this client does not know.
    """

    UNSPECIFIED = "unspecified"
    NUMERIC = "numeric"
    BOOLEAN = "boolean"
    CATEGORICAL_TEXT = "categorical_text"
    CATEGORICAL_INTEGER = "categorical_integer"
    DATE = "date"
    TIME = "time"


class Calibration(StrEnum):
    """The map that makes probabilities match observed frequencies.

    NONE leaves the estimator's probabilities as they are. UNSPECIFIED is a map that this client
    does not know, or that the server does not name.
    """

    UNSPECIFIED = "unspecified"
    NONE = "none"
    SIGMOID = "sigmoid"
    ISOTONIC = "isotonic"


class CanaryState(StrEnum):
    """What becomes of a canary's calls.

    WAITING has no model, SERVING answers its share, SAME is the champion's version. INCOMPATIBLE
    has other features or classes, ABORTED left its bounds. UNSPECIFIED is a state that this client
    does not know.
    """

    UNSPECIFIED = "unspecified"
    WAITING = "waiting"
    SERVING = "serving"
    SAME = "same"
    INCOMPATIBLE = "incompatible"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True)
class Canary:
    """A second model that answers a share of the calls.

    Attributes
    ----------
    model_version : str
        Version that is loaded. Empty if none is.
    share : float
        Share of the calls that it gets while it serves, [0, 1].
    state : CanaryState
        What becomes of its calls.
    reason : str
        Why it does not serve, or why a newer version does not. Empty while nothing is in its way.
    calls : int
        Calls that were given to this version.
    rows : int
        Rows that this version has answered.
    """

    model_version: str
    share: float
    state: CanaryState
    reason: str
    calls: int
    rows: int


@dataclass(frozen=True, slots=True)
class Shadow:
    """A second model that scores what callers were answered, and answers nobody.

    Attributes
    ----------
    model_version : str
        Version that scores. Empty if none does.
    share : float
        Share of the answered calls that it scores, [0, 1].
    refusal : str
        Why no version, or no newer one, scores. Empty while nothing is in its way.
    rows : int
        Rows that this version has looked at.
    same_rows : int
        Rows of them with the label that the caller was answered.
    """

    model_version: str
    share: float
    refusal: str
    rows: int
    same_rows: int


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
        Whether another category is an error. If not, it counts as a missing value.
    format : str, default=""
        Form of the texts of a date or a time of day, such as "%d/%m/%Y". ISO 8601 fits too. With
        %z, each date states its offset from UTC. Empty for the other kinds.
    """

    name: str
    kind: FeatureKind
    nullable: bool
    categories: tuple[str, ...] | tuple[int, ...] = ()
    refuse_unknown: bool = False
    format: str = ""


@dataclass(frozen=True, slots=True)
class EnsembleMember:
    """One of the estimators whose probabilities an ensemble averages.

    Attributes
    ----------
    model : str
        Display name of its family: "Logistic Regression" or "LightGBM".
    weight : float
        Weight in the mean, (0, 1). The weights of all members sum to 1.
    """

    model: str
    weight: float


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
        Input schema: the features in the order of an instance by position.
    classes : tuple of str
        Labels in the order of `Prediction.probabilities`. Two or more.
    threshold : float or None
        Decision threshold, [0, 1], of a model with two classes, which predicts the second class
        if its probability is above it. None for a model with more classes.
    metrics : dict of str to float
        Metrics on the hold-out, by name.
    create_time : datetime or None
        Time at which the training run wrote the model, in UTC. None if the server does not say.
    load_time : datetime or None
        Time at which the server began to serve the model, in UTC. None if it does not say.
    calibration : Calibration, default=Calibration.UNSPECIFIED
        Calibration of the probabilities.
    members : tuple of EnsembleMember, default=()
        Members of an ensemble. Empty for a model of one estimator.
    wanted_version : str or None, default=None
        Version that the server is asked to serve. None if it does not know it.
    refusal : str or None, default=None
        Why `wanted_version` does not answer. None while nothing is in its way.
    registry_contact_time : datetime or None, default=None
        Time at which the registry last said which version it wants, in UTC. None if unknown.
    canary : Canary or None, default=None
        Second model beside this one. None if the server has none.
    shadow : Shadow or None, default=None
        Model that scores what this one has answered. None if the server has none.
    takes_packed_rows : bool, default=False
        Whether the server reads the rows of `predict_frame` as bytes, which is faster.
    """

    model: str
    registered_model: str
    model_version: str
    run_id: str
    features: tuple[Feature, ...]
    classes: tuple[str, ...]
    threshold: float | None
    # Not hashed: a dict has no hash, and the other fields distinguish models.
    metrics: dict[str, float] = field(hash=False)
    create_time: datetime | None
    load_time: datetime | None
    calibration: Calibration = Calibration.UNSPECIFIED
    members: tuple[EnsembleMember, ...] = ()
    wanted_version: str | None = None
    refusal: str | None = None
    registry_contact_time: datetime | None = None
    canary: Canary | None = None
    shadow: Shadow | None = None
    takes_packed_rows: bool = False


class HealthStatus(StrEnum):
    """The health of a service, in the words of grpc.health.v1."""

    UNKNOWN = "UNKNOWN"
    SERVING = "SERVING"
    NOT_SERVING = "NOT_SERVING"
    SERVICE_UNKNOWN = "SERVICE_UNKNOWN"
