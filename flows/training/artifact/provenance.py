"""What made a model: the code's version and the libraries'."""

import subprocess
from importlib.metadata import version
from pathlib import Path

# Those whose version changes what a fitted model answers.
LIBRARIES = ("lightgbm", "numpy", "pandas", "scikit-learn", "scipy")


def find_code_version(folder: Path) -> str:
    """Return the git commit of `folder`, with "-dirty" if changed, or "" if there is no git."""
    command = [
        "git",
        "-C",
        str(folder),
        "describe",
        "--always",
        "--abbrev=40",
        "--dirty",
    ]
    command += ["--exclude", "*"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


def find_library_versions() -> dict[str, str]:
    """Return the installed version of each library that a model depends on."""
    return {name: version(name) for name in LIBRARIES}
