"""`make bench`: train as a user does, then measure the flow and the server on this machine."""

import tempfile
from pathlib import Path

from benchmarks import flow, loading, serving


def main() -> None:
    """Run every benchmark and print its table."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        model_dirs = flow.report(Path(folder))
        loading.report(Path(folder))
        serving.report(model_dirs)


if __name__ == "__main__":
    main()
