"""The parameters of the flow, with their defaults.

The module is light, because every task of the flow imports it to declare its command line.
"""

from dataclasses import dataclass

from training.data.embedded import EMBEDDED


@dataclass(frozen=True, slots=True)
class FlowParameters:
    """The flow's parameters as the user gives them; `training.plan` checks them.

    Parameters
    ----------
    data : str
        Name of the embedded data set, a path, or an s3:// URL.
    target : str
        Name of the label column.
    positive : str
        Label of the positive one of two classes; empty for the last.
    weight, group, time : str
        Names of the columns with these roles; empty for none.
    strict : bool
        Whether a missing label is an error.
    test_fraction : float
        Share of the rows in the hold-out, (0, 1).
    folds : int
        Folds of the cross-validation, 2 or more.
    seed : int
        Seed of the hold-out, the folds and the classifiers, [0, 2**31).
    scoring : str
        Name of a scikit-learn scorer.
    early_stopping_rounds : int
        Rounds without a better loss after which LightGBM stops; 0 never stops it.
    max_minutes : float
        Minutes after which a search stops; 0 is no limit.
    shards : int
        Tasks of each search.
    calibration : str
        Method of calibration, or "none".
    threshold : str
        A number in (0, 1), or a rule that chooses one.
    ensemble : int
        Most candidates whose probabilities are averaged; 0 is one model.
    final_fit : str
        Rows that the registered model learns from: "all", or "train" for those without the
        hold-out.
    promotion : str
        What a new version has to show to become champion: "better", "not_worse", or "never".
    promotion_tolerance : float
        A difference that does not matter, in units of the score and of the log loss, 0 or more.
    max_artifact_mib : float
        Largest artifact of a champion in MiB; 0 is no limit.
    max_latency_us : float
        Longest median time of a champion for one row in microseconds; 0 is no limit.
    segment : str
        Column whose values are compared one by one before a promotion; empty for none.
    experiment : str
        MLflow experiment.
    model_name : str
        Registered model.
    reason : str
        Why the model is trained; empty if nobody says.
    """

    data: str = EMBEDDED
    target: str = "target"
    positive: str = ""
    weight: str = ""
    group: str = ""
    time: str = ""
    strict: bool = False
    test_fraction: float = 0.2
    folds: int = 5
    seed: int = 0
    scoring: str = "neg_log_loss"
    early_stopping_rounds: int = 0
    max_minutes: float = 0.0
    shards: int = 1
    calibration: str = "none"
    threshold: str = "0.5"
    ensemble: int = 0
    final_fit: str = "all"
    promotion: str = "not_worse"
    promotion_tolerance: float = 0.01
    max_artifact_mib: float = 0.0
    max_latency_us: float = 0.0
    segment: str = ""
    experiment: str = "tabular_classifier"
    model_name: str = "tabular_classifier"
    reason: str = ""


DEFAULTS = FlowParameters()
