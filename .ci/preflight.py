"""Names what the system lacks before anything is installed; runs on any Python 3."""

import ctypes
import importlib.util
import sys

LOWEST, TOO_HIGH = (3, 11), (3, 14)


def find_problems():  # type: ignore[no-untyped-def]  # has to parse on any Python 3
    """Return one sentence per thing that is missing, each with its remedy."""
    problems = []
    if not LOWEST <= sys.version_info[:2] < TOO_HIGH:
        problems.append(
            "Python 3.11, 3.12 or 3.13 is needed, %s is %d.%d; name another with "
            "`make PYTHON=python3.12 ...`" % ((sys.executable,) + sys.version_info[:2])
        )
    if (
        importlib.util.find_spec("venv") is None
        or importlib.util.find_spec("ensurepip") is None
    ):
        problems.append(
            "Python's venv module is missing; Debian and Ubuntu: apt-get install python3-venv"
        )
    if sys.platform.startswith("linux"):
        try:
            ctypes.CDLL("libgomp.so.1")
        except OSError:
            problems.append(
                "the library libgomp.so.1 is missing, which LightGBM needs; "
                "Debian and Ubuntu: apt-get install libgomp1"
            )
    return problems


if __name__ == "__main__":
    sys.exit("\n".join("error: " + problem for problem in find_problems()) or None)
