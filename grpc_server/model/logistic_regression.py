"""Logistic regression in plain Python, which for one row is faster than any array library."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, isfinite
from operator import mul, sub

from grpc_server.errors import ArtifactCorrupt
from grpc_server.model.rows import Rows
from prediction.artifact.v1 import model_artifact_pb2


@dataclass(frozen=True, slots=True)
class LogisticRegression:
    """A linear model of the log-odds; the formula is with the artifact's message of this name.

    Parameters
    ----------
    coefficients : tuple of tuple of float, shape (n_outputs, n_features)
        Coefficients in units of the raw columns.
    intercepts : tuple of float, shape (n_outputs,)
        Intercepts at the centre.
    centers : tuple of float, shape (n_features,), or empty
        Subtracted from the row.
    imputed_values : tuple of float, shape (n_features,), or empty
        Stand in for missing values.
    """

    coefficients: tuple[tuple[float, ...], ...]
    intercepts: tuple[float, ...]
    centers: tuple[float, ...]
    imputed_values: tuple[float, ...]

    @classmethod
    def from_message(
        cls,
        message: model_artifact_pb2.LogisticRegression,
        n_features: int,
        n_classes: int,
    ) -> "LogisticRegression":
        """Read the artifact's message.

        Raises
        ------
        ArtifactCorrupt
            If a list has not the length that the schema and the classes ask for, or is not finite.
        """
        n_outputs = 1 if n_classes == 2 else n_classes
        _check("intercepts", message.intercepts, [n_outputs])
        _check("coefficients", message.coefficients, [n_outputs * n_features])
        _check("centers", message.centers, [0, n_features])
        _check("imputed_values", message.imputed_values, [0, n_features])
        flat = tuple(message.coefficients)
        return cls(
            coefficients=tuple(
                flat[start : start + n_features]
                for start in range(0, len(flat), n_features)
            ),
            intercepts=tuple(message.intercepts),
            centers=tuple(message.centers),
            imputed_values=tuple(message.imputed_values),
        )

    def predict_probabilities(self, row: Sequence[float]) -> Sequence[float]:
        """Return the probability of each class, as `Estimator` says."""
        if self.imputed_values:
            # Only NaN differs from itself.
            row = [
                x if x == x else i
                for x, i in zip(row, self.imputed_values, strict=True)
            ]
        if self.centers:
            row = list(map(sub, row, self.centers))
        outputs = [
            intercept + sum(map(mul, coefficients, row))
            for intercept, coefficients in zip(
                self.intercepts, self.coefficients, strict=True
            )
        ]
        return _expit(outputs[0]) if len(outputs) == 1 else _softmax(outputs)

    def predict_batch(self, rows: Rows) -> Iterable[Sequence[float]]:
        """Return the probabilities of each row, as `Estimator` says."""
        return map(self.predict_probabilities, rows)


def _expit(z: float) -> tuple[float, float]:
    """Return the probabilities of two classes without overflow for either sign of `z`."""
    if z >= 0:
        p = 1 / (1 + exp(-z))
    else:
        odds = exp(z)
        p = odds / (1 + odds)
    return 1 - p, p


def _softmax(outputs: Sequence[float]) -> list[float]:
    highest = max(outputs)
    weights = [exp(output - highest) for output in outputs]
    total = sum(weights)
    return [weight / total for weight in weights]


def _check(name: str, values: Sequence[float], lengths: Sequence[int]) -> None:
    if len(values) not in lengths:
        allowed = " or ".join(map(str, lengths))
        raise ArtifactCorrupt(
            f"logistic_regression.{name} has {len(values)} values, not {allowed}"
        )
    if not all(map(isfinite, values)):
        raise ArtifactCorrupt(
            f"logistic_regression.{name} has a value that is not finite"
        )
