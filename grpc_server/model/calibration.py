"""Calibration: turns the raw scores of an estimator into probabilities, as scikit-learn does.

The results equal those of ``_CalibratedClassifier.predict_proba`` in scikit-learn's
``sklearn/calibration.py``.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, isfinite
from typing import Protocol

from grpc_server.errors import ArtifactCorrupt
from grpc_server.model.arrays import Matrix, add_up
from grpc_server.model.estimator import Explanation, ScoringEstimator
from prediction.artifact.v1 import model_artifact_pb2

# scikit-learn treats an excess up to this as the rounding of a probability of 1.
_ROUNDING_OF_ONE = 1e-5


class CalibrationMap(Protocol):
    """A monotone function from the real numbers to [0, 1]."""

    @property
    def steepest(self) -> float:
        """Largest slope: the most that the map magnifies an error of its input."""
        ...

    def __call__(self, score: float) -> float:
        """Return the value at `score`, [0, 1]."""
        ...


@dataclass(frozen=True, slots=True)
class SigmoidMap:
    """The function 1 / (1 + exp(slope * score + intercept))."""

    slope: float
    intercept: float

    @property
    def steepest(self) -> float:
        """Slope where the value is one half; no slope is larger."""
        return abs(self.slope) / 4

    def __call__(self, score: float) -> float:
        """Return the value at `score`, without overflow for either sign."""
        z = self.slope * score + self.intercept
        if z <= 0:
            return 1 / (1 + exp(z))
        odds = exp(-z)
        return odds / (1 + odds)


@dataclass(frozen=True, slots=True)
class IsotonicMap:
    """A function that is linear between its knots and constant outside of them.

    Parameters
    ----------
    inputs : tuple of float, shape (n_knots,)
        Strictly ascending.
    outputs : tuple of float, shape (n_knots,)
        Values at the knots, [0, 1], ascending.
    """

    inputs: tuple[float, ...]
    outputs: tuple[float, ...]

    @property
    def steepest(self) -> float:
        """Slope of the steepest piece."""
        knots = zip(self.inputs, self.outputs, strict=True)
        return max(((b - a) / (x - w) for (w, a), (x, b) in pairwise(knots)), default=0)

    def __call__(self, score: float) -> float:
        """Return the value at `score` by the steps of ``numpy.interp``; NaN gives NaN."""
        # Only NaN differs from itself. `bisect_right` would place it behind the last knot.
        if score != score:
            return score
        right = bisect_right(self.inputs, score)
        if right == 0:
            return self.outputs[0]
        if right == len(self.inputs):
            return self.outputs[-1]
        start, end = self.inputs[right - 1], self.inputs[right]
        low, high = self.outputs[right - 1], self.outputs[right]
        return (high - low) / (end - start) * (score - start) + low


class CalibratedEstimator:
    """An estimator whose raw scores become probabilities by calibration maps.

    Parameters
    ----------
    estimator : ScoringEstimator
        Computes the raw scores.
    maps : sequence of CalibrationMap
        One map for two classes, otherwise one per class.
    """

    def __init__(
        self, estimator: ScoringEstimator, maps: Sequence[CalibrationMap]
    ) -> None:
        self._estimator = estimator
        self._maps = maps

    def predict_probabilities(self, row: Sequence[float]) -> Sequence[float]:
        """Return the probability of each class; see `Estimator`."""
        return self._calibrate(self._estimator.outputs(row))

    def predict_batch(self, X: Matrix) -> Matrix:
        """Return the probabilities, shape (n_rows, n_classes); see `Estimator`."""
        import numpy as np

        outputs = self._estimator.batch_outputs(X).tolist()
        return np.array(list(map(self._calibrate, outputs)))

    def explain(self, row: Sequence[float], position: int) -> Explanation:
        """Explain the raw score, before calibration; see `Estimator`."""
        return self._estimator.explain(row, position)

    def _calibrate(self, outputs: Sequence[float]) -> Sequence[float]:
        values = [
            calibrate(output)
            for calibrate, output in zip(self._maps, outputs, strict=True)
        ]
        if len(values) == 1:
            return 1.0 - values[0], values[0]
        total = add_up(values)
        if total == 0:
            return [1 / len(values)] * len(values)
        shares = [value / total for value in values]
        return [1.0 if 1.0 < p <= 1.0 + _ROUNDING_OF_ONE else p for p in shares]


def read_maps(
    message: model_artifact_pb2.Calibration, n_classes: int
) -> tuple[CalibrationMap, ...]:
    """Read the calibration message of an artifact.

    Parameters
    ----------
    message : model_artifact_pb2.Calibration
        The message.
    n_classes : int
        Number of classes of the model, 2 or more.

    Returns
    -------
    tuple of CalibrationMap
        One map for two classes, otherwise one per class.

    Raises
    ------
    ArtifactCorrupt
        If the number of maps is wrong, the maps are of different or unknown kinds, or one is not a
        monotone function to [0, 1].
    """
    n_maps = 1 if n_classes == 2 else n_classes
    if len(message.maps) != n_maps:
        raise ArtifactCorrupt(
            f"calibration.maps has {len(message.maps)} maps, not {n_maps}"
        )
    kinds = {calibration_map.WhichOneof("kind") for calibration_map in message.maps}
    if kinds == {"sigmoid"}:
        return tuple(_read_sigmoid(m.sigmoid) for m in message.maps)
    if kinds == {"isotonic"}:
        return tuple(_read_isotonic(m.isotonic) for m in message.maps)
    raise ArtifactCorrupt(
        "calibration.maps has maps of different or unknown kinds; a newer server may know them"
    )


def _read_sigmoid(message: model_artifact_pb2.SigmoidMap) -> SigmoidMap:
    if not isfinite(message.slope) or not isfinite(message.intercept):
        raise ArtifactCorrupt("calibration.maps has a sigmoid that is not finite")
    return SigmoidMap(message.slope, message.intercept)


def _read_isotonic(message: model_artifact_pb2.IsotonicMap) -> IsotonicMap:
    inputs, outputs = tuple(message.inputs), tuple(message.outputs)
    if not inputs or len(inputs) != len(outputs):
        raise ArtifactCorrupt(
            f"calibration.maps has an isotonic map with {len(inputs)} inputs and {len(outputs)} "
            "outputs; both need the same number, 1 or more"
        )
    # Comparisons with NaN are false.
    if not all(map(isfinite, inputs)) or not all(a < b for a, b in pairwise(inputs)):
        raise ArtifactCorrupt("calibration.maps has inputs that do not ascend")
    if not all(0 <= y <= 1 for y in outputs) or list(outputs) != sorted(outputs):
        raise ArtifactCorrupt(
            "calibration.maps has outputs that fall, or are not in [0, 1]"
        )
    return IsotonicMap(inputs, outputs)
