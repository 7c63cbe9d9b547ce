"""Short texts for messages: lists that are cut, choices, and the first line of an error."""

from collections.abc import Iterable
from typing import TextIO

MAX_SHOWN = 10
SHORT_ESCAPES = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def escape(text: str) -> str:
    """Replace the characters that do not show, such as the end of a line, by their escapes.

    Parameters
    ----------
    text : str
        Text that somebody else wrote, such as a column's name.

    Returns
    -------
    str
        One line, which no terminal takes for a command. The escapes are those of TOML and Python.
    """
    return "".join(
        character if character.isprintable() else _escape_character(character)
        for character in text
    )


def shorten(text: str, n_characters: int) -> str:
    """Return a text that somebody else wrote as one line of at most so many characters.

    The characters that do not show are escaped, see `escape`.
    """
    # An escape takes one character or more, so the rest would not be shown.
    shown = escape(text[: n_characters + 1])
    return shown if len(shown) <= n_characters else shown[: n_characters - 1] + "…"


def _escape_character(character: str) -> str:
    code = ord(character)
    long = f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return SHORT_ESCAPES.get(character, long)


def shorten_list(items: Iterable[object], n_items: int | None = None) -> str:
    """Join the first few items, and count the rest.

    Parameters
    ----------
    items : iterable
        Items to show; the first `MAX_SHOWN` are enough if `n_items` is given.
    n_items : int, optional
        How many there are in all; by default they are counted.

    Returns
    -------
    str
        Such as "a, b and 3 more".
    """
    texts = [str(item) for item in items]
    n_more = (len(texts) if n_items is None else n_items) - MAX_SHOWN
    more = f" and {n_more} more" if n_more > 0 else ""
    return ", ".join(texts[:MAX_SHOWN]) + more


def quote_list(names: Iterable[object]) -> str:
    """Join the first few names in quotes, so that spaces at their ends show, and count the rest."""
    return shorten_list([repr(str(name)) for name in names])


def join_choices(choices: Iterable[object]) -> str:
    """Join two or more choices, such as "a, b or c"."""
    *others, last = map(str, choices)
    return f"{', '.join(others)} or {last}"


def escape_unshowable(streams: Iterable[TextIO]) -> None:
    """Let streams, in place, escape the characters that they cannot show, instead of failing."""
    for stream in streams:
        # Another program may have put a stream of its own in place, which shows everything.
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text; if it has none, the name of its class."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
