"""The series of one model: its features, bins and classes, with their labels.

Knows no model, whose package imports gRPC: the supervisor shows the series too.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prediction_common.stability import MAX_CALIBRATION_ERROR

MISSING, OTHER, LAST = "missing", "other", "+Inf"
# With more classes, the expected outcomes keep the diagonal only.
MAX_SQUARE_CLASSES = 20
# Classes with series of their own; the others share one.
MAX_CLASSES = 50
MAX_LABEL_CHARACTERS = 128


@dataclass(frozen=True, slots=True)
class BinnedFeature:
    """The series of one feature.

    Parameters
    ----------
    label : str
        Value of the label `feature`.
    bins : tuple of str
        Values of the label `bin`, unique.
    shares : tuple of float
        Share of each bin in the reference.
    """

    label: str
    bins: tuple[str, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """The series of one model.

    Parameters
    ----------
    version : str
        Version of the model; empty if it does not come from a registry.
    family : str
        Family of the model.
    features : tuple of BinnedFeature
        Those whose bins are counted.
    others : tuple of BinnedFeature
        Those of which the index is shown.
    scores : BinnedFeature
        Bins of the score.
    fine_bins : tuple of str
        Bins from which the ROC AUC is estimated; empty with more than two classes.
    classes : tuple of str
        Classes with series of their own, and "other" if there are more.
    is_square : bool
        Whether each pair of a predicted and an actual class is counted, not only the equal ones.
    calibration_error : float or None
        Expected calibration error of the model, [0, 1]; None if it is unknown.
    """

    version: str
    family: str
    features: tuple[BinnedFeature, ...]
    others: tuple[BinnedFeature, ...]
    scores: BinnedFeature
    fine_bins: tuple[str, ...]
    classes: tuple[str, ...]
    is_square: bool
    calibration_error: float | None

    @property
    def doubt(self) -> str:
        """Why the expected outcomes are no estimate of the true ones; empty if they are."""
        if self.calibration_error is None:
            return "calibration_unknown"
        # A reader of this text must not be able to take NaN for a small error.
        if not self.calibration_error <= MAX_CALIBRATION_ERROR:
            return "not_calibrated"
        return ""


def make_labels(texts: Iterable[str], taken: Iterable[str] = ()) -> tuple[str, ...]:
    """Return a label value for each text: short, and no two the same.

    Parameters
    ----------
    texts : iterable of str
        Any texts.
    taken : iterable of str
        Values that stand for something else.

    Returns
    -------
    tuple of str
        The texts, shortened to `MAX_LABEL_CHARACTERS`; a number follows those that would be equal
        to another.
    """
    seen = set(taken)
    labels = []
    for text in texts:
        label, number = text[:MAX_LABEL_CHARACTERS], 2
        while label in seen:
            label = f"{text[:MAX_LABEL_CHARACTERS]}~{number}"
            number += 1
        seen.add(label)
        labels.append(label)
    return tuple(labels)


def name_numbers(edges: Sequence[float]) -> tuple[str, ...]:
    """Return the labels of the bins between edges: the upper edge of each."""
    short = [f"{edge:.6g}" for edge in edges]
    if len(set(short)) != len(short):
        short = [repr(edge) for edge in edges]
    return (*short, LAST)
