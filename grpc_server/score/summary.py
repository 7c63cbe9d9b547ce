"""What the scored rows and their answers were: counts that add up over parts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from grpc_server.model import LoadedModel
from grpc_server.model.arrays import Mask, Matrix, Vector
from grpc_server.model.reference import FeatureBins
from prediction_common.stability import index_stability

# Rows of a piece whose columns are counted, evenly spread: counting all would take a tenth of the
# time. All scores are counted.
_SAMPLED_ROWS = 1_024


@dataclass(slots=True)
class Counts:
    """Counts that add up.

    Attributes
    ----------
    labels : list of int
        Rows of each predicted class.
    scores : list of int
        Rows in each bin of the score; empty without a reference.
    bins : list of list of int
        Rows of the sample in each bin of each feature of the reference.
    """

    labels: list[int]
    scores: list[int]
    bins: list[list[int]]

    @classmethod
    def empty(cls, model: LoadedModel) -> Self:
        """Return counts of nothing."""
        reference = model.reference
        labels = [0] * len(model.classes.labels)
        if reference is None:
            return cls(labels, [], [])
        bins = [[0] * len(each.shares) for each in reference.features]
        return cls(labels, [0] * len(reference.score_shares), bins)

    @classmethod
    def decode(cls, values: Mapping[str, Any]) -> Self:
        """Return what `encode` returned."""
        return cls(values["labels"], values["scores"], values["bins"])

    def encode(self) -> dict[str, Any]:
        """Return values that JSON can hold."""
        return {"labels": self.labels, "scores": self.scores, "bins": self.bins}

    def add(self, other: "Counts") -> None:
        """Add the counts of other rows."""
        _add(self.labels, other.labels)
        _add(self.scores, other.scores)
        for mine, more in zip(self.bins, other.bins, strict=True):
            _add(mine, more)


class Summarizer:
    """Counts rows in the bins of the model's reference.

    Parameters
    ----------
    model : LoadedModel
        The model.
    """

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self._reference = model.reference
        self._lookups = [
            _make_lookup(bins)
            for bins in (self._reference.features if self._reference else ())
        ]

    def count(
        self,
        counts: Counts,
        columns: Sequence[Vector],
        scored: Mask,
        probabilities: Matrix,
        positions: Any,
    ) -> None:
        """Count rows.

        Parameters
        ----------
        counts : Counts
            Is added to.
        columns : sequence of ndarray of float64, shape (n_rows,)
            The encoded columns.
        scored : ndarray of bool, shape (n_rows,)
            The rows to count.
        probabilities : ndarray of float64, shape (n_rows, n_classes)
            Their answers.
        positions : ndarray of int, shape (n_rows,)
            Their classes.
        """
        n_classes = probabilities.shape[1]
        _add(
            counts.labels, np.bincount(positions[scored], minlength=n_classes).tolist()
        )
        reference = self._reference
        if reference is None:
            return
        scores = probabilities[:, 1] if n_classes == 2 else probabilities.max(axis=1)
        found = np.searchsorted(reference.score_edges, scores[scored])
        _add(counts.scores, np.bincount(found, minlength=len(counts.scores)).tolist())
        sample = scored.nonzero()[0]
        sample = sample[:: -(-len(sample) // _SAMPLED_ROWS) or 1]
        for mine, bins, lookup in zip(
            counts.bins, reference.features, self._lookups, strict=True
        ):
            found = _find_bins(bins, lookup, columns[bins.position][sample])
            _add(mine, np.bincount(found, minlength=len(mine)).tolist())


def summarize(model: LoadedModel, counts: Counts) -> dict[str, Any]:
    """Return counts by label, and how far the rows are from those of training.

    Parameters
    ----------
    model : LoadedModel
        The model.
    counts : Counts
        Counts of all rows.

    Returns
    -------
    dict
        "labels", rows by label; and with a reference and a row: "scores", rows by bin with its
        upper edge; and "stability", the population stability index of the score and of each
        watched column.
    """
    labels = dict(zip(model.classes.labels, counts.labels, strict=True))
    summary: dict[str, Any] = {"labels": labels}
    reference = model.reference
    if reference is None or not sum(counts.labels):
        return summary
    indices = {"score": index_stability(counts.scores, reference.score_shares)}
    for bins, found in zip(reference.features, counts.bins, strict=True):
        name = bins.feature.name
        indices[
            f"column {name}" + (f" ({bins.part_name})" if bins.part_name else "")
        ] = index_stability(found, bins.shares)
    summary["scores"] = {
        "edges": list(reference.score_edges),
        "rows": counts.scores,
        "reference_shares": list(reference.score_shares),
    }
    summary["stability"] = indices
    return summary


def _make_lookup(bins: FeatureBins) -> Any:
    """Return the bin of each category by its position; None for numbers."""
    if bins.bin_of_category is None:
        return None
    numbers = bins.bin_of_category
    n_known = int(max(numbers, default=-1.0)) + 1
    other = len(numbers)
    return np.array(
        [numbers.get(float(code), other) for code in range(n_known)] + [other]
    )


def _find_bins(bins: FeatureBins, lookup: Any, values: Vector) -> Any:
    """Return the bin of each value; the last one is for missing values."""
    is_gap = np.isnan(values)
    if lookup is not None:
        codes = np.where(is_gap, 0, values).astype(np.int64)
        found = lookup[np.minimum(codes, len(lookup) - 1)]
    else:
        if bins.part is not None:
            values = np.asarray(bins.part(np.where(is_gap, 0.0, values)))
        found = np.searchsorted(bins.edges, np.where(is_gap, 0.0, values))
    return np.where(is_gap, len(bins.shares) - 1, found)


def _add(mine: list[int], more: Sequence[int]) -> None:
    for number, value in enumerate(more):
        mine[number] += value
