"""A model that passed its checks and answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from grpc_server.model.arrays import Matrix
from grpc_server.model.estimator import Estimator
from grpc_server.model.schema import InputSchema
from grpc_server.model.source import ModelSource
from prediction.artifact.v1 import model_artifact_pb2


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes in the order of the probabilities.

    Parameters
    ----------
    labels : tuple of str
        Labels as text.
    predictions : tuple of int
        What the wire's `prediction` says for each class: integer labels, else positions.
    threshold : float or None
        For two classes: the second is predicted where its probability is above it. [0, 1]
    """

    labels: tuple[str, ...]
    predictions: tuple[int, ...]
    threshold: float | None

    def decide(self, probabilities: Sequence[float]) -> int:
        """Return the position of the predicted class."""
        if self.threshold is not None:
            return int(probabilities[1] > self.threshold)
        return max(range(len(probabilities)), key=probabilities.__getitem__)

    def decide_batch(self, probabilities: Matrix) -> list[int]:
        """Return the position of the predicted class of each row."""
        if self.threshold is not None:
            positions: list[int] = (probabilities[:, 1] > self.threshold).tolist()
            return list(map(int, positions))
        return list(probabilities.argmax(axis=1).tolist())


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that passed its checks, and where it comes from.

    The calibration is the kind of its maps, such as "sigmoid", or None.
    """

    input_schema: InputSchema
    classes: Classes
    estimator: Estimator
    provenance: model_artifact_pb2.Provenance
    source: ModelSource
    load_time: datetime
    calibration: str | None = None

    @property
    def display_name(self) -> str:
        """Name of the family for people."""
        return self.provenance.display_name
