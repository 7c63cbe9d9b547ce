"""Reads the settings from the command line and the environment, and shows them."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NoReturn

from grpc_server.errors import SettingsError
from grpc_server.service_links import drop_links
from grpc_server.settings.all_settings import Settings
from grpc_server.settings.setting import ENV_PREFIX, Setting, list_settings


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A parsed command line.

    Parameters
    ----------
    settings : Settings
        Effective settings.
    origins : mapping of str to str
        Origin of each value by the setting's name: a flag, a variable or "default".
    print_settings : bool
        Whether to print the settings and exit.
    n_service_links : int
        Number of variables with the prefix that are Kubernetes' service links, and no settings.
    """

    settings: Settings
    origins: Mapping[str, str]
    print_settings: bool
    n_service_links: int = 0


class _Parser(argparse.ArgumentParser):
    """A parser that raises a SettingsError of one line."""

    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; see --help")


def _build_parser(settings: Sequence[Setting]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m grpc_server",
        description="Serve one registered model over gRPC.",
        epilog=f"Each flag is an environment variable too: --port is {ENV_PREFIX}PORT.",
        allow_abbrev=False,
    )
    for one in settings:
        if one.is_switch:
            parser.add_argument(
                one.flag,
                action=argparse.BooleanOptionalAction,
                default=None,
                help=one.help_text,
            )
        else:
            parser.add_argument(one.flag, metavar=one.name.upper(), help=one.help_text)
    parser.add_argument(
        "--print-settings",
        action="store_true",
        help="print the value and the origin of every setting, and exit",
    )
    return parser


def _check_names(settings: Sequence[Setting], environ: Mapping[str, str]) -> None:
    known = [one.variable for one in settings]
    unknown = sorted(name for name in environ if name not in known)
    if unknown:
        raise SettingsError(
            f"environment variable {unknown[0]!r} is not a setting; known are {', '.join(known)}"
        )


def _find_value(
    one: Setting, given: str | bool | None, environ: Mapping[str, str]
) -> tuple[Any, str]:
    """Return a setting's value and its origin."""
    if isinstance(given, bool):
        return given, one.flag
    if given is not None:
        return one.read(given, one.flag), one.flag
    if one.variable in environ:
        return one.read(environ[one.variable], one.variable), one.variable
    return one.default, "default"


def parse_command_line(
    arguments: Sequence[str], environ: Mapping[str, str]
) -> CommandLine:
    """Read the settings from flags, environment and defaults, in this order.

    Parameters
    ----------
    arguments : sequence of str
        Command line without the program's name.
    environ : mapping of str to str
        Environment; names with the prefix ``PREDICTION_`` are settings, unless they are service
        links of Kubernetes.

    Returns
    -------
    CommandLine
        The settings and their origins.

    Raises
    ------
    SettingsError
        If a flag or variable is unknown, or a value is not allowed.
    """
    settings = list_settings(Settings)
    given = vars(_build_parser(settings).parse_args(arguments))
    environ, n_links = drop_links(environ, ENV_PREFIX)
    _check_names(settings, environ)
    found = {one.name: _find_value(one, given[one.name], environ) for one in settings}
    return CommandLine(
        Settings(**{name: value for name, (value, _) in found.items()}),
        {name: origin for name, (_, origin) in found.items()},
        given["print_settings"],
        n_links,
    )


def describe(settings: Settings, origins: Mapping[str, str]) -> str:
    """Format the settings for people.

    Parameters
    ----------
    settings : Settings
        Settings of the server.
    origins : mapping of str to str
        Origin of each value by the setting's name.

    Returns
    -------
    str
        One line per setting: its name, value and origin.
    """
    rows = [
        (f.name, str(getattr(settings, f.name)), origins[f.name])
        for f in fields(settings)
    ]
    name_width = max(len(name) for name, _, _ in rows)
    value_width = max(len(value) for _, value, _ in rows)
    return "\n".join(
        f"{n:{name_width}}  {v:{value_width}}  {origin}" for n, v, origin in rows
    )
