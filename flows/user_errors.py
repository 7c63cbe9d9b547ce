"""Mistakes that the user can correct, as both flows tell them."""

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from metaflow.exception import MetaflowException


class UserError(MetaflowException):
    """A mistake that the user can correct. Metaflow prints its message without a traceback."""

    headline = "The run stops here"


def parse_toml(text: str) -> dict[str, Any]:
    """Parse a configuration file."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"a file of --config is not TOML: {error}") from None


@contextmanager
def one_line_errors(*others: type[Exception]) -> Iterator[None]:
    """Turn an error that training foresees, or one of `others`, into one line of Metaflow's."""
    from training.errors import TrainingError
    from training.text import escape

    foreseen: tuple[type[Exception], ...] = (TrainingError, *others)
    try:
        yield
    except foreseen as error:
        # Names of files and cells are other people's; a terminal may take them for commands.
        raise UserError(escape(str(error))) from None
