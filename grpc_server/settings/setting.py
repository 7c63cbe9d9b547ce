"""One setting: how its flag, its variable, its bounds and its error belong together.

    max_streams: int = setting(1024, integer(1, 100_000), "most open streams")

    flag       --max-streams, which takes precedence over
    variable   PREDICTION_MAX_STREAMS, which takes precedence over
    default    1024
    bounds     integer(1, 100_000): it parses a text, or says in a ValueError what is allowed
    error      --max-streams: '0' is not an integer in [1, 100000]
    help       most open streams (default: 1024)

They follow from such a field of a group, which is a frozen dataclass. Nobody makes a group by
itself or compares it. So it leaves out the methods for that: to generate them takes time at a
start.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from grpc_server.errors import SettingsError
from grpc_server.settings.values import boolean

ENV_PREFIX = "PREDICTION_"

T = TypeVar("T")


def setting(default: T, parse: Callable[[str], T], help: str) -> T:
    """Make a field of a group of settings.

    Parameters
    ----------
    default : T
        Value if neither a flag nor a variable gives one.
    parse : callable
        Makes a value of a text; its ValueError says what is allowed, as in "is not an integer".
    help : str
        Text of ``--help``, without the default.

    Returns
    -------
    T
        The field, which the dataclass replaces by its value.
    """
    return field(default=default, metadata={"parse": parse, "help": help})


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Setting:
    """A setting by its name.

    Parameters
    ----------
    name : str
        Name of the field.
    default, parse, help
        As in `setting`.
    """

    name: str
    default: Any
    parse: Callable[[str], Any]
    help: str

    @property
    def flag(self) -> str:
        """Flag of the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Variable of the environment."""
        return ENV_PREFIX + self.name.upper()

    @property
    def is_switch(self) -> bool:
        """Whether its flag has no value, and a twin that begins with ``--no-``."""
        return self.parse is boolean

    @property
    def help_text(self) -> str:
        """Text of ``--help``."""
        if self.default in (None, ""):
            return self.help
        return f"{self.help} (default: {self.default})"

    def read(self, text: str, origin: str) -> Any:
        """Parse a text.

        Parameters
        ----------
        text : str
            Text of the value.
        origin : str
            Where it comes from: the flag or the variable.

        Returns
        -------
        Any
            The value.

        Raises
        ------
        SettingsError
            If the text is not allowed.
        """
        try:
            return self.parse(text)
        except ValueError as error:
            raise SettingsError(f"{origin}: {text!r} is not {error}") from None


def list_settings(group: type) -> tuple[Setting, ...]:
    """Return the settings of a group, in the order of ``--help``."""
    return tuple(
        Setting(one.name, one.default, one.metadata["parse"], one.metadata["help"])
        for one in fields(group)
    )
