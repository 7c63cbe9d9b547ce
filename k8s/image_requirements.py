"""Prints the requirements of an image, as setup.cfg and the client's pyproject.toml declare them.

Knows no versions, which constraints.txt holds. `make lock-images` locks what it prints.
"""

import argparse
import re
import sys
import tomllib
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def read_group(setup: ConfigParser, group: str) -> list[str]:
    """Return the requirements of a group.

    Parameters
    ----------
    setup : ConfigParser
        Content of setup.cfg.
    group : str
        Name of an extra, or ``install_requires``.

    Returns
    -------
    list of str
        Requirements such as ``grpcio >=1.84.2,<1.86``.

    Raises
    ------
    configparser.NoOptionError
        If setup.cfg has no such group.
    """
    section = "options" if group == "install_requires" else "options.extras_require"
    return [line for line in setup.get(section, group).splitlines() if line]


def name_of(requirement: str) -> str:
    """Return the name of the package in a requirement."""
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower()


def collect(root: Path, groups: list[str], without: list[str]) -> list[str]:
    """Collect the requirements of groups and of the client.

    Parameters
    ----------
    root : Path
        Root of the project.
    groups : list of str
        As in `read_group`.
    without : list of str
        Names of packages to leave out.

    Returns
    -------
    list of str
        Requirements, sorted, each once.
    """
    setup = ConfigParser()
    setup.read_string((root / "setup.cfg").read_text())
    client = tomllib.loads((root / "clients/python/pyproject.toml").read_text())
    requirements = list(client["project"]["dependencies"])
    for group in groups:
        requirements += read_group(setup, group)
    return sorted({item for item in requirements if name_of(item) not in without})


def main(arguments: list[str]) -> int:
    """Run the program and return its exit code."""
    parser = argparse.ArgumentParser(description="Print the requirements of an image.")
    parser.add_argument("groups", nargs="+", help="install_requires, or an extra")
    parser.add_argument("--without", nargs="*", default=[], help="names to leave out")
    given = parser.parse_args(arguments)
    print("\n".join(collect(ROOT, given.groups, given.without)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
