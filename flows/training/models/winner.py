"""What a run fits at the end: its best candidate, or the mean of several."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from training.models.class_labels import CLASS_WEIGHT
from training.models.families import ENSEMBLE
from training.models.search_values import SearchResult


@dataclass(frozen=True, slots=True)
class Member:
    """A candidate that the final model is made of.

    Parameters
    ----------
    family : str
        Name of its family.
    params : mapping of str to object
        Parameters by the classifier's own names.
    score : float
        Its mean score over the folds.
    count : int
        How often it counts in the mean, 1 or more.
    """

    family: str
    params: Mapping[str, Any]
    score: float
    count: int = 1


@dataclass(frozen=True, slots=True)
class Winner:
    """What a run fits at the end.

    Parameters
    ----------
    members : tuple of Member
        One candidate, or those whose probabilities are averaged; the best alone comes first.
    best_score : float
        Mean score over the folds, of the mean if there are several members.
    note : str
        A line about the choice of an ensemble; empty if none was asked for.
    """

    members: tuple[Member, ...]
    best_score: float
    note: str = ""

    @property
    def is_ensemble(self) -> bool:
        """Whether several candidates are averaged."""
        return len(self.members) > 1

    @property
    def family(self) -> str:
        """Name of the family; "ensemble" if several candidates are averaged."""
        return ENSEMBLE.name if self.is_ensemble else self.members[0].family

    @property
    def best_params(self) -> Mapping[str, Any]:
        """Parameters of the candidate that is best alone."""
        return self.members[0].params

    @property
    def counts(self) -> tuple[int, ...]:
        """How often each member counts."""
        return tuple(member.count for member in self.members)

    @property
    def class_weight(self) -> Any:
        """The weights by class of the first member that has any, else None."""
        weights = (member.params.get(CLASS_WEIGHT) for member in self.members)
        return next((weight for weight in weights if weight is not None), None)


def make_single(result: SearchResult, note: str = "") -> Winner:
    """Return the best candidate of a search as the winner."""
    member = Member(result.family, result.best_params, result.best_score)
    return Winner((member,), result.best_score, note)
