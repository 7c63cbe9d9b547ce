"""An ensemble: the weighted mean of the probabilities of several estimators."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from operator import mul
from typing import Any

from grpc_server.errors import ArtifactCorrupt
from grpc_server.model.arrays import Matrix, add_up
from grpc_server.model.artifact_limits import MAX_COUNT, MAX_MEMBERS
from grpc_server.model.estimator import Explanation, ScoringEstimator
from grpc_server.model.lightgbm import LightgbmBooster
from grpc_server.model.logistic_regression import LogisticRegression
from grpc_server.model.schema import InputSchema
from grpc_server.model.tree_checks import CheckedEnsemble, check_ensemble
from grpc_server.model.trees import read_trees
from prediction.artifact.v1 import model_artifact_pb2

_DISPLAY_NAMES = {
    "logistic_regression": "Logistic Regression",
    "boosted_trees": "LightGBM",
}


@dataclass(frozen=True, slots=True)
class Member:
    """What is said about a member of an ensemble.

    Parameters
    ----------
    display_name : str
        Readable name of its family.
    weight : float
        Its weight in the mean, (0, 1).
    """

    display_name: str
    weight: float


class EnsembleEstimator:
    """The weighted mean of the probabilities of several estimators.

    The artifact's message `Ensemble` has the formula. Its raw scores are its probabilities.

    Parameters
    ----------
    members : sequence of ScoringEstimator
        Two or more.
    counts : sequence of int, shape (n_members,)
        How often each member counts, 1 or more.
    """

    def __init__(
        self, members: Sequence[ScoringEstimator], counts: Sequence[int]
    ) -> None:
        self._members = members
        # Python multiplies two doubles faster than a whole number and a double.
        self._counts = tuple(map(float, counts))
        self._total = float(sum(counts))

    def predict_probabilities(self, row: Sequence[float]) -> Sequence[float]:
        """Return the probability of each class; see `Estimator`."""
        answers = [member.predict_probabilities(row) for member in self._members]
        return [self._average(of_class) for of_class in zip(*answers, strict=True)]

    def predict_batch(self, X: Matrix) -> Matrix:
        """Return the probabilities, shape (n_rows, n_classes); see `Estimator`."""
        answers = [member.predict_batch(X) for member in self._members]
        average: Matrix = self._average(answers)
        return average

    def outputs(self, row: Sequence[float]) -> Sequence[float]:
        """Return what a calibration maps: probabilities; see `ScoringEstimator`."""
        probabilities = self.predict_probabilities(row)
        return probabilities[1:] if len(probabilities) == 2 else probabilities

    def batch_outputs(self, X: Matrix) -> Matrix:
        """Return what `outputs` returns for each row; see `ScoringEstimator`."""
        probabilities = self.predict_batch(X)
        return probabilities[:, 1:] if probabilities.shape[1] == 2 else probabilities

    def explain(self, row: Sequence[float], position: int) -> Explanation:
        """Return the weighted means of the members' explanations; see `Estimator`.

        Raises
        ------
        InvalidInstance
            If the explanations of all members together would delay all other calls.
        """
        parts = [member.explain(row, position) for member in self._members]
        columns = zip(*(part.contributions for part in parts), strict=True)
        return Explanation(
            self._average([part.score for part in parts]),
            self._average([part.base for part in parts]),
            [self._average(column) for column in columns],
        )

    def _average(self, values: Sequence[Any]) -> Any:
        """Return the weighted mean of one value, or one matrix, of each member."""
        return add_up(map(mul, self._counts, values)) / self._total


def read_ensemble(
    message: model_artifact_pb2.Ensemble, schema: InputSchema, n_classes: int
) -> EnsembleEstimator:
    """Read the message of an artifact.

    Parameters
    ----------
    message : model_artifact_pb2.Ensemble
        The message; its sizes are checked.
    schema : InputSchema
        Features of the model.
    n_classes : int
        Number of classes, 2 or more.

    Returns
    -------
    EnsembleEstimator
        The estimator.

    Raises
    ------
    ArtifactCorrupt
        If the number of members or a count is out of range, or a member is no estimator of these
        features and classes.
    """
    if not 2 <= len(message.members) <= MAX_MEMBERS:
        raise ArtifactCorrupt(
            f"ensemble.members has {len(message.members)} members; 2 to {MAX_MEMBERS} are allowed"
        )
    # All members are checked before LightGBM gets any.
    parts = [
        _check_member(number, member, schema, n_classes)
        for number, member in enumerate(message.members)
    ]
    counts = [member.count for member in message.members]
    return EnsembleEstimator(list(_build(parts)), counts)


def describe_members(message: model_artifact_pb2.Ensemble) -> tuple[Member, ...]:
    """Return what is said about the members of an ensemble, in their order.

    Parameters
    ----------
    message : model_artifact_pb2.Ensemble
        A message that `read_ensemble` has read; or an empty one.
    """
    total = sum(member.count for member in message.members)
    return tuple(
        Member(
            _DISPLAY_NAMES[member.WhichOneof("estimator") or ""], member.count / total
        )
        for member in message.members
    )


def _check_member(
    number: int,
    member: model_artifact_pb2.EnsembleMember,
    schema: InputSchema,
    n_classes: int,
) -> LogisticRegression | CheckedEnsemble:
    place = f"ensemble.members[{number}]"
    if not 1 <= member.count <= MAX_COUNT:
        raise ArtifactCorrupt(
            f"{place}.count is {member.count}; 1 to {MAX_COUNT} is allowed"
        )
    try:
        match member.WhichOneof("estimator"):
            case "logistic_regression":
                return LogisticRegression.from_message(
                    member.logistic_regression, schema, n_classes
                )
            case "boosted_trees":
                trees = read_trees(member.boosted_trees)
                return check_ensemble(trees, schema.n_numbers, n_classes)
    except ArtifactCorrupt as error:
        raise ArtifactCorrupt(f"{place}: {error}") from None
    raise ArtifactCorrupt(
        f"{place}: its estimator is missing or unknown; a newer server may know it"
    )


def _build(
    parts: Sequence[LogisticRegression | CheckedEnsemble],
) -> Iterator[ScoringEstimator]:
    """Yield the estimators of checked members."""
    checked = [part for part in parts if isinstance(part, CheckedEnsemble)]
    n_steps = sum(part.n_explanation_steps for part in checked)
    for part in parts:
        if isinstance(part, CheckedEnsemble):
            # An explanation takes the steps of all members, so each refuses more than that limit.
            yield LightgbmBooster(replace(part, n_explanation_steps=n_steps))
        else:
            yield part
