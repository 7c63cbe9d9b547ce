"""Scores what a request asks, and counts it as Predict and BatchPredict count theirs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import isfinite

from grpc_server.drift.monitor import DriftMonitor
from grpc_server.errors import InvalidInstance, Violation
from grpc_server.metrics import Metrics
from grpc_server.model import LoadedModel
from grpc_server.model.arrays import MAX_EXCESS, Matrix, find_unlike_one
from grpc_server.model.estimator import Explanation
from grpc_server.oip.replies import Scores

# An explanation takes up to a millisecond, and nothing else runs in a worker meanwhile.
MAX_EXPLAINED_ROWS = 100


class Scorer:
    """Scores rows, and counts them; for any thread.

    Parameters
    ----------
    metrics : Metrics
        Counts the predictions.
    drift : DriftMonitor or None
        Counts the answered rows; None counts none.
    """

    def __init__(self, metrics: Metrics, drift: DriftMonitor | None) -> None:
        self._metrics = metrics
        self._drift = drift
        self._offer = None if drift is None else drift.offer

    def score_row(
        self, model: LoadedModel, row: Sequence[float]
    ) -> tuple[int, Sequence[float]]:
        """Return the position of the predicted class, and the probabilities of the classes.

        Raises
        ------
        InvalidInstance
            If the score overflows.
        """
        probabilities = model.estimator.predict_probabilities(row)
        # Written so that NaN fails.
        if not abs(sum(probabilities) - 1.0) <= MAX_EXCESS:
            raise _overflow(0)
        position = model.classes.decide(probabilities)
        self._metrics.count_prediction(model.classes.labels[position])
        if self._offer is not None:
            self._offer(model, row, probabilities, position)
        return position, probabilities

    def score(self, model: LoadedModel, X: Matrix, *, explains: bool) -> Scores:
        """Return what the model says of a batch.

        Raises
        ------
        InvalidInstance
            If the score of a row overflows, or too many rows are to be explained.
        """
        if explains and len(X) > MAX_EXPLAINED_ROWS:
            raise InvalidInstance(
                [
                    Violation(
                        'parameters["explain_top_k"]',
                        f"{len(X)} rows came; at most {MAX_EXPLAINED_ROWS} are explained per call",
                    )
                ]
            )
        probabilities = model.estimator.predict_batch(X)
        overflowed = find_unlike_one(probabilities, MAX_EXCESS)
        if overflowed is not None:
            raise _overflow(overflowed)
        positions = model.classes.decide_batch(probabilities).tolist()
        scores = Scores(model, positions, probabilities)
        if explains:
            scores = _explain(scores, X)
        labels = model.classes.labels
        self._metrics.count_batch({labels[p]: n for p, n in Counter(positions).items()})
        if self._drift is not None:
            self._drift.offer_batch(model, X, probabilities, positions)
        return scores


def _explain(scores: Scores, X: Matrix) -> Scores:
    """Add the contributions to the score of the predicted class, or of the second of two."""
    import numpy as np

    model = scores.model
    explained: list[Explanation] = []
    for number, (row, position) in enumerate(
        zip(X.tolist(), scores.positions, strict=True)
    ):
        of_class = position if len(model.classes.labels) > 2 else 1
        one = model.estimator.explain(row, of_class)
        if not isfinite(sum(one.contributions, one.score)):
            raise _overflow(number)
        explained.append(one)
    return Scores(
        model,
        scores.positions,
        scores.probabilities,
        np.array([one.contributions for one in explained], np.float64),
        np.array([one.base for one in explained], np.float64),
    )


def _overflow(row: int) -> InvalidInstance:
    return InvalidInstance(
        [
            Violation(
                f"inputs[*][{row}]",
                "the model cannot score numbers as large as this row's: its score overflows",
            )
        ]
    )
