"""The scikit-learn object of an ensemble: the weighted mean of the probabilities of pipelines.

It is a `VotingClassifier`, so a registered model needs no class of this project. Its mean is
`numpy.average`: each probability times its count, added in the order of the members, divided by
the sum of the counts.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

from sklearn.base import clone
from sklearn.ensemble import VotingClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import LabelEncoder

from training.models.pipelines import unwrap

# A pipeline, or an average of some.
Model: TypeAlias = Any


def make_average(pipelines: Sequence[Pipeline], counts: Sequence[int]) -> Model:
    """Return an unfitted average of pipelines.

    Parameters
    ----------
    pipelines : sequence of Pipeline
        Unfitted, one or more.
    counts : sequence of int
        How often each counts, 1 or more.

    Returns
    -------
    Pipeline or VotingClassifier
        The pipeline itself, if it is alone.
    """
    if len(pipelines) == 1:
        return pipelines[0]
    names = [f"member_{number}" for number in range(1, len(pipelines) + 1)]
    named = list(zip(names, pipelines, strict=True))
    return VotingClassifier(named, voting="soft", weights=list(counts))


def assemble(
    fitted: Sequence[Pipeline], counts: Sequence[int], classes: Any
) -> VotingClassifier:
    """Return a fitted average of fitted pipelines, as `VotingClassifier.fit` makes it.

    Parameters
    ----------
    fitted : sequence of Pipeline
        Fitted on codes, two or more.
    counts : sequence of int
        How often each counts, 1 or more.
    classes : array-like of shape (n_classes,)
        The codes.

    Returns
    -------
    VotingClassifier
        It holds the very pipelines, and answers with codes.
    """
    average = make_average([clone(pipeline) for pipeline in fitted], counts)
    average.estimators_ = list(fitted)
    average.le_ = LabelEncoder().fit(classes)
    average.classes_ = average.le_.classes_
    if hasattr(fitted[0], "feature_names_in_"):
        average.feature_names_in_ = fitted[0].feature_names_in_
    return average


def unwrap_model(model: Model) -> Model:
    """Return a fitted model with plain classifiers in place of early-stopping ones."""
    if isinstance(model, Pipeline):
        return unwrap(model)
    return assemble(list(map(unwrap, model.estimators_)), model.weights, model.classes_)


def find_members(model: Model) -> list[tuple[Pipeline, int]]:
    """Return the fitted pipelines of a model, and how often each counts."""
    if isinstance(model, Pipeline):
        return [(model, 1)]
    return list(zip(model.estimators_, map(int, model.weights), strict=True))
