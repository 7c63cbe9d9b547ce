"""Which signatures of models the server accepts; `model.signature` checks them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Trust:
    """The keys that may sign a model, and the model that they may sign.

    Parameters
    ----------
    keys_file : Path
        File of public keys in PEM, which is read for every check.
    model_name : str
        Registered model that a signature must name; empty for any.
    since_seconds : float
        Models that were made before are refused; seconds since the epoch.
    """

    keys_file: Path
    model_name: str = ""
    since_seconds: float = 0.0

    def to_arguments(self) -> tuple[str, str, str]:
        """Return it as arguments of a command line."""
        return str(self.keys_file), self.model_name, repr(self.since_seconds)

    @classmethod
    def from_arguments(cls, arguments: Sequence[str]) -> "Trust | None":
        """Read what `to_arguments` returned; None without arguments."""
        if not arguments:
            return None
        keys_file, model_name, since_seconds = arguments
        return cls(Path(keys_file), model_name, float(since_seconds))
