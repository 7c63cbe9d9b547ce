"""Logistic regression: one row in plain Python, which is faster than NumPy; a batch by columns."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp, isfinite
from operator import mul, sub

from grpc_server.errors import ArtifactCorrupt
from grpc_server.model.arrays import Matrix, Vector, add_down, add_up, exp_of
from grpc_server.model.estimator import Explanation
from grpc_server.model.schema import InputSchema
from prediction.artifact.v1 import model_artifact_pb2

# Values that are computed at once: 1 MiB, which stays in a processor's cache.
_BLOCK_VALUES = 2**17


@dataclass(frozen=True, slots=True)
class LogisticRegression:
    """A linear model of the raw scores; the artifact's message of this name has the formula.

    Parameters
    ----------
    coefficients : tuple of tuple of float, shape (n_outputs, n_numeric)
        Coefficients in units of the raw columns.
    intercepts : tuple of float, shape (n_outputs,)
        Raw scores at the centre.
    centers : tuple of float, shape (n_numeric,), or empty
        Centre, which is subtracted from the row.
    imputed_values : tuple of float, shape (n_numeric,), or empty
        Replace missing values.
    category_weights : tuple of tuple of tuple of float
        Weights of each categorical feature, each of shape (n_outputs, n_categories).
    """

    coefficients: tuple[tuple[float, ...], ...]
    intercepts: tuple[float, ...]
    centers: tuple[float, ...]
    imputed_values: tuple[float, ...]
    category_weights: tuple[tuple[tuple[float, ...], ...], ...] = ()

    @classmethod
    def from_message(
        cls,
        message: model_artifact_pb2.LogisticRegression,
        schema: InputSchema,
        n_classes: int,
    ) -> "LogisticRegression":
        """Read the message of an artifact.

        Parameters
        ----------
        message : model_artifact_pb2.LogisticRegression
            The message.
        schema : InputSchema
            Features of the model.
        n_classes : int
            Number of classes, 2 or more.

        Returns
        -------
        LogisticRegression
            The estimator.

        Raises
        ------
        ArtifactCorrupt
            If the length of a list does not fit the schema and the classes, or a value is not
            finite.
        """
        n_outputs = 1 if n_classes == 2 else n_classes
        n_numeric = schema.n_numbers - len(schema.n_categories)
        _check("intercepts", message.intercepts, [n_outputs])
        _check("coefficients", message.coefficients, [n_outputs * n_numeric])
        _check("centers", message.centers, [0, n_numeric])
        _check("imputed_values", message.imputed_values, [0, n_numeric])
        return cls(
            coefficients=_by_output(message.coefficients, n_outputs),
            intercepts=tuple(message.intercepts),
            centers=tuple(message.centers),
            imputed_values=tuple(message.imputed_values),
            category_weights=tuple(
                _read_weights(message, schema.n_categories, n_outputs)
            ),
        )

    def predict_probabilities(self, row: Sequence[float]) -> Sequence[float]:
        """Return the probability of each class; see `Estimator`."""
        outputs = self.outputs(row)
        return _expit(outputs[0]) if len(outputs) == 1 else _softmax(outputs)

    def predict_batch(self, X: Matrix) -> Matrix:
        """Return the probabilities, shape (n_rows, n_classes); see `Estimator`."""
        import numpy as np

        outputs = self.batch_outputs(X)
        # An overflow gives infinity or NaN, as it does for a single row.
        with np.errstate(over="ignore", invalid="ignore"):
            if outputs.shape[1] == 1:
                return _expit_of(outputs[:, 0])
            weights = exp_of(outputs - outputs.max(axis=1, keepdims=True))
            return np.asarray(weights / add_up(weights.T)[:, np.newaxis])

    def explain(self, row: Sequence[float], position: int) -> Explanation:
        """Explain the raw score of one class; see `Estimator`."""
        output = position if len(self.intercepts) > 1 else 0
        contributions = list(map(mul, self.coefficients[output], self._center(row)))
        if self.category_weights:
            contributions.extend(self._weights(row, output))
        base = self.intercepts[output]
        return Explanation(self.outputs(row)[output], base, contributions)

    def outputs(self, row: Sequence[float]) -> Sequence[float]:
        """Return the raw scores of a row: the log-odds with two classes; see `ScoringEstimator`."""
        numbers = self._center(row)
        outputs = [self._combine(p, numbers) for p in range(len(self.intercepts))]
        if self.category_weights:
            for position in range(len(outputs)):
                outputs[position] += add_up(self._weights(row, position))
        return outputs

    def batch_outputs(self, X: Matrix) -> Matrix:
        """Return the raw scores, shape (n_rows, n_outputs); see `ScoringEstimator`.

        The operations and their order are those of `outputs`.
        """
        import numpy as np

        outputs = np.empty((len(X), len(self.intercepts)))
        n_rows = max(1, _BLOCK_VALUES // X.shape[1])
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, len(X), n_rows):
                block = slice(start, start + n_rows)
                self._fill(outputs[block], X[block])
        return outputs

    def _fill(self, outputs: Matrix, X: Matrix) -> None:
        """Write the raw scores of a block of rows."""
        import numpy as np

        n_numeric = X.shape[1] - len(self.category_weights)
        numbers = X[:, :n_numeric]
        if self.imputed_values:
            numbers = np.where(np.isnan(numbers), self.imputed_values, numbers)
        # Contiguous columns: each is read once per output.
        columns = np.ascontiguousarray(numbers.T)
        if self.centers:
            columns = columns - np.array(self.centers)[:, np.newaxis]
        for position, intercept in enumerate(self.intercepts):
            terms = columns * np.array(self.coefficients[position])[:, np.newaxis]
            outputs[:, position] = intercept + add_down(terms)
            if self.category_weights:
                weights = self._batch_weights(X[:, n_numeric:], position)
                outputs[:, position] += add_up(weights)

    def _combine(self, position: int, numbers: Sequence[float]) -> float:
        """Return one raw score of a row, without the part of its categories."""
        terms = map(mul, self.coefficients[position], numbers)
        total: float = self.intercepts[position] + add_up(terms)
        return total

    def _center(self, row: Sequence[float]) -> Sequence[float]:
        """Return the numeric values of a row, imputed, relative to the centre."""
        if self.category_weights:
            row = row[: -len(self.category_weights)]
        if self.imputed_values:
            # Only NaN differs from itself.
            row = [
                x if x == x else i
                for x, i in zip(row, self.imputed_values, strict=True)
            ]
        if self.centers:
            row = list(map(sub, row, self.centers))
        return row

    def _weights(self, row: Sequence[float], position: int) -> Iterator[float]:
        """Yield what each categorical feature adds to one raw score; a missing category adds 0."""
        codes = row[-len(self.category_weights) :]
        for weights, code in zip(self.category_weights, codes, strict=True):
            yield weights[position][int(code)] if code == code else 0.0

    def _batch_weights(self, codes: Matrix, position: int) -> Iterator[Vector]:
        """Yield what `_weights` yields, for columns of codes."""
        import numpy as np

        for weights, column in zip(self.category_weights, codes.T, strict=True):
            # Index -1, the last weight, stands for a missing category.
            table = np.array([*weights[position], 0.0])
            yield table[np.where(np.isnan(column), -1, column).astype(np.intp)]


def _expit(z: float) -> tuple[float, float]:
    """Return the probabilities of two classes; neither sign of `z` overflows."""
    if z >= 0:
        p = 1 / (1 + exp(-z))
    else:
        odds = exp(z)
        p = odds / (1 + odds)
    return 1 - p, p


def _expit_of(z: Vector) -> Matrix:
    """Return what `_expit` returns for each value, shape (n_rows, 2)."""
    import numpy as np

    odds = exp_of(-np.abs(z))
    p = np.where(z >= 0, 1.0, odds) / (1 + odds)
    return np.column_stack([1 - p, p])


def _softmax(outputs: Sequence[float]) -> list[float]:
    highest = max(outputs)
    weights = [exp(output - highest) for output in outputs]
    total = add_up(weights)
    return [weight / total for weight in weights]


def _by_output(
    values: Sequence[float], n_outputs: int
) -> tuple[tuple[float, ...], ...]:
    length = len(values) // n_outputs
    return tuple(
        tuple(values[output * length : (output + 1) * length])
        for output in range(n_outputs)
    )


def _read_weights(
    message: model_artifact_pb2.LogisticRegression,
    n_categories: Sequence[int],
    n_outputs: int,
) -> Iterator[tuple[tuple[float, ...], ...]]:
    if len(message.category_weights) != len(n_categories):
        raise ArtifactCorrupt(
            f"logistic_regression.category_weights has {len(message.category_weights)} messages; "
            f"the {len(n_categories)} categorical features need one each"
        )
    for position, length in enumerate(n_categories):
        values = message.category_weights[position].values
        _check(f"category_weights[{position}].values", values, [n_outputs * length])
        yield _by_output(values, n_outputs)


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
