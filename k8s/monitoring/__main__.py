"""`make monitoring`: writes the dashboards and rules, which are committed and checked.

PYTHONPATH=k8s python -m monitoring FOLDER [--runbook URL]
"""

import argparse
import sys
from pathlib import Path

from monitoring import prometheus
from monitoring.boards import list_boards
from monitoring.grafana import write_board


def list_files(runbook: str) -> dict[str, str]:
    """Return the text of each file by its path within the component.

    Parameters
    ----------
    runbook : str
        Address of the page that the alerts link to.
    """
    groups = prometheus.list_groups()
    files = {
        "prometheus-rule.yaml": prometheus.write_resource(groups, runbook),
        "rules.yaml": prometheus.write_rules(groups, runbook),
    }
    for board in list_boards():
        files[f"dashboards/{board.uid}.json"] = write_board(board)
    return files


def main(arguments: list[str]) -> int:
    """Write the files below a folder, and return the exit code."""
    parser = argparse.ArgumentParser(prog="monitoring", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runbook", default=prometheus.RUNBOOK)
    options = parser.parse_args(arguments)
    for name, text in list_files(options.runbook).items():
        path: Path = options.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
