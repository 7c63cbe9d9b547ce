"""Mistakes that a user can mend; each message is one line that says what to change.

TrainingError
 ├─ DataError       the table cannot be read, or nothing can be learned from it
 ├─ SearchError     the grid, the scoring or every candidate of a search is no good
 ├─ ArtifactError   the fitted model cannot be written so that it answers the same when read
 └─ RegistryError   MLflow is not reached, or refuses
"""


class TrainingError(Exception):
    """Any mistake or fault that training foresees."""


class DataError(TrainingError):
    """The table cannot be read, or nothing can be learned from it."""


class SearchError(TrainingError):
    """The grid, the scoring or every candidate of a search is no good."""


class ArtifactError(TrainingError):
    """The fitted model cannot be written so that it answers the same when read."""


class RegistryError(TrainingError):
    """MLflow is not reached, or refuses."""
