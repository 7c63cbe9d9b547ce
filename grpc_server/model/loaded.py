"""A model that passed its checks, and its classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from grpc_server.model.arrays import Matrix, Positions
from grpc_server.model.ensemble import Member
from grpc_server.model.estimator import Estimator
from grpc_server.model.reference import Reference
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
        Value of the reply's `prediction` for each class: the label if labels are integers,
        otherwise the position.
    threshold : float or None
        [0, 1]. With two classes, the second is predicted if its probability is above the threshold.
        None with more classes.
    """

    labels: tuple[str, ...]
    predictions: tuple[int, ...]
    threshold: float | None

    def decide(self, probabilities: Sequence[float]) -> int:
        """Choose a class.

        Parameters
        ----------
        probabilities : sequence of float
            n_classes values in [0, 1].

        Returns
        -------
        int
            Position of the predicted class, [0, n_classes).
        """
        if self.threshold is not None:
            return int(probabilities[1] > self.threshold)
        return max(range(len(probabilities)), key=probabilities.__getitem__)

    def decide_batch(self, probabilities: Matrix) -> Positions:
        """Choose a class for each row.

        Parameters
        ----------
        probabilities : ndarray of float64, shape (n_rows, n_classes)
            Probabilities, [0, 1].

        Returns
        -------
        ndarray of int64, shape (n_rows,)
            Position of the predicted class of each row, [0, n_classes).
        """
        if self.threshold is not None:
            above: Positions = (probabilities[:, 1] > self.threshold).astype("i8")
            return above
        best: Positions = probabilities.argmax(axis=1)
        return best


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that passed its checks, and its origin.

    Parameters
    ----------
    input_schema : InputSchema
        Features that the model takes.
    classes : Classes
        Classes that it predicts.
    estimator : Estimator
        Computes the probabilities.
    provenance : Provenance
        Data about the training, as in the artifact.
    source : ModelSource
        Origin of the file.
    load_time : datetime
        When the file was loaded, UTC.
    calibration : str or None
        Kind of the calibration maps, such as "sigmoid"; None without calibration.
    members : tuple of Member
        Members of an ensemble; empty if the estimator is none.
    reference : Reference or None
        Distributions that it was made with; None if an older trainer wrote the file.
    """

    input_schema: InputSchema
    classes: Classes
    estimator: Estimator
    provenance: model_artifact_pb2.Provenance
    source: ModelSource
    load_time: datetime
    calibration: str | None = None
    members: tuple[Member, ...] = ()
    reference: Reference | None = None

    @property
    def display_name(self) -> str:
        """Readable name of the model family."""
        return self.provenance.display_name
