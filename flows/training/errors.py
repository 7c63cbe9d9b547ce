"""Mistakes that a user can correct. Each message is one line that says what to change.

TrainingError
 ├─ DataError       the table cannot be read, or no classifier can learn from it
 ├─ SearchError     a grid, the scoring or the threshold is wrong, or no candidate has a score
 ├─ ArtifactError   the artifact would not answer as the fitted model does
 ├─ SigningError    the key that signs models cannot be used
 ├─ RegistryError   MLflow is not reached, or refuses
 └─ SignalError     what a server exports does not say whether a model has to be trained again
"""


class TrainingError(Exception):
    """A mistake or a fault that training foresees."""


class DataError(TrainingError):
    """The table cannot be read, or no classifier can learn from it."""


class SearchError(TrainingError):
    """A grid, the scoring or the threshold is wrong, or no candidate has a score."""


class ArtifactError(TrainingError):
    """The artifact would not answer as the fitted model does."""


class SigningError(TrainingError):
    """The key that signs models cannot be used."""


class RegistryError(TrainingError):
    """MLflow is not reached, or refuses."""


class SignalError(TrainingError):
    """What a server exports does not say whether a model has to be trained again."""
