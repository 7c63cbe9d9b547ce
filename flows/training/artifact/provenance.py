"""Where a model comes from: the run, the data, and the versions of code and libraries."""

import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

# The versions of these libraries change the predictions of a fitted model.
LIBRARIES = ("lightgbm", "numpy", "pandas", "scikit-learn", "scipy")


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a model comes from.

    Parameters
    ----------
    training_run_id : str
        Name of the flow and number of the run.
    data_sha256 : str
        SHA-256 of the data set in lower-case hexadecimal digits.
    code_version : str
        Git commit; may be empty.
    library_versions : dict of str to str
        Versions of the libraries that fitted the model, by name.
    metrics : dict of str to float
        Metrics by name.
    create_time : datetime
        Time of the fit, with its time zone.
    """

    training_run_id: str
    data_sha256: str
    code_version: str
    library_versions: dict[str, str]
    metrics: dict[str, float]
    create_time: datetime = field(default_factory=lambda: datetime.now(UTC))


def find_code_version(folder: Path) -> str:
    """Return the git commit of a folder.

    Parameters
    ----------
    folder : Path
        Folder of the code.

    Returns
    -------
    str
        40 hexadecimal digits, with "-dirty" if files were changed; empty if there is no git.
    """
    command = ["git", "-C", str(folder), "describe", "--always"]
    command += ["--abbrev=40", "--dirty", "--exclude", "*"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


def find_library_versions() -> dict[str, str]:
    """Return the installed version of each library that a model depends on, by name."""
    return {name: version(name) for name in LIBRARIES}
